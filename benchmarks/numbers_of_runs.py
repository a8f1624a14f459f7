"""Runs by the real commands, for same_numbers.py: offline, online, compiled, fine-tuned; exports; figures."""

# ruff: noqa: E501
import hashlib
import os
import subprocess
import sys

import numpy as np
from workshop import actions_of, load, table, values_of_run

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
    cases["xql normalized"] = {
        "method": "xql",
        "arguments": ["--normalize_observations", "--top_returns=0.5", "--eval_at_start"],
    }
    cases["xql extended"] = {
        "method": "xql",
        "kind": "extended",
        "arguments": ["--config.decay_actor_lr=false"],
    }
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
        shop.run("train_offline", MAZE, *arguments, "--resume")
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
    runs = shop.runs()
    longest = max(runs, key=lambda run: (len(table(run / "metrics.csv")["step"]), str(run)))
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
    configs = {name: f"--method={name}" for name in ("sac", "xsac", "td3", "td3_dq", "xtd3", "xtd3_dq")}
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
        "--method=rlpd",
        "--num_pretraining_steps=0",
        "--config.num_critics=2",
        "--warmup_steps=200",
    ]
    cases["finetune rlpd"] = {"main": "train_finetune", "arguments": rlpd}
    config = "--method=xql"
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
    arguments = [MAZE, "--method=sac", *ONLINE, "--num_seeds=1", "--max_steps=600"]
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
        "policy, _ = act.load(sys.argv[1] + '/policy.npz'); "
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


def figures_cases():
    return {"theory's": {"arguments": ["--figure=2,4"]}}


def collect_figures(case, shop):
    """The tables of the figures that need no runs, by the real command."""
    shop.run("figures", *case["arguments"], f"--output={shop.folder}/figures", "--formats=png")
    tables = sorted((shop.folder / "figures").glob("*.csv"))
    return {f"value/{path.name}/{name}": x for path in tables for name, x in table(path).items()}
