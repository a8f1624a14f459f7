"""Checks on this machine's accelerator, in one call of about five minutes, what only a device can show.

  speed       updates/s beside other projects' loops, by accelerator.py; wanted: ours are no slower
  members     one member of eight is the member that trains alone, up to rounding
  resume      a run that was stopped and goes on has the bits of an unbroken one
  divergence  a member whose numbers stop being finite is frozen, and the others go on as without it
  scores      XQL's on the maze in the device's default precision are those of a CPU, by Welch's interval
  whole run   of --updates, with ten episodes in the background every 5,000: at most 15% is not updates

With --xla_options it measures instead, in less than seven minutes, XQL with 1 and 64 members and the other
projects' loops under XLA's options for CUDA graphs, which may run independent kernels side by side. --output
gets the rows, in the form of docs/results/accelerator.csv and with the options.

Each prints a line that begins with PASS, FAIL or, without peers, SKIPPED; the exit code is 1 after a FAIL.
The dearest comes last, so that a call that is cut off has the rest.

Examples:
  python benchmarks/device_check.py --unifloral=iql.py --jaxcorl=xql.py --dataset=hopper-medium-replay.hdf5
  python benchmarks/device_check.py --xla_options --unifloral=iql.py
  JAX_PLATFORMS=cpu python benchmarks/device_check.py --quick
"""

import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
from scipy import stats

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import xql_jax  # noqa: E402

MAZE = "pointmaze-umaze-v0"
CPU_SCORES = ROOT / "docs/results/eight-seeds/pointmaze-umaze-v0_xql.csv"  # 30,000 updates, 20 episodes
ROUNDING = 1e-3  # how far means over a run's first updates may be, of the larger
CONCURRENT = "--xla_gpu_command_buffer_scheduling_mode=CONCURRENT"
WHOLE_LOOP = "--xla_gpu_enable_command_buffer=+WHILE"
XLA_OPTIONS = (
    "",
    CONCURRENT,
    "--xla_gpu_command_buffer_scheduling_mode=LHS",
    WHOLE_LOOP,
    f"{WHOLE_LOOP} {CONCURRENT} --xla_gpu_command_buffer_unroll_loops=true",
    f"{WHOLE_LOOP} {CONCURRENT}",
    "--xla_gpu_graph_min_graph_size=1",
    "--xla_gpu_experimental_force_split_k=1",  # 1 of the 71 kernels fewer, in larger pieces
)
NOT_UPDATES = 0.15  # the most of a whole run's time that is not updates


def trained(folder: Path, name: str, updates: int, **settings: Any) -> xql_jax.Policy:
    """Returns a policy of XQL, on the maze without an evaluation if nothing else is said."""
    usual = {"env_name": MAZE, "eval_episodes": 0, "log_interval": updates, "progress": False}
    return xql_jax.train(max_steps=updates, save_dir=folder / name, **{**usual, **settings})


def metrics(policy: xql_jax.Policy) -> dict[str, dict[str, float]]:
    """The means of metrics over a run, by the member's name."""
    rows = policy.run.rows(policy.run.files.metrics)
    return {f"seed{row.seed}": {key: of for key, of in row.results.items() if "_mean" in key} for row in rows}


def far(ours: dict[str, float], theirs: dict[str, float]) -> float:
    """The largest difference of two rows of metrics, of the larger one."""
    return max(abs(of - theirs[key]) / max(abs(of), abs(theirs[key]), 1e-3) for key, of in ours.items())


def measured(options: argparse.Namespace, folder: Path, *more: str, xla: str = "") -> dict[str, Any]:
    """What accelerator.py finds in a process of its own, with these options of XLA."""
    found, peers = folder / "accelerator.json", {"unifloral": options.unifloral, "jaxcorl": options.jaxcorl}
    found.unlink(missing_ok=True)
    given = [f"--{name}={path}" for name, path in peers.items() if path]
    command = [sys.executable, str(ROOT / "benchmarks/accelerator.py"), f"--output={found}", *given, *more]
    command += ["--online=", "--batch_sizes=256", "--repeats=3", "--seconds=0.4"]
    flags = f"{os.environ.get('XLA_FLAGS', '')} {xla}".strip()
    subprocess.run(command, check=not xla, stdout=sys.stderr, env={**os.environ, "XLA_FLAGS": flags})
    return json.loads(found.read_text()) if found.exists() else {"training": [], "peers": []}


def speed(options: argparse.Namespace, folder: Path) -> tuple[bool | None, str]:
    if not (options.unifloral or options.jaxcorl):
        return None, "no --unifloral and no --jaxcorl"
    sizes = f"--members={1 if options.quick else '1,8,64'}"
    ratios = {
        f"{method} by {row['peer']}'s, {row['members']} members": ratio
        for row in measured(options, folder, "--algorithms=xql,iql", "--minutes=8", sizes)["peers"]
        for method, ratio in row["ours"].items()
    }
    told = ", ".join(f"{name} {ratio:.2f}" for name, ratio in ratios.items())
    return bool(ratios) and min(ratios.values()) >= 1.0, told


def xla_options(options: argparse.Namespace, folder: Path) -> tuple[bool, str]:
    """Without a GPU only the first is measured. This process asks JAX nothing: it would take the memory."""
    lines, started, platform = [], time.perf_counter(), "gpu"
    given = ["--algorithms=xql", "--minutes=0.8", f"--members={1 if options.quick else '1,64'}"]
    given += ["--transitions=10000"] if options.quick else []
    with Path(options.output).open("w", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        columns = "device,jax,what,width,members,batch_size,unit,median,min,max,xla_options"
        table.writerow(columns.split(","))
        for xla in XLA_OPTIONS:
            late = time.perf_counter() - started > 360
            if late or platform != "gpu":
                print(f"SKIPPED {xla}: {'six minutes are gone' if late else 'no GPU'}", flush=True)
                continue
            found = measured(options, folder, *given, xla=xla)
            told, platform = [], found.get("device", {"platform": platform})["platform"]
            for row in (*found["training"], *found["peers"]):
                name, rates = row.get("algorithm") or f"{row['peer']}'s", row["updates_per_second"]
                told.append(f"{name} x {row['members']} {rates['median']:,.0f}")
                who = [found["device"]["kind"], found["versions"]["jax"], name, "", row["members"], 256]
                speeds = [round(rates[of]) for of in ("median", "min", "max")]
                table.writerow([*who, "updates/s", *speeds, xla])
                file.flush()
            lines.append(f"{xla or 'none'}: {', '.join(told) or 'failed'}")
            print(lines[-1], flush=True)
    return not any(line.endswith("failed") for line in lines), f"{len(lines)} settings, updates/s"


def members(options: argparse.Namespace, folder: Path) -> tuple[bool, str]:
    eight = metrics(trained(folder, "eight", 200, seed=0, num_seeds=8, matmul_precision="highest"))
    alone = metrics(trained(folder, "alone", 200, seed=3, matmul_precision="highest"))
    distance = far(eight["seed3"], alone["seed3"])
    return distance < ROUNDING, f"means of 200 updates differ by {distance:.1e} of themselves"


def resume(options: argparse.Namespace, folder: Path) -> tuple[bool, str]:
    whole = trained(folder, "whole", 1_000, num_seeds=3)
    sizes: dict[str, Any] = {"num_seeds": 3, "log_interval": 500}
    half = trained(folder, "halves", 1_000, callbacks=[lambda step, row: step >= 500], **sizes)
    again = trained(folder, "halves", 1_000, **sizes)
    states = [jax.tree.leaves(policy.run.states) for policy in (whole, again)]
    equal = all(map(np.array_equal, *states))
    return equal and half.step == 500, f"stopped after {half.step:,} of {again.step:,}, bits equal: {equal}"


def divergence(options: argparse.Namespace, folder: Path) -> tuple[bool, str]:
    settings: dict[str, Any] = {"num_seeds": 2, "matmul_precision": "highest"}
    calm = trained(folder, "calm", 200, critic_lr=3e-4, **settings)
    wild = trained(folder, "wild", 200, sweep={"critic_lr": [3e-4, 1e30]}, **settings)
    contents = wild.run.progress.members
    frozen = [member for member in wild.members if contents[member.name]["diverged"]]
    states = [jax.tree.leaves(wild.run.states[member.name]) for member in frozen]
    finite = all(np.isfinite(leaf).all() for leaves in states for leaf in leaves)
    others = [member for member in wild.members if member not in frozen]
    pairs = [
        (wild.run.states[member.name].value.params, calm.run.states[f"seed{member.seed}"].value.params)
        for member in others
    ]
    leaves = [zip(*map(jax.tree.leaves, pair), strict=True) for pair in pairs]
    distance = max(float(np.abs(one - other).max()) for pair in leaves for one, other in pair)
    right = len(frozen) == len(others) == 2 and finite and distance < ROUNDING
    return right, f"{len(frozen)} of 4 are frozen, finite: {finite}; others' V differs by {distance:.1e}"


def scores(options: argparse.Namespace, folder: Path) -> tuple[bool, str]:
    updates, episodes = (300, 1) if options.quick else (30_000, 20)
    policy = trained(folder, "scores", updates, seed=0, num_seeds=3)
    ours = [policy.select(seed=seed).evaluate(episodes=episodes)["score_mean"] for seed in policy.run.seeds]
    rows = list(csv.DictReader(CPU_SCORES.open()))
    cpu = [float(row["score"]) for row in rows if row["step"] == "30000"]
    low, high = stats.ttest_ind(ours, cpu, equal_var=False).confidence_interval(0.95)
    told = f"{np.mean(ours):.1f} of 3 seeds, {np.mean(cpu):.1f} of {len(cpu)} on a CPU"
    return low < 0 < high, f"after {updates:,} updates {told}, difference {low:.1f} to {high:.1f}"


def whole_run(options: argparse.Namespace, folder: Path) -> tuple[bool, str]:
    updates, evaluation = (300, (100, 1)) if options.quick else (options.updates, (5_000, 10))
    settings: dict[str, Any] = {"dataset": options.dataset} if options.dataset else {}
    started = time.perf_counter()
    policy = trained(
        *(folder, "long", updates),
        env_name=options.env_name if options.dataset else MAZE,
        eval_interval=evaluation[0],
        eval_episodes=evaluation[1],
        background_evaluation=True,
        log_interval=evaluation[0],
        **settings,
    )
    took, spent = time.perf_counter() - started, policy.run.summary["seconds"]
    share = 1 - spent["update"] / took
    parts = ", ".join(f"{name} {seconds:.1f}" for name, seconds in spent.items())
    told = f"{updates:,} updates in {took:.1f} s ({parts}), {updates / spent['update']:,.0f} updates/s"
    return share <= NOT_UPDATES, f"{told}; not updates: {share:.1%}"


def checks(options: argparse.Namespace) -> Iterator[Callable[[Any, Path], tuple[bool | None, str]]]:
    if options.xla_options:
        yield xla_options
        return
    yield speed  # by another process, so before this one takes the device's memory
    yield from (members, resume, divergence, scores, whole_run)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--unifloral", help="unifloral's algorithms/iql.py, which you fetch")
    parser.add_argument("--jaxcorl", help="JAX-CORL's algos/xql.py, which you fetch")
    parser.add_argument("--xla_options", action="store_true", help="measure XLA's options instead")
    parser.add_argument("--output", default="xla_options.csv", help="where the rows of --xla_options go")
    parser.add_argument("--env_name", default="hopper-medium-replay-v2", help="the task of --dataset")
    parser.add_argument("--dataset", help="a file for the whole run; none: the maze's own data")
    parser.add_argument("--updates", type=int, default=1_000_000, help="of the whole run")
    parser.add_argument("--quick", action="store_true", help="try it on a CPU; scores and shares then fail")
    options, failed, started = parser.parse_args(), False, time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        for check in checks(options):
            right, told = check(options, Path(folder))
            verdict = "SKIPPED" if right is None else "PASS" if right else "FAIL"
            failed |= verdict == "FAIL"
            words = check.__name__.replace("_", " ")
            print(f"{verdict} {words}, {time.perf_counter() - started:.0f} s: {told}", flush=True)
    print(jax.devices()[0].device_kind, "JAX", jax.__version__)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
