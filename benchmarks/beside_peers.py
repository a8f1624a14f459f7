"""Trains another program and ours on the same data, and compares their scores and their V.

Programs: nissymori/JAX-CORL (xql, iql, td3_bc, cql, awac), the authors' own learner in Div99/XQL (xql), and
seohongpark/fql (fql, and ifql as iql+flow); peers.py says how their files are run, and what stays different.
Both get the data after our preprocessing (clipped actions, scaled rewards, terminals that are no time-outs),
the same hyperparameters, and the same episodes of our environment, in which actions are deterministic. V is
the mean over 4,096 states of the data, in the data's reward units; if a method learns no V, min Q at the
policy's action. The same command goes on: our run resumes, and the peer trains what seeds the table lacks.

Example:
  git clone https://github.com/nissymori/JAX-CORL
  pip install distrax tfp-nightly pydantic
  python benchmarks/beside_peers.py --peer=JAX-CORL --method=iql --env_name=hopper-medium-replay-v2 \
      --dataset=hopper.hdf5 --max_steps=60000 --output=iql.csv
"""

import contextlib
import csv
import dataclasses
import hashlib
import io
import json
import math
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from absl import app, flags
from peers import PEERS, Method, Peer, Settings, peer_of

import xql_jax
from xql_jax import settings
from xql_jax.data.dataset import best_trajectories, drawn_rows, with_scaled_actions
from xql_jax.data.loading import load_dataset
from xql_jax.data.views import view_for
from xql_jax.envs import environment_maker
from xql_jax.errors import UserError
from xql_jax.files import write_atomically
from xql_jax.numerics.statistics import mean_and_interval
from xql_jax.policy import Policy
from xql_jax.rollout.acting import prepared
from xql_jax.rollout.evaluation import Evaluator
from xql_jax.runs.kinds import EVALUATION_SEED
from xql_jax.runs.load import Run

METHODS = sorted({name for peer in PEERS for name in peer.methods})
STATES = 4096  # of the data, over which V is averaged
NEAR = 0.05  # how near two means of V are, of the peer's

flags.DEFINE_string("peer", None, "A clone of JAX-CORL, XQL or fql.", required=True)
flags.DEFINE_enum("method", "xql", METHODS, "The method, by our name.")
flags.DEFINE_string("env_name", None, "The task.", required=True)
flags.DEFINE_string("dataset", None, "Data instead of the task's own, as xql-train-offline takes them.")
flags.DEFINE_multi_string(
    "set", [], "FIELD=VALUE: a setting of ours, which the peer gets, too, if it has it."
)
flags.DEFINE_bool(
    "time_outs_end",
    False,
    "Give the peer time-outs as terminals, as JAX-CORL's xql, td3_bc and awac take them.",
)
flags.DEFINE_integer("max_steps", 60_000, "Updates.", lower_bound=1)
flags.DEFINE_integer("eval_interval", 10_000, "Updates between evaluations.", lower_bound=1)
flags.DEFINE_integer("eval_episodes", 20, "Episodes of each evaluation.", lower_bound=1)
flags.DEFINE_integer("seed", 0, "First seed.")
flags.DEFINE_integer("num_seeds", 3, "Seeds.", lower_bound=1)
flags.DEFINE_string("save_dir", "results", "Where our run is kept.")
flags.DEFINE_string("output", "beside_peers.csv", "The table.")
FLAGS = flags.FLAGS


class Row(NamedTuple):
    """One evaluation."""

    program: str  # "ours" or "theirs"
    seed: int
    step: int  # updates
    score: float
    v: float
    settings: str  # a digest of all that the numbers of both programs depend on


def main() -> int:
    folder = Path(FLAGS.peer)
    peer = peer_of(folder)
    check_flags(folder, peer)
    method = peer.methods[FLAGS.method]
    policy = train_ours(method)
    run = policy.run
    theirs = method.settings(values_of(run))
    print(
        f"settings of {folder.name}: {', '.join(f'{name}={value}' for name, value in theirs.items())}",
        flush=True,
    )
    digest = digest_of(peer, theirs, run)
    path = Path(FLAGS.output)
    known = read(path)
    if any(row.settings != digest for row in known):
        raise UserError(f"--output={path}: its rows are of other settings: name another file")

    dataset = load_dataset(run.task, run.sources, run.unused_arrays)
    dataset = with_scaled_actions(dataset, run.fitted.action_bounds)
    states = dataset.batch.observations[drawn_rows(dataset.size, STATES, seed=0)]
    kept = best_trajectories(dataset, run.record.get("top_returns", 1.0))
    learned = view_for(run.learner, run.preprocessing.dataset(kept), run.horizon)
    if FLAGS.time_outs_end:
        masks = np.where(learned.ends, np.float32(0), learned.batch.masks)
        learned = dataclasses.replace(learned, batch=learned.batch._replace(masks=masks))

    rows = [row for row in known if row.program == "theirs" or row.seed not in run.seeds]
    rows += our_rows(policy, method, states, digest)
    write(path, rows)
    trained = {row.seed for row in known if row.program == "theirs"}
    for seed in run.seeds:
        if seed not in trained:
            learner = peer(folder, FLAGS.method, theirs, learned, seed)
            rows += their_rows(learner, run, states, seed, digest)
            write(path, rows)
    print_comparison([row for row in rows if row.seed in run.seeds])
    return 0


def check_flags(folder: Path, peer: type[Peer]) -> None:
    """Raises UserError if the program lacks the method, or the numbers of updates do not fit each other."""
    if FLAGS.method not in peer.methods:
        raise UserError(f"--method={FLAGS.method}: {folder} has {', '.join(peer.methods)}")
    for name, unit in (("eval_interval", peer.stride), ("max_steps", FLAGS.eval_interval)):
        if FLAGS[name].value % unit:
            raise UserError(f"--{name}={FLAGS[name].value}: must be a multiple of {unit}")


def train_ours(method: Method) -> Policy:
    """Trains our method, or goes on; with the peer's values of what it fixes, unless --set has others."""
    return xql_jax.train(
        FLAGS.env_name,
        dataset=FLAGS.dataset or (),
        method=FLAGS.method,
        max_steps=FLAGS.max_steps,
        seed=FLAGS.seed,
        num_seeds=FLAGS.num_seeds,
        eval_interval=FLAGS.eval_interval,
        eval_episodes=FLAGS.eval_episodes,
        checkpoint_interval=FLAGS.eval_interval,
        keep_checkpoints=0,
        save_dir=FLAGS.save_dir,
        **{**method.ours, **dict(map(parsed, FLAGS.set))},
    )


def parsed(text: str) -> tuple[str, Any]:
    """Returns the name and the value of FIELD=VALUE: JSON's number, list, true or false, or else a text."""
    name, equals, value = text.partition("=")
    if not equals:
        raise UserError(f"--set={text}: must be FIELD=VALUE")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


def values_of(run: Run) -> Settings:
    """Returns our settings and hyperparameters by name, with tuples for lists."""
    values = {**settings.values_of(run.learner), **run.identity, "max_steps": FLAGS.max_steps}
    return {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}


def digest_of(peer: type[Peer], theirs: Settings, run: Run) -> str:
    """Returns a digest of all that a row depends on but the seed."""
    ours = {
        name: value for name, value in run.identity.items() if name not in ("env_name", "seeds", "dataset")
    }
    data = run.record["dataset_fingerprint"]
    content = [peer.mark, FLAGS.method, theirs, ours, data, run.dataset, FLAGS.max_steps, FLAGS.time_outs_end]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:8]


def our_rows(policy: Policy, method: Method, states: np.ndarray, digest: str) -> Iterator[Row]:
    """Yields the evaluations of our run; V is from the checkpoint that each evaluation has."""
    evaluations = policy.path / "evaluations.csv"
    with evaluations.open(newline="") as lines:
        scores = {(int(row["step"]), int(row["seed"])): float(row["score"]) for row in csv.DictReader(lines)}
    for step in range(FLAGS.eval_interval, FLAGS.max_steps + 1, FLAGS.eval_interval):
        every = xql_jax.load_policy(policy.path / "checkpoints" / str(step))
        for seed in policy.run.seeds:
            one = every.select(seed=seed)
            v = one.value(states) if method.learns_v else one.q(states, one(states))
            yield Row("ours", seed, step, scores[step, seed], float(v.mean()), digest)


def their_rows(learner: Peer, run: Run, states: np.ndarray, seed: int, digest: str) -> Iterator[Row]:
    """Trains the peer's learner, and yields its evaluations, in the episodes of ours."""
    maker = environment_maker(run.task)
    evaluator = Evaluator(run.task, 1, FLAGS.eval_episodes, EVALUATION_SEED, maker=maker, checks_seeds=False)
    policy = prepared(lambda observations: learner.act(observations[0])[None], run.preprocessing)
    seen = run.preprocessing.observations(states)
    with contextlib.closing(evaluator):
        for step in range(FLAGS.eval_interval, FLAGS.max_steps + 1, FLAGS.eval_interval):
            begun = time.monotonic()
            learner.advance(FLAGS.eval_interval)
            v = float(learner.values(seen).mean() / run.preprocessing.reward_scale)
            speed = FLAGS.eval_interval / (time.monotonic() - begun)
            episodes = evaluator.run(policy)
            score = float(run.task.normalized_score(episodes.returns, episodes.successes).mean())
            print(
                f"theirs, seed {seed}, update {step:,}: score {score:.1f}, V {v:.4g}, {speed:.0f} updates/s"
            )
            yield Row("theirs", seed, step, score, v, digest)


def read(path: Path) -> list[Row]:
    """Returns the rows of the table, none if there is no file yet."""
    if not path.exists():
        return []
    with path.open(newline="") as lines:
        names, *rows = csv.reader(lines)
    if tuple(names) != Row._fields:
        raise UserError(f"--output={path}: another table: its columns are {', '.join(names)}")
    return [
        Row(program, int(seed), int(step), float(score), float(v), settings)
        for program, seed, step, score, v, settings in rows
    ]


def write(path: Path, rows: Sequence[Row]) -> None:
    """Writes the rows, ordered by program, seed and update."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(Row._fields)
    for row in sorted(rows):
        writer.writerow(row._replace(score=f"{row.score:.5g}", v=f"{row.v:.6g}"))
    write_atomically(path, text.getvalue())


class Comparison(NamedTuple):
    """The seeds' means and 95% intervals after the same number of updates; ours first."""

    step: int
    scores: list[tuple[float, float]]  # mean, half-width
    overlap: bool | None  # of the scores' intervals; None: a single seed has none
    v: list[tuple[float, float]]
    near: bool  # whether the means of V are within 5% of theirs


def compared(rows: Sequence[Row]) -> list[Comparison]:
    """Returns the comparison after each number of updates."""
    found = []
    for step in sorted({row.step for row in rows}):
        each = [[row for row in rows if (row.program, row.step) == (one, step)] for one in ("ours", "theirs")]
        scores = [tuple(map(float, mean_and_interval(np.array([row.score for row in own])))) for own in each]
        v = [tuple(map(float, mean_and_interval(np.array([row.v for row in own])))) for own in each]
        (ours, half), (theirs, other_half) = scores
        known = math.isfinite(half) and math.isfinite(other_half)
        overlap = abs(ours - theirs) <= half + other_half if known else None
        near = abs(v[0][0] - v[1][0]) <= NEAR * abs(v[1][0])
        found.append(Comparison(step, scores, overlap, v, near))
    return found


def print_comparison(rows: Sequence[Row]) -> None:
    """Prints the comparison as a table, as docs/claims.md has it."""
    print("| updates | score, ours | theirs | intervals overlap | V, ours | theirs | within 5% |")
    print("|---|---|---|---|---|---|---|")
    words = {True: "yes", False: "**no**", None: "one seed"}
    for row in compared(rows):
        scores = [f"{mean:.1f} ± {half:.1f}" for mean, half in row.scores]
        values = [f"{mean:.4g} ± {half:.2g}" for mean, half in row.v]
        cells = f"{row.step:,}", *scores, words[row.overlap], *values, words[row.near]
        print(f"| {' | '.join(cells).replace(' ± nan', '')} |")


def run_main(arguments: Sequence[str]) -> int:
    try:
        return main()
    except UserError as error:
        print(error, file=sys.stderr)
        return 2


if __name__ == "__main__":
    app.run(run_main)
