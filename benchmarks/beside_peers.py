"""Trains JAX-CORL's program and ours on the same file, and writes both curves into one table.

The peer's file runs as it is, with its own data handling, networks and loop. Only what cannot be installed
today, or needs a network, has a stand-in: d4rl gives the rows of the file, gym is Gymnasium with the episodes
of our evaluations, wandb collects the scores, and omegaconf gives the settings. Both programs get the same
widths, learning rates, hyperparameters and number of updates (`PEERS`).

What stays different: JAX-CORL draws the first parameters of its targets anew instead of copying those of Q,
and its Gaussians' means are not squashed. Its XQL and TD3+BC take an end by a time limit for a terminal. Its
TD3+BC has layer norm in Q, so ours has it here, too.

Example:
  git clone https://github.com/nissymori/JAX-CORL
  pip install distrax tfp-nightly pydantic
  python benchmarks/beside_peers.py --peer=JAX-CORL --env_name=Hopper-v5 --dataset=hopper.hdf5 \
      --method=iql --max_steps=60000 --num_seeds=3 --output=iql.csv
"""

import csv
import runpy
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium
import h5py
import numpy as np
from absl import app, flags

import xql_jax
from xql_jax.rollout.evaluation import episode_seed
from xql_jax.rollout.scores import mean_and_interval
from xql_jax.runs.run_settings import EVALUATION_SEED

# By our name: the peer's file, its settings, and ours. Both decay the actor's rate over the updates.
IQL = {"expectile": 0.7, "beta": 3.0, "layer_norm": False}
XQL = {"loss_temp": 2.0, "beta": 3.0, "max_clip": 7.0, "layer_norm": True}
RATES = {"actor_lr": 3e-4, "critic_lr": 3e-4}
PEERS: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "iql": ("iql.py", {**IQL, **RATES}, {"expectile": 0.7, "awr_temperature": 3.0}),
    "xql": ("xql.py", {**XQL, **RATES}, {"beta": 2.0, "awr_temperature": 3.0, "clip": 7.0}),
    "td3_bc": ("td3bc.py", {"alpha": 2.5, **RATES}, {"q_weight": 2.5, "critic_layer_norm": True, **RATES}),
}
UNROLLED = 8  # updates in a call of the peer's

flags.DEFINE_string("peer", None, "A clone of JAX-CORL.", required=True)
flags.DEFINE_enum("method", "iql", list(PEERS), "The method.")
flags.DEFINE_string("env_name", "Hopper-v5", "Gymnasium's environment that the data are from.")
flags.DEFINE_string("dataset", None, "HDF5 file in D4RL's layout, with next_observations.", required=True)
flags.DEFINE_integer("max_steps", 60_000, "Updates.", lower_bound=UNROLLED)
flags.DEFINE_integer("eval_interval", 10_000, "Updates between evaluations.", lower_bound=UNROLLED)
flags.DEFINE_integer("eval_episodes", 20, "Episodes of each evaluation.", lower_bound=1)
flags.DEFINE_integer("num_seeds", 3, "Seeds, from 0.", lower_bound=1)
flags.DEFINE_string("save_dir", "results", "Where our run is kept; the same command goes on with it.")
flags.DEFINE_string("output", "beside_peers.csv", "The table: program, seed, updates and score.")
FLAGS = flags.FLAGS


def main() -> int:
    file, theirs, ours = PEERS[FLAGS.method]
    policy = xql_jax.train(
        FLAGS.env_name,
        dataset=FLAGS.dataset,
        method=FLAGS.method,
        max_steps=FLAGS.max_steps,
        seed=0,
        num_seeds=FLAGS.num_seeds,
        eval_interval=FLAGS.eval_interval,
        eval_episodes=FLAGS.eval_episodes,
        save_dir=FLAGS.save_dir,
        **ours,
    )
    with (policy.path / "evaluations.csv").open(newline="") as lines:
        ours_rows = [
            (int(row["seed"]), int(row["step"]), float(row["score"])) for row in csv.DictReader(lines)
        ]
    rows = [("xql_jax", *row) for row in ours_rows]
    score = policy.run.task.normalized_score
    for seed in range(FLAGS.num_seeds):
        for step, value in peer_scores(file, {**theirs, "seed": seed}, score):
            rows.append(("JAX-CORL", seed, step, value))
            print(f"JAX-CORL {FLAGS.method} seed {seed} update {step:,}: score {value:.1f}", flush=True)
    with Path(FLAGS.output).open("w", newline="") as table:
        writer = csv.writer(table, lineterminator="\n")
        writer.writerows(
            [("program", "seed", "step", "score"), *((*row[:3], f"{row[3]:.4g}") for row in rows)]
        )
    for step in sorted({row[2] for row in rows}):
        each = []
        for program in ("xql_jax", "JAX-CORL"):
            scores = np.array([row[3] for row in rows if (row[0], row[2]) == (program, step)])
            mean, half = mean_and_interval(scores)
            each.append(f"{program} {mean:.1f} ± {half:.1f} ({', '.join(f'{one:.1f}' for one in scores)})")
        print(f"update {step:,}: {'; '.join(each)}")
    return 0


def peer_scores(file: str, settings: dict[str, Any], score: Any) -> Iterator[tuple[int, float]]:
    """Runs the peer's program, and yields its updates and scores as it logs them."""
    settings |= {name: getattr(FLAGS, name) for name in ("max_steps", "eval_interval", "eval_episodes")}
    settings |= {"env_name": FLAGS.env_name, "n_jitted_updates": UNROLLED, "log_interval": 10**9}
    logged: list[tuple[int, float]] = []
    stand_ins = {
        "d4rl": {"qlearning_dataset": lambda env: rows_of(FLAGS.dataset)},
        "gym": {"Env": object, "make": lambda name: Environment(name, score)},
        "omegaconf": {"OmegaConf": types.SimpleNamespace(from_cli=lambda: settings)},
        "wandb": {
            "init": lambda **_: None,
            "finish": lambda: None,
            "log": lambda row, step=None: logged.extend(
                (step * UNROLLED, float(value)) for value in row.values() if step is not None
            ),
        },
    }
    for name, content in stand_ins.items():
        module = types.ModuleType(name)
        vars(module).update(content)
        sys.modules[name] = module
    runpy.run_path(str(Path(FLAGS.peer) / "algos" / file), run_name="__main__")
    yield from logged


def rows_of(file: str) -> dict[str, np.ndarray]:
    """Returns the file's rows, each of which has its own next observation, so none is left out."""
    names = ("observations", "actions", "rewards", "next_observations", "terminals")
    with h5py.File(file) as data:
        return {name: data[name][:].astype(np.float32) for name in names}


class Environment:
    """Gymnasium's environment with gym's old interface, and with the same episodes in every evaluation."""

    def __init__(self, name: str, score: Any):
        self._env, self._score, self._episode = gymnasium.make(name), score, 0

    def reset(self) -> np.ndarray:
        seed = episode_seed(EVALUATION_SEED, self._episode % FLAGS.eval_episodes)
        self._episode += 1
        return self._env.reset(seed=seed)[0]

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, dict[str, Any]]:
        observation, reward, terminated, truncated, info = self._env.step(np.asarray(action))
        return observation, float(reward), terminated or truncated, info

    def get_normalized_score(self, value: float) -> float:
        return float(self._score(np.float64(value))) / 100


if __name__ == "__main__":
    app.run(lambda _: main())
