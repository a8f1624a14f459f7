"""Compares the numbers of two checkouts, bit for bit: a change of shape moves no number.

  git worktree add ../old COMMIT        # the version whose numbers are to stay: e558e28 for the redesign
  python benchmarks/same_numbers.py write --root ../old PART...       parts: learners offline online theory exports
  python benchmarks/same_numbers.py compare --root . PART...
  python benchmarks/same_numbers.py compare --root . learners --only '^[a-z0-9_]+$'   cases by regular expression
  python benchmarks/same_numbers.py list PART...                      the names of the cases

The numbers are kept in --baseline (default: ../same_numbers). Writing all of them takes about an hour on two cores.
`compare` prints a line a case, a summary, and ends with 1 if anything differs. --keep FOLDER keeps the runs and values
of the other side there. Equal programs are compiled once for all (cache).

What is equal: values (metrics, rows of the CSV files, actions, oracles) by name, to the bit; leaves of states as a
multiset of (shape, type, digest), so that renamed fields do not matter. New leaves and new names are only noted.
"""

# ruff: noqa: E501
import argparse
import collections
import contextlib
import csv
import hashlib
import importlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import types
from pathlib import Path

import numpy as np

BASELINE = Path(os.environ.get("SAME_NUMBERS", "../same_numbers")).resolve()
CACHE = BASELINE / "cache"


def set_baseline(folder):
    global BASELINE, CACHE
    BASELINE = Path(folder).resolve()
    CACHE = BASELINE / "cache"


PARTS = ("learners", "offline", "online", "theory", "exports")
IGNORED = re.compile(r"second|per_s$|_time$|policy_lag_s")


# ---------------------------------------------------------------- learners


PAIRS = {
    ("bc", "mixture"),
    ("bear", "mixture"),
    ("awac", "mixture"),
    ("brac_p", "squashed"),
    ("onestep", "squashed"),
}


def learner_cases():
    """Name -> {method, config, ...}; only on the old code, the others read cases.json."""
    from xql_jax.learners.fields import hyperparameters
    from xql_jax.learners.registry import HEADS, OFFLINE, ONLINE, POLICIES, make_learner

    def small(name, **config):
        known = hyperparameters(make_learner(name))
        start = {field: (32, 32) for field in known if field.endswith("_hidden_dims")}
        start |= {
            "embed_dim": 16, "num_layers": 1, "context_length": 5, "max_timesteps": 20, "actor_warmup_steps": 50.0,
            "warm_start": 100.0, "cloning_updates": 100.0,
        }  # fmt: skip
        if name.startswith("rlpd"):
            start |= {"num_critics": 4, "actor_period": 5}
        values = {**start, **config}
        return {"method": name, "config": {k: v for k, v in values.items() if k in known}}

    cases = {}
    for name in (*OFFLINE, *ONLINE):
        cases[name] = small(name)
        stressed = small(name, max_grad_norm=0.05, num_critics=4, dropout_rate=0.1)
        cases[f"{name} stressed"] = {**stressed, "scheduled": 150}
    replaced = [f"xql+{x}" for x in (*POLICIES, *HEADS)]
    replaced += [
        "xql+reverse_kl+state_gaussian",
        "xql+trust_region+mixture",
        "xql+max_q+squashed",
        "xql+forward_kl+mixture",
    ]
    replaced += [
        "sql+reverse_kl",
        "qql+max_q",
        "eql+trust_region",
        "xql_bellman+reverse_kl+mixture",
        "q_iteration+reverse_kl",
    ]
    replaced += [
        f"{name}+{head}"
        for name in ("value_iteration", "q_iteration", "bc", "brac_p", "bear", "awac", "onestep")
        for head in ("state_gaussian", "mixture", "squashed")
        if head == "state_gaussian" or (name, head) in PAIRS
    ]
    for name in replaced:
        cases.setdefault(name, small(name, dropout_rate=0.1 if "awac" in name else 0.0))
    options = [
        *(("xql", {"loss": loss, "clip_rule": rule, "clip": 1.0}) for loss, rule in (
            ("plain", "both"), ("plain", "above"), ("rescaled", "saturate"), ("rescaled", "above"), ("log", "both"), ("log", "saturate"))),
        ("xql", {"v_updates": 2, "layer_norm": True, "num_critics": 1}), ("xql", {"uniform_actions": 2, "action_noise": 0.1}),
        ("xql", {"critic_loss": "huber", "num_critics": 4, "max_grad_norm": 0.1}), ("xql", {"decay_actor_lr": False}),
        ("xql", {"tau": 0.1, "discount": 0.5, "beta": 0.5, "awr_temperature": 10.0, "max_weight": 1.5}),
        ("xql_bellman", {"critic_loss": "huber"}), ("xql_bellman", {"num_critics": 1, "errors_share": 0.5, "least_beta": 0.3}),
        ("qql", {"least_scale": 2.0, "uniform_actions": 1}), ("mxql", {"order": 6, "beta": 0.5}),
        ("iql", {"critic_loss": "huber", "layer_norm": True, "expectile": 0.9}),
        ("dvl_chi2", {"uniform_actions": 2, "action_noise": 0.2}), ("dvl_tv", {"action_noise": 0.2}),
        ("value_iteration", {"loss": "log", "v_updates": 2, "layer_norm": True}),
        ("q_iteration", {"loss": "plain", "num_critics": 3, "uniform_actions": 1}),
        ("sac", {"uses_value_network": False}), ("sac", {"v_updates": 2, "layer_norm": True, "actor_period": 2}),
        ("xsac", {"loss": "log", "clip_rule": "saturate", "clip": 1.0}), ("xtd3", {"loss": "plain", "clip_rule": "above", "clip": 1.0}),
        ("td3", {"actor_period": 1, "target_period": 1, "kernel_init": "uniform"}), ("td3_bc", {"q_weight": 0.0}),
        ("rebrac", {"critic_layer_norm": False, "actor_bc_coef": 1.0, "critic_bc_coef": 1.0}),
        ("cql", {"deterministic_backup": False, "cql_actions": 3}), ("cql", {"cql_threshold": 1.0, "max_grad_norm": 0.1}),
        ("brac_p", {"divergence": "mmd"}), ("brac_p", {"divergence_samples": 2, "backup_actions": 3, "min_share": 0.5}),
        ("bear", {"kernel": "gaussian", "backup_actions": 2, "mmd_threshold": 2.0, "mmd_sigma": 3.0}),
        ("awac", {"value_actions": 2}), ("onestep", {"value_actions": 2, "num_critics": 2}),
        ("rlpd", {"num_min_critics": 1, "backup_entropy": False, "actor_period": 1}),
        ("rlpd", {"critic_layer_norm": False, "num_min_critics": 4, "target_entropy_share": 2.0}),
        ("dt", {"num_heads": 2, "num_layers": 2, "max_timesteps": 8, "dropout_rate": 0.0, "weight_decay": 1.0}),
        ("xql+mixture", {"num_components": 2}), ("xql+trust_region", {"anchor_tau": 0.1, "cloning_updates": 20.0}),
        ("xql+max_q", {"q_weight": 0.5}),
    ]  # fmt: skip
    for name, change in options:
        words = ",".join(f"{key}={value}" for key, value in change.items())
        cases[f"{name} {words}"] = small(name, **change)
    for name in ("xql", "cql", "td3"):
        cases[f"{name} vmap"] = {**small(name), "vmap": 2}
    return cases


def collect_learner(case):
    import jax
    import jax.numpy as jnp

    from xql_jax.learners.registry import make_learner

    updates, size, rows = 200, 32, 512
    generator = np.random.default_rng(7)
    flat = {
        "observations": generator.normal(size=(rows, 5)),
        "actions": generator.uniform(-1, 1, (rows, 2)),
        "rewards": generator.normal(size=rows),
        "masks": generator.integers(0, 5, rows) > 0,
        "next_observations": generator.normal(size=(rows, 5)),
        "next_actions": generator.uniform(-1, 1, (rows, 2)),
    }
    flat = {name: np.asarray(field, np.float32) for name, field in flat.items()}
    indices = generator.integers(0, rows, (updates, size)).astype(np.int32)
    learner = make_learner(case["method"], case["config"])
    if "scheduled" in case:
        learner = learner.scheduled(case["scheduled"])
    kind = learner.batch_type
    flat["returns_to_go"] = np.cumsum(flat["rewards"][::-1])[::-1]
    if "known" in kind._fields:
        length = case["config"]["context_length"]
        steps = np.arange(rows)[:, None] + np.arange(length)
        fields = {
            "observations": flat["observations"].take(steps, axis=0, mode="wrap"),
            "actions": flat["actions"].take(steps, axis=0, mode="wrap"),
            "returns_to_go": flat["returns_to_go"].take(steps, mode="wrap"),
            "timesteps": (steps % 30).astype(np.int32),
            "known": np.arange(length) >= (np.arange(rows) % 3)[:, None],
            "highest_return": np.full(rows, 5.0, np.float32),
        }
    else:
        fields = flat
    missing = set(kind._fields) - set(fields)
    assert not missing, f"frozen.py does not know the batch's fields {missing}"
    data = kind(**{name: fields[name] for name in kind._fields})

    def init(learner, key):
        return learner.init(key, flat["observations"][:1], flat["actions"][:1])

    def run(learner, state, data, indices, key):
        def minibatch(index):
            return jax.tree.map(lambda field: jnp.take(field, indices[index], axis=0), data)

        def update(index, carry):
            state, _, sums = carry
            state, metrics = learner.update(state, minibatch(index), jax.random.fold_in(key, index))
            return state, metrics, {name: sums[name] + metrics[name] for name in metrics}

        shapes = jax.eval_shape(learner.update, state, minibatch(0), key)[1]
        none = {name: jnp.zeros(of.shape, of.dtype) for name, of in shapes.items()}
        return jax.lax.fori_loop(0, updates, update, (state, none, none))

    key = jax.random.key(3)
    if members := case.get("vmap"):
        keys = jax.random.split(key, members)
        states = [jax.jit(init)(learner, key) for key in keys]
        state = jax.tree.map(lambda *leaves: jnp.stack(leaves), *states)
        together = jax.jit(jax.vmap(run, in_axes=(None, 0, None, None, 0)))
        state, metrics, sums = together(learner, state, data, indices, keys)
    else:
        state = jax.jit(init)(learner, key)
        state, metrics, sums = jax.jit(run)(learner, state, data, indices, key)
    values = {f"leaf/{path}": leaf for path, leaf in leaves_of(state).items()}
    for name in metrics:
        values[f"value/{name}"], values[f"value/sum of {name}"] = metrics[name], sums[name]
    if not members:
        observations = generator.normal(size=(5, 5)).astype(np.float32)
        for words, deterministic in (("greedy", True), ("drawn", False)):
            act = jax.jit(
                lambda learner, state, x, k, d=deterministic: learner.act(learner.actor(state), x, k, d)
            )
            values[f"value/{words} action"] = act(learner, state, observations, key)
    return {name: np.asarray(value) for name, value in values.items()}


def leaves_of(tree):
    import jax

    def plain(leaf):
        if hasattr(leaf, "dtype") and jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            leaf = jax.random.key_data(leaf)
        return np.asarray(leaf)

    return {
        jax.tree_util.keystr(path): plain(leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }


# ---------------------------------------------------------------- runs by the real commands


class Workshop:
    """Where a case's commands run: a folder of its own, the root's programs."""

    def __init__(self, root, folder):
        self.root, self.folder = Path(root), Path(folder)

    def command(self, main, *arguments):
        arguments = sorted(
            arguments, key=lambda argument: not argument.startswith("--config=")
        )  # before its fields
        return [sys.executable, str(self.root / "experiments" / f"{main}.py"), *arguments]

    def run(self, main, *arguments, code=0):
        log = self.folder / "log.txt"
        with log.open("a") as file:
            print("$", main, *arguments, file=file, flush=True)
            command = self.command(main, *arguments)
            done = subprocess.run(
                command, cwd=self.root, stdout=file, stderr=subprocess.STDOUT, env=self.environment()
            )
        if done.returncode != code:
            raise RuntimeError(
                f"{main} {' '.join(arguments)} -> {done.returncode}\n{log.read_text()[-1500:]}"
            )

    def environment(self):
        places = [str(self.root), str(self.folder), str(self.root / "tests" / "envs")]
        return {**os.environ, "PYTHONPATH": os.pathsep.join(places)}

    def stopped(self, main, *arguments, at):
        """Runs until checkpoints/AT is there, then SIGTERM, then the same with --resume."""
        with (self.folder / "log.txt").open("a") as file:
            process = subprocess.Popen(
                self.command(main, *arguments),
                cwd=self.root,
                stdout=file,
                stderr=file,
                env=self.environment(),
            )
            deadline = time.monotonic() + 300
            while process.poll() is None and not list(self.folder.rglob(f"checkpoints/{at}")):
                if time.monotonic() > deadline:
                    process.kill()
                time.sleep(0.005)
            was_running = process.poll() is None
            if was_running:
                process.send_signal(signal.SIGTERM)
            process.wait()
            print(f"stopped after checkpoint {at}: {was_running}, exit code {process.returncode}", file=file)
        self.run(main, *arguments, "--resume")

    def runs(self):
        return sorted(
            path.parent for path in self.folder.rglob("config.json") if "checkpoints" not in path.parts
        )


def table(path):
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    columns = {name: [row[name] for row in rows] for name in (rows[0] if rows else [])}
    return {name: np.array(column, dtype=str) for name, column in columns.items() if not IGNORED.search(name)}


def values_of_run(run, drop=""):
    """What a run has left: its tables, the last checkpoint's leaves, and its policies' actions."""
    values = {}
    for name in ("metrics", "evaluations", "bellman_errors"):
        if (run / f"{name}.csv").exists():
            values |= {
                f"value/{name}.csv/{column}": column_
                for column, column_ in table(run / f"{name}.csv").items()
            }
    steps = sorted(int(path.name) for path in run.glob("checkpoints/*") if path.name.isdigit())
    if steps:
        values |= checkpoint_leaves(run / "checkpoints" / str(steps[-1]))
    try:
        values |= actions_of(run)
    except Exception as error:
        values["value/greedy actions"] = np.array(f"{type(error).__name__}: {error}"[:300])
    return values


def actions_of(run):
    import xql_jax

    policy = xql_jax.load_policy(run)
    observations = np.random.default_rng(1).normal(size=(5, policy.observation_dim)).astype(np.float32)
    values = {}
    for number, member in enumerate(policy.members):
        one = policy
        if len(policy.members) > 1:
            one = policy.select(seed=member.seed, **dict(getattr(member, "hyperparameters", {}) or {}))
        with contextlib.suppress(AttributeError):
            one.begin()
        values[f"value/greedy actions of member {number}"] = np.asarray(one(observations))
    return values


def checkpoint_leaves(folder):
    """Arrays of a checkpoint in whatever format: orbax's, .npz, or flax's msgpack; {} with a note otherwise."""
    values = {}
    for marker in sorted([*folder.rglob("_METADATA"), *folder.rglob("_CHECKPOINT_METADATA")]):
        place = marker.parent
        if any(key.startswith(f"leaf/{place.name}/") for key in values):
            continue
        try:
            import orbax.checkpoint as ocp

            with ocp.PyTreeCheckpointer() as reader:
                tree = reader.restore(place.absolute())
            values |= {f"leaf/{place.name}/{path}": leaf for path, leaf in leaves_of(tree).items()}
        except Exception as error:
            values["note/checkpoint"] = np.array(f"orbax cannot read {place.name}: {str(error)[:200]}")
    for path in sorted(folder.rglob("*.npz")):
        with np.load(path) as arrays:
            values |= {f"leaf/{path.stem}/{name}": arrays[name] for name in arrays.files}
    for path in sorted(folder.rglob("*.msgpack")):
        import flax.serialization

        tree = flax.serialization.msgpack_restore(path.read_bytes())
        values |= {f"leaf/{path.stem}/{name}": leaf for name, leaf in leaves_of(tree).items()}
    if not any(key.startswith("leaf/") for key in values):
        values.setdefault("note/checkpoint", np.array("no arrays found in the last checkpoint"))
    return values


COMMON = (
    "--num_seeds=2",
    "--max_steps=200",
    "--log_interval=20",
    "--eval_interval=100",
    "--eval_episodes=2",
    "--notqdm",
)
TINY = "--config.hidden_dims=(32,32)"
SIZES = {
    "dt": ("--config.embed_dim=16", "--config.num_layers=1", "--config.context_length=5"),
    "brac_p": (TINY, "--config.behavior_hidden_dims=(32,32)", "--config.warm_start=100"),
    "bear": (TINY, "--config.behavior_hidden_dims=(32,32)", "--config.warm_start=100"),
    "td3_bc": (TINY,),
}
MAZE = "--env_name=pointmaze-umaze-v0"


def offline_cases():
    methods = (
        "xql", "iql", "bc", "bc10", "sql", "td3_bc", "rebrac", "cql", "dt", "xql+reverse_kl", "bc+mixture",
        "xql_bellman", "qql", "awac", "onestep", "bear", "q_iteration",
    )  # fmt: skip
    cases = {name: {"method": name} for name in methods}
    cases["xql sweep"] = {"method": "xql", "arguments": ["--sweep=beta=0.2,1 tau=0.005,0.1"]}
    cases["xql host"] = {"method": "xql", "arguments": ["--data_on=host"]}
    cases["dt host"] = {"method": "dt", "arguments": ["--data_on=host"]}
    cases["xql normalized"] = {
        "method": "xql",
        "arguments": ["--normalize_observations", "--top_returns=0.5", "--eval_at_start"],
    }
    cases["xql extended"] = {
        "method": "xql",
        "kind": "extended",
        "arguments": ["--config.decay_actor_lr=false"],
    }
    cases["xql seeds extended"] = {"method": "xql", "kind": "seeds"}
    cases["xql resumed"] = {"method": "xql", "kind": "resumed"}
    cases["xql npz"] = {"method": "xql", "kind": "npz"}
    cases["rebrac npz"] = {"method": "rebrac", "kind": "npz"}
    cases["dataset"] = {"kind": "dataset"}
    return cases


def collect_offline(case, shop):
    kind, folder = case.get("kind"), shop.folder
    if kind == "dataset":
        return pointmaze_arrays(shop)
    method = case["method"]
    sizes = SIZES.get(method, (TINY,))
    config = "own" if kind == "npz" else "pointmaze"
    arguments = [f"--config=configs/{config}_config.py:{method}", *sizes, *COMMON, *case.get("arguments", ())]
    arguments.append(f"--save_dir={folder}/runs")
    if kind == "npz":
        path = folder / "mine.npz"
        write_npz(path)
        shop.run("train_offline", *arguments, f"--dataset={path}")
    elif kind == "extended":
        shop.run("train_offline", MAZE, *arguments, "--max_steps=100")
        shop.run("train_offline", MAZE, *arguments, "--extend")
    elif kind == "seeds":
        shop.run("train_offline", MAZE, *arguments, "--num_seeds=1")
        shop.run("train_offline", MAZE, *arguments, "--extend")
    elif kind == "resumed":
        more = (
            "--max_steps=6000",
            "--log_interval=1000",
            "--eval_interval=3000",
            "--checkpoint_interval=1000",
        )
        shop.stopped("train_offline", MAZE, *arguments, *more, at=1000)
    else:
        shop.run("train_offline", MAZE, *arguments)
    values = {}
    runs = shop.runs()
    longest = max(runs, key=lambda run: (len(table(run / "metrics.csv")["step"]), str(run)))
    if kind == "seeds":  # one folder or two: the rows of both
        for run in runs:
            columns = {key: value for key, value in values_of_run(run).items() if ".csv" in key}
            seeds = "".join(sorted(set(columns["value/metrics.csv/seed"])))
            values |= {f"{key} of seeds {seeds}": value for key, value in columns.items()}
        return values
    return values_of_run(longest)


def write_npz(path):
    generator = np.random.default_rng(11)
    rows = 3000
    ends = np.zeros(rows, bool)
    ends[99::100] = True
    terminals = ends & (generator.random(rows) < 0.5)
    np.savez(
        path,
        observations=generator.normal(size=(rows, 4)).astype(np.float32),
        actions=generator.uniform(-1, 1, (rows, 2)).astype(np.float32),
        rewards=generator.normal(size=rows).astype(np.float32),
        terminals=terminals,
        timeouts=ends & ~terminals,
    )


def pointmaze_arrays(shop):
    """The embedded maze's data, made anew; digests of its arrays."""
    data = shop.folder / "d4rl"
    before = os.environ.get("D4RL_DATASET_DIR")
    os.environ["D4RL_DATASET_DIR"] = str(data)
    try:
        arguments = [
            MAZE,
            "--config=configs/pointmaze_config.py:bc",
            TINY,
            *COMMON,
            f"--save_dir={shop.folder}/runs",
        ]
        shop.run("train_offline", *arguments, "--max_steps=20", "--eval_episodes=0")
    finally:
        os.environ.pop("D4RL_DATASET_DIR") if before is None else os.environ.update(D4RL_DATASET_DIR=before)
    import h5py

    values = {}

    def see(name, item):
        if isinstance(item, h5py.Dataset):
            array = item[()]
            digest = (
                hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()
                if hasattr(array, "tobytes")
                else ""
            )
            values[f"value/{name}"] = np.array(
                f"{getattr(array, 'shape', '')} {getattr(array, 'dtype', '')} {digest}"
            )

    for path in sorted(data.rglob("*.hdf5")):
        with h5py.File(path) as file:
            file.visititems(see)
    return values


# ---------------------------------------------------------------- online runs, exports


ONLINE = (
    "--num_seeds=2", "--max_steps=2000", "--log_interval=100", "--eval_interval=1000", "--eval_episodes=2",
    "--checkpoint_interval=1000", "--bellman_error_interval=500", "--notqdm", "--config.network=small", TINY,
    "--config.batch_size=32", "--config.warmup_steps=200",
)  # fmt: skip
FINETUNE = (
    MAZE, "--num_seeds=2", "--num_pretraining_steps=200", "--max_steps=2000", "--log_interval=100",
    "--eval_interval=1000", "--eval_episodes=2", "--checkpoint_interval=1000", "--batch_size=32", "--notqdm", TINY,
)  # fmt: skip


def online_cases():
    files = {"sac": "sac", "xsac": "xsac", "td3": "td3", "td3_dq": "td3", "xtd3": "xtd3", "xtd3_dq": "xtd3"}
    configs = {name: f"--config=configs/{file}_config.py:{name}" for name, file in files.items()}
    cases = {f"host {name}": {"arguments": [config, MAZE]} for name, config in configs.items()}
    cases["host td3 pendulum"] = {"arguments": [configs["td3"], "--env_name=pendulum-swingup"]}
    cases["host sac gymnasium"] = {"arguments": [configs["sac"], "--env_name=InvertedPendulum-v5"]}
    cases["host sac without V"] = {"arguments": [configs["sac"], MAZE, "--config.uses_value_network=false"]}
    cases["host td3 environments"] = {
        "arguments": [configs["td3"], MAZE, "--num_environments=4", "--max_policy_lag=20"]
    }
    cases["host td3 processes"] = {
        "arguments": [configs["td3"], MAZE, "--num_environments=2", "--processes", "--num_seeds=1"]
    }
    cases["host xtd3 small buffer"] = {"arguments": [configs["xtd3"], MAZE, "--config.buffer_size=500"]}
    cases["host xsac sweep"] = {
        "arguments": [configs["xsac"], MAZE, "--sweep=beta=1,4", "--num_seeds=1", "--max_steps=1000"]
    }
    compiled = ["--env_name=jax_point_mass:PlanarPointMass", "--num_environments=5"]
    for name, config in configs.items():
        cases[f"compiled {name}"] = {"arguments": [config, *compiled]}
    cases["compiled td3 small buffer"] = {
        "arguments": [configs["td3"], *compiled, "--config.buffer_size=500"]
    }
    cases["compiled td3 some updates"] = {
        "arguments": [configs["td3"], *compiled, "--config.updates_per_step=0.25"]
    }
    cases["compiled sac resumed"] = {
        "arguments": [configs["sac"], *compiled, "--max_steps=4000"],
        "stopped": 1000,
    }
    for name in ("xql", "iql", "cql", "xql+mixture", "td3_bc"):
        cases[f"finetune {name}"] = {
            "main": "train_finetune",
            "arguments": [f"--config=configs/pointmaze_config.py:{name}"],
        }
    rlpd = [
        "--config=configs/pointmaze_finetune_config.py:rlpd",
        "--num_pretraining_steps=0",
        "--config.num_critics=2",
        "--warmup_steps=200",
    ]
    cases["finetune rlpd"] = {"main": "train_finetune", "arguments": rlpd}
    config = "--config=configs/pointmaze_finetune_config.py:xql"
    cases["finetune xql configured"] = {"main": "train_finetune", "arguments": [config]}
    shares = [
        "--offline_fraction=0.5",
        "--online=beta=1:0.2 actor_lr=1e-4",
        "--exploration_noise=0.1",
        "--updates_per_step=0.5",
    ]
    cases["finetune iql half"] = {
        "main": "train_finetune",
        "arguments": [
            "--config=configs/pointmaze_config.py:xql",
            *shares,
            "--init_dataset_size=5000",
            "--warmup_steps=100",
        ],
    }
    small = [
        "--config=configs/pointmaze_config.py:iql",
        "--replay_buffer_size=6000",
        "--init_dataset_size=5000",
    ]
    cases["finetune iql small buffer"] = {"main": "train_finetune", "arguments": small}
    cases["finetune xql checkpoint"] = {"kind": "checkpoint"}
    return cases


def collect_online(case, shop):
    save = f"--save_dir={shop.folder}/runs"
    if case.get("kind") == "checkpoint":
        arguments = [MAZE, "--config=configs/pointmaze_config.py:xql", TINY, *COMMON, save]
        shop.run("train_offline", *arguments)
        (run,) = shop.runs()
        more = [x for x in FINETUNE if not x.startswith(("--env", "--num_", "--config"))]
        shop.run("train_finetune", f"--checkpoint={run}", *more, f"--save_dir={shop.folder}/finetuned")
        (run,) = (path for path in shop.runs() if "finetuned" in str(path))
        return values_of_run(run)
    main = case.get("main", "train_online")
    arguments = [*(FINETUNE if main == "train_finetune" else ONLINE), *case["arguments"], save]
    if at := case.get("stopped"):
        shop.stopped(main, *arguments, at=at)
    else:
        shop.run(main, *arguments)
    (run,) = shop.runs()
    return values_of_run(run)


def exports_cases():
    def offline(method):
        arguments = [MAZE, f"--config=configs/pointmaze_config.py:{method}", TINY, *COMMON, "--num_seeds=1"]
        return {"main": "train_offline", "arguments": arguments}

    cases = {name: offline(name) for name in ("xql", "bc+mixture", "td3_bc")}
    cases["xql normalized"] = offline("xql")
    cases["xql normalized"]["arguments"] += ["--normalize_observations"]
    arguments = [MAZE, "--config=configs/sac_config.py:sac", *ONLINE, "--num_seeds=1", "--max_steps=600"]
    cases["sac"] = {"main": "train_online", "arguments": arguments}
    return cases


def collect_exports(case, shop):
    shop.run(case["main"], *case["arguments"], f"--save_dir={shop.folder}/runs")
    (run,) = shop.runs()
    shop.run("export", str(run), "--formats=jax,npz", f"--output={shop.folder}/exported")
    import jax.export

    values = actions_of(run)
    observations = np.random.default_rng(2).normal(size=(7, 4)).astype(np.float32)
    for path in sorted((shop.folder / "exported").iterdir()):
        if path.suffix == ".npz":
            values |= {f"value/{path.name}/{name}": array for name, array in load(path).items()}
            sys.path.insert(0, str(path.parent))
        elif path.suffix not in (".py", ".json", ".onnx", ".md"):
            called = jax.export.deserialize(bytearray(path.read_bytes())).call
            values[f"value/{path.name}/actions"] = np.asarray(called(observations))
    code = (
        "import sys, numpy as np; sys.path.insert(0, sys.argv[1]); import act; "
        "make = getattr(act, 'load', None) or getattr(act, 'Policy', None) or act.load_policy; "
        "made = make(sys.argv[1] + '/policy.npz'); policy = made[0] if isinstance(made, tuple) else made; "
        "x = np.random.default_rng(2).normal(size=(7, 4)).astype(np.float32); np.save(sys.argv[2], policy(x))"
    )
    if (shop.folder / "exported" / "act.py").exists():
        out = shop.folder / "acted.npy"
        subprocess.run(
            [sys.executable, "-c", code, str(shop.folder / "exported"), str(out)],
            check=True,
            capture_output=True,
        )
        values["value/act.py/actions"] = np.load(out)
    return values


# ---------------------------------------------------------------- theory


def theory():
    """Finds the public names of xql_jax.theory, in whatever module they are."""
    import pkgutil

    package = importlib.import_module("xql_jax.theory")
    modules = [package] + [
        importlib.import_module(f"xql_jax.theory.{of.name}") for of in pkgutil.iter_modules(package.__path__)
    ]

    class Found:
        def __getattr__(self, name):
            for module in modules:
                if hasattr(module, name) and not isinstance(getattr(module, name), types.ModuleType):
                    return getattr(module, name)
            raise AttributeError(f"xql_jax.theory has no {name}")

    return Found()


def flat_values(value, name="x"):
    import dataclasses

    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
        return {k: v for field, one in fields.items() for k, v in flat_values(one, f"{name}.{field}").items()}
    if isinstance(value, dict):
        return {k: v for key, one in value.items() for k, v in flat_values(one, f"{name}.{key}").items()}
    if isinstance(value, tuple | list) and value and not np.isscalar(value[0]):
        return {
            k: v for number, one in enumerate(value) for k, v in flat_values(one, f"{name}.{number}").items()
        }
    return {f"value/{name}": np.asarray(value)}


def theory_cases():
    return {
        name[7:].replace("_", " "): {"function": name}
        for name in globals()
        if name.startswith("theory_") and name != "theory_cases"
    }


def collect_theory(case):
    values = globals()[case["function"]](theory(), np.random.default_rng(5))
    return {k: v for name, value in values.items() for k, v in flat_values(value, name).items()}


def simplex(generator, *shape, zeros=False):
    weights = generator.dirichlet(np.ones(shape[-1]), shape[:-1])
    if zeros:
        weights[..., 0] = 0.0
        weights /= weights.sum(-1, keepdims=True)
    return weights


def theory_log_partition(t, generator):
    x, weights = generator.normal(size=(6, 4)) * 10, simplex(generator, 6, 4, zeros=True)
    values = {}
    for beta in (1e-8, 0.1, 1.0, 1e6):
        values[f"uniform {beta}"] = t.log_partition(x, beta)
        values[f"weighted {beta}"] = t.log_partition(x, beta, weights)
        values[f"broadcast {beta}"] = t.log_partition(x, beta, weights[0])
    return values


def theory_gumbel(t, generator):
    x = np.array([-np.inf, -800.0, -3.0, 0.0, 0.5, 4.0, 900.0, np.inf])
    values = {}
    for sign in (1, -1):
        law = t.Gumbel(0.3, 1.7, sign)
        values[f"law {sign}"] = [
            law.log_density(x),
            law.density(x),
            law.mean,
        ]
        values[f"samples {sign}"] = law.sample(np.random.default_rng(1), (3, 4))
        samples = law.sample(np.random.default_rng(2), 500)
        values[f"fit {sign}"] = t.fit_gumbel(samples, sign)
        values[f"fit offset {sign}"] = t.fit_gumbel(samples * 1e-6 + 1e6, sign)
        values[f"fit spread {sign}"] = t.fit_gumbel(generator.uniform(0, 1, 20) ** 9 * 1e9, sign)
    values["fit gaussian"] = [
        t.fit_gaussian(generator.normal(size=100) * s + o) for s, o in ((1, 0), (1e-8, 1e5), (1e300, 0))
    ]
    values["gumbel max law"] = [t.gumbel_max_law(x[2:6], beta) for beta in (0.01, 0.7, 100.0)]
    return values


def theory_bounds(t, generator):
    q_max, beta, mean = (
        np.array([0.1, 1.0, 50.0])[:, None],
        np.geomspace(1e-3, 1e4, 30),
        np.array([-0.05, 0.5, 20.0])[:, None],
    )
    values = {
        "log_cosh": t.log_cosh_bias(q_max, beta),
        "upper": t.soft_value_upper_bound(mean, q_max, beta),
        "printed": t.printed_soft_value_upper_bound(mean, q_max, beta),
    }
    for count, delta in ((1, 0.5), (100, 0.05), (10_000, 1e-6)):
        common = (q_max, beta, count, delta)
        values[f"partition {count}"] = t.partition_upper_bound(1.3, *common)
        values[f"log {count}"] = t.log_partition_upper_bound(mean, *common)
        values[f"linear {count}"] = t.linear_log_partition_upper_bound(mean, *common)
    return values


def theory_conservatism(t, generator):
    pi, mu = simplex(generator, 5, 4), simplex(generator, 5, 4)
    half, q = simplex(generator, 5, 4, zeros=True), generator.normal(size=(5, 4)) * 3
    values = {}
    for name in ("chi_square_divergence", "kl_divergence"):
        values[name] = [
            getattr(t, name)(*pair) for pair in ((pi, mu), (half, mu), (mu, half), (half, half), (pi[0], mu))
        ]
    for beta in (0.01, 1.0, 1e4):
        values[f"policy {beta}"] = [
            t.soft_policy(q, mu, beta),
            t.soft_policy(q, half, beta),
            t.soft_policy(q, half[0], beta),
        ]
        values[f"chi policy {beta}"] = [t.chi_square_policy(q, mu, beta), t.chi_square_policy(q, half, beta)]
    return values


def mdp_of(t, seed, **sizes):
    return t.SoftMDP.random(np.random.default_rng(seed), **{"num_states": 7, "num_actions": 3, **sizes})


def theory_soft_mdp(t, generator):
    values = {}
    for discount, beta in ((0.9, 1.0), (0.99, 0.1), (0.0, 1.0), (0.9, 1e-3), (0.9, 1e4)):
        mdp = mdp_of(t, 3, discount=discount, beta=beta)
        name = f"{discount} {beta}"
        v = t.value_iteration(mdp)
        values[name] = [
            v,
            mdp.backup(v.v),
            mdp.soft_value(v.q),
            mdp.policy(v.q, v.v),
            mdp.expected_returns(v.policy),
        ]
    values["random"] = mdp
    matrix = simplex(generator, 4, 2, 4, zeros=True)
    dense = t.SoftMDP.dense(
        matrix, generator.normal(size=(4, 2)), simplex(generator, 4, 2), discount=0.8, beta=0.5
    )
    values["dense"] = [dense, t.value_iteration(dense)]
    states, actions = generator.integers(0, 4, 50), generator.integers(0, 3, 50)
    counted = t.SoftMDP.from_transitions(
        states,
        actions,
        generator.normal(size=50),
        generator.integers(0, 5, 50),
        num_states=6,
        num_actions=3,
        discount=0.9,
        beta=0.4,
    )
    values["counted"] = [counted, t.value_iteration(counted), counted.expected_returns(counted.behavior)]
    large = mdp_of(t, 4, num_states=500, num_actions=5, num_successors=6, discount=0.95)
    values["large"] = [t.value_iteration(large), large.expected_returns(large.behavior)]
    return values


def theory_gridworld(t, generator):
    values = {}
    for beta in (1.0, 0.02):
        mdp = t.gridworld(t.FIGURE_4, beta=beta)
        solution = t.value_iteration(mdp)
        values[f"{beta}"] = [mdp, solution, np.array(t.greedy_path(t.FIGURE_4, solution.q, (7, 1)))]
    return values


def theory_error_model(t, generator):
    tree, values = mdp_of(t, 9, discount=0.9, num_successors=1), {}
    location, scale, samples = (
        tree.rewards,
        1.5,
        t.Gumbel(0.0, 1.0).sample(np.random.default_rng(2), (200, 7, 3)),
    )
    for step in range(3):
        location, scale = t.evolve(tree, location, scale)
        samples = t.evolve_samples(tree, np.random.default_rng(step).permuted(samples, axis=0))
        values[f"evolved {step}"] = [location, scale, samples]
    values["optimum"] = [t.optimal_q(tree), t.optimal_q(tree, 1e-3)]
    return values


def theory_error_wave(t, generator):
    tree, maze = mdp_of(t, 9, discount=0.9, num_successors=1), t.gridworld(t.FIGURE_4)
    return {
        name: {
            **t.error_wave(
                np.random.default_rng(1), mdp, t.Gumbel(0.1, 0.8), state=3, steps=8, num_samples=200
            ).__dict__,
            "distances": 0,
        }
        for name, mdp in (("tree", tree), ("maze", maze))
    }


def theory_regression(t, generator):
    x = generator.uniform(-1, 1, (600, 2))
    y = x @ [1.0, -2.0] + generator.gumbel(size=600) + 5
    common = {"num_updates": 600, "batch_size": 64, "random_state": 0}
    values = {}
    for name, regressor in {
        "gumbel": t.GumbelRegressor(0.5, **common),
        "gumbel betas": t.GumbelRegressor([0.05, 1.0, 50.0], **common),
        "gumbel mlp": t.GumbelRegressor([0.5, 2.0], hidden_dims=(16, 16), learning_rate=3e-3, **common),
        "expectile": t.ExpectileRegressor([0.5, 0.9], **common),
        "mean": t.MeanRegressor(**common),
    }.items():
        fitted = regressor.fit(x, y)
        values[name] = [
            fitted.predict(x[:20]),
            fitted.score(x, y),
            fitted.loss_curve_,
            fitted.n_iter_,
            leaves_of(fitted.params_),
        ]
        if "mlp" not in name:
            values[f"{name} linear"] = [fitted.coef_, fitted.intercept_]
    return values


def theory_figures(t, generator):
    """Figures 2, 4, B1, B2 and GEM by the real command; their tables."""
    with tempfile.TemporaryDirectory() as folder:
        shop = Workshop(Path.cwd(), folder)
        shop.run("figures", "--figure=2,4,B1,B2,GEM", f"--output={folder}/figures", "--formats=png")
        tables = sorted(Path(folder, "figures").glob("*.csv"))
        return {f"{path.name}/{column}": values for path in tables for column, values in table(path).items()}


# ---------------------------------------------------------------- the machinery


def collect(part, root, only, out):
    """Runs in a process whose xql_jax is the root's: writes out/CASE.npz, or out/CASE.error."""
    import xql_jax

    assert Path(xql_jax.__file__).resolve().is_relative_to(Path(root).resolve()), xql_jax.__file__
    module = sys.modules[__name__]
    is_writing = os.environ.get("FROZEN_WRITES") == "1"
    make_cases = learner_cases if part == "learners" else getattr(module, f"{part}_cases")
    cases = make_cases() if is_writing else cases_of(part)
    if is_writing:
        (Path(out) / "cases.json").write_text(json.dumps(cases, indent=1))
    for name, case in cases.items():
        stem = Path(out) / file_name(name)
        if (only and not re.search(only, name)) or (
            is_writing and stem.with_name(stem.name + ".npz").exists()
        ):
            continue
        started = time.perf_counter()
        try:
            if part == "learners":
                values = collect_learner(case)
            elif part == "theory":
                values = collect_theory(case)
            else:
                folder = Path(out) / "runs" / file_name(name)
                folder.mkdir(parents=True)
                values = getattr(module, f"collect_{part}")(case, Workshop(root, folder))
            np.savez_compressed(
                stem.with_name(stem.name + ".npz"), **{k: np.asarray(v) for k, v in values.items()}
            )
        except Exception:
            stem.with_name(stem.name + ".error").write_text(traceback.format_exc()[-3000:])
        if part == "learners":
            import jax

            jax.clear_caches()
        print(f"{part}: {name}: {time.perf_counter() - started:.1f} s", file=sys.stderr, flush=True)


def cases_of(part):
    """The cases that have a baseline."""
    cases = json.loads((BASELINE / part / "cases.json").read_text())
    return {
        name: case for name, case in cases.items() if (BASELINE / part / f"{file_name(name)}.npz").exists()
    }


def file_name(name):
    return re.sub(r"[^A-Za-z0-9_.,=+-]", "~", name)


def start_collecting(part, root, only, out, write=False):
    root = Path(root).resolve()
    environment = {
        k: v
        for k, v in os.environ.items()
        if k not in ("XLA_FLAGS", "PYTHONPATH") and not k.startswith("JAX_")
    }
    environment |= {
        "PYTHONPATH": os.pathsep.join((str(root), str(root / "tests" / "envs"))),
        "JAX_PLATFORMS": "cpu",
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "FROZEN_WRITES": str(int(write)),
    }
    if os.environ.get("SAME_NUMBERS_CACHE") != "off":
        environment["JAX_COMPILATION_CACHE_DIR"] = str(CACHE)
    command = [sys.executable, __file__, "collect", part, str(root), only or "", str(out)]
    return subprocess.run(
        command,
        cwd=root,
        env=environment,
        stderr=None if sys.stderr.isatty() or write else subprocess.DEVNULL,
    )


def compare(part, root, only, keep):
    with contextlib.ExitStack() as stack:
        out = (
            Path(keep) / part
            if keep
            else Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="frozen-")))
        )
        if keep:
            shutil.rmtree(out, ignore_errors=True)
            out.mkdir(parents=True)
        done = start_collecting(part, root, only, out)
        cases = [name for name in cases_of(part) if not only or re.search(only, name)]
        differing = 0
        for name in cases:
            lines, notes = compare_case(part, name, out)
            differing += bool(lines)
            words = "; ".join(notes)
            if lines:
                print(f"{part}: {name}: DIFFERS" + (f" ({words})" if words else ""))
                print("\n".join(f"    {line}" for line in lines[:12]))
                if len(lines) > 12:
                    print(f"    ... and {len(lines) - 12} more")
            else:
                print(f"{part}: {name}: equal" + (f" ({words})" if words else ""))
        print(
            f"{part}: {len(cases) - differing} of {len(cases)} cases equal"
            + (f"; exit {done.returncode}" if done.returncode else "")
        )
        return differing or done.returncode


def compare_case(part, name, out):
    """Returns the lines of what differs, and notes."""
    stem = file_name(name)
    if (out / f"{stem}.error").exists():
        return ["failed: " + (out / f"{stem}.error").read_text().strip().replace("\n", "\n        ")], []
    if not (out / f"{stem}.npz").exists():
        return ["was not reached"], []
    old, new = load(BASELINE / part / f"{stem}.npz"), load(out / f"{stem}.npz")
    lines, notes = [], []
    for key in old:
        if not key.startswith("value/"):
            continue
        if key not in new:
            lines.append(f"{key[6:]}: missing")
        elif not same(old[key], new[key]):
            lines.append(f"{key[6:]}: {difference(old[key], new[key])}")
    if extra := [key[6:] for key in new if key.startswith("value/") and key not in old]:
        notes.append(f"new names: {', '.join(extra[:5])}{' ...' if len(extra) > 5 else ''}")
    notes += [str(new[key]) for key in new if key.startswith("note/")]
    leaf_lines, leaf_notes = compare_leaves(
        of_leaves(old), of_leaves(new), any(key.startswith("note/") for key in new)
    )
    return lines + leaf_lines, notes + leaf_notes


def load(path):
    with np.load(path) as arrays:
        return {name: arrays[name] for name in arrays.files}


def of_leaves(values):
    return {key[5:]: value for key, value in values.items() if key.startswith("leaf/")}


def same(old, new):
    if old.dtype.kind in "US" or new.dtype.kind in "US":
        return old.shape == new.shape and bool((old == new).all())
    return old.shape == new.shape and old.dtype == new.dtype and old.tobytes() == new.tobytes()


def difference(old, new):
    if old.shape != new.shape:
        return f"shape {old.shape} -> {new.shape}"
    if old.dtype.kind in "US" or new.dtype.kind in "US":
        try:
            first = np.array([float(x or "nan") for x in old.ravel()])
            second = np.array([float(x or "nan") for x in new.ravel()])
        except ValueError:
            place = int((old.ravel() != new.ravel()).argmax())
            return f"{old.ravel()[place]!r} -> {new.ravel()[place]!r}"
    else:
        first, second = old.ravel().astype(np.float64), new.ravel().astype(np.float64)
    words = "" if old.dtype == new.dtype else f"type {old.dtype} -> {new.dtype}, "
    unequal = ~((first == second) | (np.isnan(first) & np.isnan(second)))
    if not unequal.any():
        return words + "equal numbers of other type or spelling"
    with np.errstate(all="ignore"):
        relative = np.abs(first - second) / np.maximum(np.maximum(np.abs(first), np.abs(second)), 1e-12)
    place = int(np.where(unequal, np.nan_to_num(relative, nan=np.inf), -1).argmax())
    return (
        f"{words}{unequal.sum()} of {unequal.size} numbers differ, by up to {relative[place]:.2g} of their size "
        f"({first[place]:.9g} -> {second[place]:.9g}, first at {int(unequal.argmax())})"
    )


def digest(array):
    array = np.ascontiguousarray(array)
    return array.shape, str(array.dtype), hashlib.sha256(array.tobytes()).hexdigest()[:24]


def compare_leaves(old, new, unreadable):
    if old and not new and unreadable:
        return [], ["leaves of the checkpoint not compared"]
    have = collections.Counter(digest(leaf) for leaf in new.values())
    slices = collections.Counter(
        digest(x) for leaf in new.values() if leaf.ndim for x in leaf
    )  # stacked since
    missing = []
    for path, leaf in sorted(old.items()):
        mark = digest(leaf)
        if have[mark] > 0:
            if leaf.ndim:  # numbers, such as counts, may be kept once
                have[mark] -= 1
        elif slices[mark] > 0:
            slices[mark] -= 1
        elif leaf.ndim and all(have[digest(x)] > 0 for x in leaf):  # unstacked since
            pass
        else:
            missing.append(path)
    if not missing:
        more = len(new) - len(old)
        return [], [f"{more:+d} leaves"] if more else []
    lines = []
    for path in missing:
        twin = new.get(path)
        if twin is None:
            lines.append(f"leaf {path} {old[path].dtype}{list(old[path].shape)}: no equal leaf")
        else:
            lines.append(f"leaf {path}: {difference(old[path], twin)}")
    lines.insert(0, f"{len(missing)} of {len(old)} leaves have no equal one")
    return lines, []


def main():
    if len(sys.argv) > 1 and sys.argv[1] == "collect":
        collect(sys.argv[2], sys.argv[3], sys.argv[4], sys.argv[5])
        return 0
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("action", choices=("write", "compare", "list"))
    parser.add_argument("parts", nargs="+", choices=PARTS)
    parser.add_argument("--root")
    parser.add_argument("--only", help="regular expression: cases whose name has it")
    parser.add_argument("--baseline", help="folder of the numbers; default: ../same_numbers")
    parser.add_argument("--keep", help="folder for the values and runs of this side")
    options = parser.parse_args()
    if options.baseline:
        os.environ["SAME_NUMBERS"] = options.baseline  # for the processes that collect, too
        set_baseline(options.baseline)
    failed = 0
    for part in options.parts:
        if options.action == "list":
            print("\n".join(f"{part}: {name}" for name in cases_of(part)))
        elif options.action == "compare":
            failed += bool(compare(part, options.root, options.only, options.keep))
        else:
            out = BASELINE / part
            out.mkdir(parents=True, exist_ok=True)
            start_collecting(part, options.root, options.only, out, write=True)
            shutil.rmtree(out / "runs", ignore_errors=True)
            for error in out.glob("*.error"):
                failed = 1
                print(error.name, error.read_text())
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
