"""Compares the numbers of two checkouts, bit for bit: a change of shape moves no number.

  git worktree add ../old COMMIT                                  # the checkout whose numbers are to stay
  python benchmarks/same_numbers.py save --root=../old PART...    # an hour on two cores for all parts
  python benchmarks/same_numbers.py compare --root=. PART...      # a line a case; ends with 1 if one differs

  configs    the identity of every method's run, with the values of each suite
  learners   every method after 200 updates on random data: its state, metrics and actions
  offline, online, finetune
             runs by the real commands, some stopped and resumed: their folders' names, CSV files, last
             checkpoints and actions

`--only=REGEX` takes the cases whose name has it: `learners --only='^iql'`. A name is the case: a method and
its settings, or what a command gets. The numbers are kept in --baseline; `compare --keep=FOLDER` keeps those
of the other side, and its runs. Arrays of a state may have other names; what is new is only noted.
"""

import argparse
import ast
import collections
import csv
import hashlib
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import Any

import numpy as np

Values = dict[str, np.ndarray]
Flags = dict[str, str]
PAIRS = """
xql+reverse_kl xql+max_q xql+trust_region xql+weighted_flow xql+flow xql+mixture xql+squashed bc+mixture
xql+reverse_kl+state_gaussian xql+trust_region+mixture xql_bellman+reverse_kl+mixture sql+reverse_kl qql+max_q
eql+trust_region q_iteration+reverse_kl bear+mixture awac+mixture brac_p+squashed onestep+squashed
"""
STRESSED = "max_grad_norm=0.05 num_critics=4 dropout_rate=0.1 scheduled=150"  # as far as a method has these
OPTIONS = """
xql loss=plain clip_rule=both clip=1.0
xql loss=plain clip_rule=above clip=1.0
xql loss=rescaled clip_rule=saturate clip=1.0
xql loss=log clip_rule=saturate clip=1.0
xql v_updates=2 layer_norm=True num_critics=1
xql uniform_actions=2 action_noise=0.1 critic_weight_decay=0.1
xql critic_loss=huber num_critics=4 max_grad_norm=0.1 decay_actor_lr=False
xql tau=0.1 discount=0.5 beta=0.5 awr_temperature=10.0 max_weight=1.5
xql beta_nats=0.5 clip_rule=saturate policy_nats=0.3
xql members=2
xql_bellman critic_loss=huber num_critics=1 errors_share=0.5 least_beta=0.3
qql least_scale=2.0 uniform_actions=1
mxql order=6 beta=0.5
iql critic_loss=huber layer_norm=True expectile=0.9
dvl_chi2 uniform_actions=2 action_noise=0.2
value_iteration loss=log v_updates=2 layer_norm=True
q_iteration loss=plain num_critics=3 uniform_actions=1
sac uses_value_network=False
sac v_updates=2 layer_norm=True actor_period=2
xsac loss=log clip_rule=saturate clip=1.0
xtd3 loss=plain clip_rule=above clip=1.0
td3 actor_period=1 target_period=1 kernel_init=uniform
td3 members=2
td3_bc q_weight=0.0
rebrac critic_layer_norm=False actor_bc_coef=1.0 critic_bc_coef=1.0
cql deterministic_backup=False cql_actions=3
cql cql_threshold=1.0 max_grad_norm=0.1 members=2
brac_p divergence=mmd divergence_samples=2 backup_actions=3 min_share=0.5
bear kernel=gaussian backup_actions=2 mmd_threshold=2.0 mmd_sigma=3.0
awac value_actions=2
onestep value_actions=2 num_critics=2
rlpd num_min_critics=1 backup_entropy=False actor_period=1
rlpd critic_layer_norm=False num_min_critics=4 target_entropy_share=2.0
dt num_heads=2 num_layers=2 max_timesteps=8 dropout_rate=0.0 weight_decay=1.0
xql+mixture num_components=2
xql+trust_region anchor_tau=0.1 cloning_updates=20.0
"""
TASKS = """
pointmaze-umaze-v0 pointmaze-large-rare-v0 maze2d-umaze-v1 antmaze-umaze-v0 antmaze-large-diverse-v2
hopper-medium-v2 kitchen-complete-v0 pen-human-v1 door-cloned-v1
cube-single-play-singletask-v0 scene-play-singletask-v0 cube-triple-play-singletask-v0
"""
ONLINE_TASKS = "cartpole-swingup cheetah-run walker-run hopper-hop quadruped-run HalfCheetah-v5"
MAZE, COMPILED = "pointmaze-umaze-v0", "--env_name=jax_point_mass:PlanarPointMass --num_environments=5"
# What the runs have in common; a case may say otherwise.
USUAL = "--num_seeds=2 --eval_episodes=2 --hidden_dims=32,32 --notqdm"
EVERY = "--log_interval=100 --eval_interval=1000 --checkpoint_interval=1000"
IN_STEPS = f"--max_steps=2000 --batch_size=32 {EVERY} {USUAL}"
COMMANDS = {
    "offline": f"--env_name={MAZE} --max_steps=200 --log_interval=20 --eval_interval=100 {USUAL}",
    "online": f"--env_name={MAZE} --network=small --bellman_error_interval=500 --warmup_steps=200 {IN_STEPS}",
    "finetune": f"--env_name={MAZE} --num_pretraining_steps=200 {IN_STEPS}",
}
# own: the data are a file; stopped=STEP: SIGTERM after that checkpoint, then --resume; checkpoint: of a run.
RUNS = {
    "offline": """
--method=xql
--method=iql
--method=bc
--method=bc10
--method=sql
--method=td3_bc
--method=rebrac
--method=cql
--method=dt --embed_dim=16 --num_layers=1 --context_length=5 --hidden_dims=
--method=xql+reverse_kl
--method=bc+mixture
--method=xql_bellman
--method=awac
--method=bear
--method=xql '--sweep=beta=0.2,1 tau=0.005,0.1'
--method=xql --normalize_observations --top_returns=0.5 --eval_at_start
stopped=1000 --method=xql --max_steps=6000 --log_interval=1000 --eval_interval=3000 --checkpoint_interval=1000
own --method=xql
own --method=rebrac
""",
    "online": f"""
--method=sac
--method=xsac
--method=td3
--method=xtd3_dq
--method=sac {COMPILED}
--method=xsac {COMPILED}
--method=xtd3 {COMPILED}
--method=td3 --updates_per_step=0.25 --buffer_size=500 {COMPILED}
stopped=1000 --method=sac --max_steps=4000 {COMPILED}
--method=td3 --env_name=pendulum-swingup
--method=sac --env_name=InvertedPendulum-v5 --uses_value_network=false
--method=td3 --num_environments=4 --max_policy_lag=20
--method=td3 --num_environments=2 --processes --num_seeds=1
--method=xtd3 --buffer_size=500
--method=xsac --sweep=beta=1,4 --num_seeds=1 --max_steps=1000
""",
    "finetune": """
--method=xql
--method=iql --replay_buffer_size=6000 --init_dataset_size=5000
--method=cql
--method=xql+mixture
--method=td3_bc
--method=rlpd --num_pretraining_steps=0 --num_critics=2 --warmup_steps=200
--method=xql --offline_fraction=0.5 '--online=beta=1:0.2 actor_lr=1e-4' --updates_per_step=0.5
checkpoint --method=xql
""",
}
PARTS = ("configs", "learners", *RUNS)
CLOCKS = re.compile(r"second|per_s$|_time$|policy_lag_s")  # columns that no two runs share


def main() -> int:
    if sys.argv[1:2] == ["collect"]:
        return collect(*sys.argv[2:])
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("action", choices=("save", "compare"))
    words.add_argument("parts", nargs="+", choices=PARTS)
    words.add_argument("--root", type=Path, required=True, help="the checkout")
    words.add_argument("--only", default="", help="regular expression: cases whose name has it")
    words.add_argument("--baseline", type=Path, default=Path("../same_numbers"), help="folder of the numbers")
    words.add_argument("--keep", type=Path, help="folder for what `compare` collects")
    options = words.parse_args()
    baseline, failed = options.baseline.resolve(), 0
    for part in options.parts:
        if options.action == "save":
            failed += collect_elsewhere(part, options, baseline / part)
            continue
        with tempfile.TemporaryDirectory(prefix="same-numbers-") as temporary:
            there = (options.keep or Path(temporary)).resolve() / part
            shutil.rmtree(there, ignore_errors=True)
            collect_elsewhere(part, options, there, saved=baseline / part)
            failed += compare(part, options.only, baseline / part, there)
    return int(failed > 0)


def collect_elsewhere(part: str, options: argparse.Namespace, out: Path, saved: Path | None = None) -> int:
    """Collects (what is saved) in a process whose xql_jax is the root's, on a CPU with XLA's own settings."""
    root, out_of_reach = options.root.resolve(), ("XLA_FLAGS", "PYTHONPATH")
    kept = {name: x for name, x in os.environ.items() if name not in out_of_reach and name[:4] != "JAX_"}
    out.mkdir(parents=True, exist_ok=True)
    ours = {
        "PYTHONPATH": os.pathsep.join((str(root), str(root / "tests" / "envs"))),
        "JAX_PLATFORMS": "cpu",
        "JAX_COMPILATION_CACHE_DIR": str(options.baseline.resolve() / "cache"),  # equal programs compile once
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    command = [sys.executable, __file__, "collect", part, str(root), options.only, str(out), str(saved or "")]
    return subprocess.run(command, cwd=out, env=kept | ours, check=False).returncode


def collect(part: str, root: str, only: str, out: str, saved: str) -> int:
    """Writes OUT/CASE.npz or OUT/CASE.error for each case (that is saved); returns how many failed."""
    import xql_jax

    assert Path(xql_jax.__file__).is_relative_to(root), xql_jax.__file__
    failed = 0
    for name in filter(re.compile(only).search, cases_of(part)):
        file, began = Path(out) / file_name(name), time.perf_counter()
        if saved and not (Path(saved) / f"{file.name}.npz").exists():
            continue
        folder = file.with_name(f"{file.name}.runs")
        shutil.rmtree(folder, ignore_errors=True)
        for ending in (".npz", ".error"):
            file.with_name(file.name + ending).unlink(missing_ok=True)
        try:
            if part == "configs":
                values = identities(*name.split())
            elif part == "learners":
                values = learned(*name.split())
            else:
                values = of_run(trained(part, shlex.split(name), Path(root), folder))
            np.savez_compressed(file.with_name(f"{file.name}.npz"), case=name, **values)
        except Exception:
            failed += 1
            file.with_name(f"{file.name}.error").write_text(traceback.format_exc()[-3_000:])
        print(f"{part}: {name}: {time.perf_counter() - began:.0f} s", file=sys.stderr, flush=True)
    return failed


def cases_of(part: str) -> list[str]:
    from xql_jax.learners.registry import OFFLINE, ONLINE

    if part in RUNS:
        return RUNS[part].strip().splitlines()
    offline = [*OFFLINE, *PAIRS.split()]
    if part == "configs":
        pairs = [(kind, method) for kind in ("offline", "finetune", "tuned") for method in offline]
        pairs += [(kind, method) for kind in ("online", "small") for method in ONLINE]
        return [f"{kind} {method}" for kind, method in pairs]
    alone = [*OFFLINE, *ONLINE]
    return [*alone, *(f"{name} {STRESSED}" for name in alone), *PAIRS.split(), *OPTIONS.strip().splitlines()]


def file_name(case: str) -> str:
    return re.sub(r"[^\w.,=+-]", "~", case, flags=re.ASCII)[:200]


def identities(kind: str, method: str) -> Values:
    """The identity of the method's run on each task of its kind that it can have, entry by entry."""
    from xql_jax.errors import UserError
    from xql_jax.runs.config_files import choose_config
    from xql_jax.runs.folder import identity_of
    from xql_jax.runs.kinds import Finetune, Offline, Online
    from xql_jax.runs.resolve import resolved, settings_from

    kinds = {"finetune": Finetune, "online": Online, "small": Online}
    values = {}
    for task in (ONLINE_TASKS if kind in ("online", "small") else TASKS).split():
        given: dict[str, Any] = {"env_name": task}
        given |= {"small": {"network": "small"}, "tuned": {"tuned": True}}.get(kind, {})
        try:
            config = choose_config(kinds.get(kind, Offline), method, **given)
            identity = identity_of(resolved(settings_from(config, given)))
        except UserError as error:
            values[f"{task} refused"] = np.array(str(error))
            continue
        entries = {**identity, **identity["config"], "config": sorted(identity["config"])}
        values |= {f"{task} {name}": np.array(str(value)) for name, value in entries.items()}
    return values


def learned(method: str, *settings: str) -> Values:
    """The state, metrics and actions of a method after 200 updates on random data."""
    import jax
    import jax.numpy as jnp

    from xql_jax.learners.registry import make_learner
    from xql_jax.settings import values_of

    updates, size, rows = 200, 32, 512
    known = values_of(make_learner(method))
    given: dict[str, Any] = {name: (32, 32) for name in known if name.endswith("_hidden_dims")}
    given |= {"embed_dim": 16, "num_layers": 1, "context_length": 5, "max_timesteps": 20}
    given |= {"actor_warmup_steps": 50.0, "warm_start": 100.0, "cloning_updates": 100.0}
    given |= {"num_critics": 4, "actor_period": 5} if method == "rlpd" else {}
    for setting in settings:
        name, _, text = setting.partition("=")
        given[name] = text if text[0].isalpha() and text not in ("True", "False") else ast.literal_eval(text)
    learner = make_learner(method, {name: value for name, value in given.items() if name in known})
    if "scheduled" in given:
        learner = learner.scheduled(given["scheduled"])

    generator = np.random.default_rng(7)
    fields: dict[str, Any] = {
        "observations": generator.normal(size=(rows, 5)),
        "actions": generator.uniform(-1, 1, (rows, 2)),
        "rewards": generator.normal(size=rows),
        "masks": generator.integers(0, 5, rows) > 0,
        "next_observations": generator.normal(size=(rows, 5)),
        "next_actions": generator.uniform(-1, 1, (rows, 2)),
    }
    fields = {name: field.astype(np.float32) for name, field in fields.items()}
    fields["returns_to_go"] = np.cumsum(fields["rewards"][::-1])[::-1]
    example = fields["observations"][:1], fields["actions"][:1]
    indices = generator.integers(0, rows, (updates, size)).astype(np.int32)
    if "known" in learner.batch_type._fields:  # windows
        steps = np.arange(rows)[:, None] + np.arange(given["context_length"])
        for name in ("observations", "actions", "returns_to_go"):
            fields[name] = fields[name].take(steps, axis=0, mode="wrap")
        fields["timesteps"] = (steps % 30).astype(np.int32)
        fields["known"] = np.arange(steps.shape[1]) >= (np.arange(rows) % 3)[:, None]
        fields["highest_return"] = np.full(rows, 5.0, np.float32)
    data = learner.batch_type(**{name: fields[name] for name in learner.batch_type._fields})

    def run(state, key):
        def minibatch(index):
            return jax.tree.map(lambda field: jnp.take(field, jnp.asarray(indices)[index], axis=0), data)

        def update(index, carry):
            state, _, sums = carry
            state, metrics = learner.update(state, minibatch(index), jax.random.fold_in(key, index))
            return state, metrics, jax.tree.map(jnp.add, sums, metrics)

        shapes = jax.eval_shape(learner.update, state, minibatch(0), key)[1]
        none = jax.tree.map(lambda of: jnp.zeros(of.shape, of.dtype), shapes)
        return jax.lax.fori_loop(0, updates, update, (state, none, none))

    keys = jax.random.split(jax.random.key(3), given.get("members", 1))
    states = [jax.jit(learner.init)(key, *example) for key in keys]
    if len(keys) > 1:
        state, *metrics = jax.jit(jax.vmap(run))(jax.tree.map(lambda *all_: jnp.stack(all_), *states), keys)
    else:
        state, *metrics = jax.jit(run)(states[0], keys[0])
    values = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(state):
        is_key = jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        values[f"leaf {jax.tree_util.keystr(path)}"] = np.asarray(
            jax.random.key_data(leaf) if is_key else leaf
        )
    for words, of_name in zip(("last", "sum of"), metrics, strict=True):
        values |= {f"{words} {name}": np.asarray(value) for name, value in of_name.items()}
    if len(keys) == 1:
        observations = generator.normal(size=(5, 5)).astype(np.float32)
        for deterministic in (True, False):
            actions = jax.jit(learner.act, static_argnums=3)(
                learner.actor(state), observations, keys[0], deterministic
            )
            values[f"actions, {deterministic=}"] = np.asarray(actions)
    jax.clear_caches()
    return values


def trained(part: str, words: list[str], root: Path, folder: Path) -> Path:
    """Trains the case's run below the folder, and returns the run's own folder."""
    how = words[0] if words[0][0] != "-" else ""
    flags = flags_of(COMMANDS[part].split()) | flags_of(words)
    folder.mkdir(exist_ok=True)
    if how == "own":
        write_own(folder / "mine.npz")
        flags |= flags_of([f"--dataset={folder}/mine.npz", "--env_name="])
    if how == "checkpoint":
        first = trained("offline", words[1:], root, folder / "first")
        of_checkpoint = (
            "--env_name=",
            "--num_seeds=",
            "--num_pretraining_steps=",
            "--method=",
            "--hidden_dims=",
        )
        flags |= flags_of([f"--checkpoint={first}", *of_checkpoint])
    command = [sys.executable, str(root / "experiments" / f"train_{part}.py"), f"--save_dir={folder}/runs"]
    command += [flag for flag in flags.values() if flag[-1] != "="]
    with (folder / "log.txt").open("a") as log:
        if how.startswith("stopped"):
            step = how.partition("=")[2]
            process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log)
            while process.poll() is None and not [*folder.glob(f"runs/*/*/*/checkpoints/{step}")]:
                time.sleep(0.005)
            process.send_signal(signal.SIGTERM)
            process.wait()
            command.append("--resume")
        if subprocess.run(command, cwd=folder, stdout=log, stderr=log, check=False).returncode:
            raise RuntimeError((folder / "log.txt").read_text()[-3_000:])
    (config,) = folder.glob("runs/*/*/*/config.json")
    return config.parent


def flags_of(words: list[str]) -> Flags:
    """Each flag by its name; one without a value after "=" takes an earlier one back."""
    return {word.partition("=")[0]: word for word in words if word[0] == "-"}


def write_own(path: Path) -> None:
    generator, rows = np.random.default_rng(11), 3_000
    ends = np.arange(1, rows + 1) % 100 == 0
    terminals = ends & (generator.random(rows) < 0.5)
    fields = {
        "observations": generator.normal(size=(rows, 4)),
        "actions": generator.uniform(-1, 1, (rows, 2)),
        "rewards": generator.normal(size=rows),
    }
    fields = {name: field.astype(np.float32) for name, field in fields.items()}
    np.savez(path, **fields, terminals=terminals, timeouts=ends & ~terminals)


def of_run(run: Path) -> Values:
    """What a run has left: its folder's name, CSV files and last checkpoint, and its members' actions."""
    import xql_jax

    values = {"folder": np.array("/".join(run.parts[-3:]))}
    for path in run.glob("*.csv"):
        with path.open(newline="") as file:
            lines = list(csv.DictReader(file))
        values |= {
            f"{path.name} {column}": np.array([line[column] for line in lines], dtype=str)
            for column in (lines[0] if lines else ())
            if not CLOCKS.search(column)
        }
    last = max((run / "checkpoints").glob("[0-9]*"), key=lambda path: int(path.name))
    for path in last.rglob("*.npz"):
        with np.load(path) as arrays:
            values |= {f"leaf {path.stem} {name}": arrays[name] for name in arrays.files}
    policy = xql_jax.load_policy(run)
    observations = np.random.default_rng(1).normal(size=(5, policy.observation_dim)).astype(np.float32)
    for number, member in enumerate(policy.members):
        one = policy.select(seed=member.seed, **member.hyperparameters) if len(policy.members) > 1 else policy
        one.begin()
        values[f"actions of member {number}"] = np.asarray(one(observations))
    return values


def compare(part: str, only: str, old: Path, new: Path) -> int:
    """Prints a line for each saved case, and returns how many differ or failed."""
    count = differing = 0
    for file in sorted(old.glob("*.npz")):
        saved, there = load(file), new / file.name
        if not re.search(only, str(saved["case"])):
            continue
        if there.exists():
            lines, notes = differences(saved, load(there))
        else:
            error = there.with_suffix(".error")
            lines, notes = error.read_text().splitlines()[-5:] if error.exists() else ["was not reached"], ""
        count, differing = count + 1, differing + bool(lines)
        print(f"{part}: {saved['case']}: {'DIFFERS' if lines else 'equal'}{notes}")
        print("".join(f"    {line}\n" for line in lines[:12]), end="")
    print(f"{part}: {count - differing} of {count} cases equal")
    return differing + (not count)


def load(path: Path) -> Values:
    with np.load(path) as arrays:
        return {name: arrays[name] for name in arrays.files}


def differences(old: Values, new: Values) -> tuple[list[str], str]:
    """Returns a line for each value that differs or lacks, and a note of what is new."""
    lines = [
        f"{name}: {difference(value, new[name]) if name in new else 'missing'}"
        for name, value in old.items()
        if not name.startswith("leaf ") and not (name in new and same(value, new[name]))
    ]
    there = collections.Counter(mark(value) for name, value in new.items() if name.startswith("leaf "))
    for name, leaf in old.items():
        if name.startswith("leaf "):
            if not there[mark(leaf)]:
                lines.append(f"{name}: {difference(leaf, new[name]) if name in new else 'no equal array'}")
            elif leaf.ndim:  # numbers, such as counts, may be kept once
                there[mark(leaf)] -= 1
    added = [name for name in new if name not in old]
    return lines, f" (new: {', '.join(added[:3])}{', ...' * (len(added) > 3)})" if added else ""


def mark(array: np.ndarray) -> tuple[object, ...]:
    array = np.ascontiguousarray(array)
    return array.shape, str(array.dtype), hashlib.sha256(array.tobytes()).digest()


def same(old: np.ndarray, new: np.ndarray) -> bool:
    if old.dtype.kind == "U" == new.dtype.kind:  # whose widths may differ
        return old.shape == new.shape and bool((old == new).all())
    return mark(old) == mark(new)


def difference(old: np.ndarray, new: np.ndarray) -> str:
    if old.shape != new.shape:
        return f"shape {old.shape} -> {new.shape}"
    place = int((old != new).ravel().argmax())
    first = f"{old.ravel()[place]!s:.200} -> {new.ravel()[place]!s:.200}"
    try:
        numbers = [array.ravel().astype(np.float64) for array in (old, new)]
    except ValueError:
        return first
    with np.errstate(all="ignore"):
        gaps = np.abs(numbers[0] - numbers[1]) / np.maximum(*map(np.abs, numbers))
    count = int((old != new).sum())
    return f"{count} of {old.size} differ, by up to {np.nanmax([*gaps, 0]):.2g} of their size; {first}"


if __name__ == "__main__":
    sys.exit(main())
