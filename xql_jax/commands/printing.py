"""What the mains print at a run's end, and their exit codes."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from xql_jax.evaluation.scores import mean_and_interval
from xql_jax.runs import reproduction
from xql_jax.runs.collection import CollectionRun
from xql_jax.runs.evaluation import EvaluationRun
from xql_jax.runs.offline import OfflineRun
from xql_jax.runs.recipe import RecipeRun
from xql_jax.runs.reproduction import Cell, Plan
from xql_jax.runs.run import TrainingRun
from xql_jax.training.members import Member


def train(run: TrainingRun) -> int:
    """Runs it, prints how it ended, by itself or by a signal, and returns the exit code."""
    seeds = run.settings.seeds
    # First, as what cannot be printed must not be found out after hours.
    print(
        f"{run.config.algorithm}: {run.schedule.max_steps:,} {run.unit}s, "
        + (f"seeds {seeds[0]} to {seeds[-1]}" if len(seeds) > 1 else f"seed {seeds[0]}"),
        flush=True,
    )
    with run:
        summary = run.run()
    if run.had_ended:
        heading = "this run has ended already"
    elif run.stop.received is None or summary["status"] == "finished":
        heading = "done"
    else:
        heading = f"stopped by {run.stop.received.name}; go on with --resume"
    print(f"{heading}: {summary['env_name']}, {summary['algorithm']}, {summary['step']:,} {run.unit}s")
    for result in summary["results"]:
        _print_result(result)
    for divergence in summary["diverged"]:
        where = f"{run.unit} {divergence['step']} ({divergence['quantity']})"
        print(f"  diverged: {divergence['member']} at {where}")
    print(f"  results: {run.folder.path}")
    stopped = run.stop.received if summary["status"] != "finished" else None
    return 128 + stopped if stopped else 0


def _print_result(result: dict[str, Any]) -> None:
    setting = ", ".join(f"{name}={float(value):g}" for name, value in result["hyperparameters"].items())
    interval, seeds = result["last_score_interval_95"], result["seeds"]
    spread = f" ± {interval:.1f} (95% interval of the mean over {len(seeds)} seeds)" if interval else ""
    by_seed = ", ".join(
        f"{score:.1f}" + (" (diverged)" if seed in result["diverged_seeds"] else "")
        for seed, score in zip(seeds, result["last_score_by_seed"], strict=True)
    )
    print(
        f"  {setting + ': ' if setting else ''}last score {result['last_score']:.1f}{spread}; "
        f"by seed: {by_seed}"
    )


def evaluate(run: EvaluationRun) -> int:
    """Runs it, prints a line a member, and returns the exit code."""
    with run:
        report = run.run()
    members, settings = run.policies.members, run.settings
    _print_members(members, report["members"])
    if "video_returns" in report:
        scores = run.policies.task.normalized_score(np.array(report["video_returns"]))
        numbers = ", ".join(f"{score:.1f}" for score in scores)
        print(f"video of {members[0]}: {run.video}; scores {numbers}")
    if settings.output:
        print(f"results: {run.output}")
    return 0


def _print_members(members: Sequence[Member | str], entries: Sequence[dict[str, Any]]) -> None:
    """For seeds of the same hyperparameters also one whose interval is over training runs."""
    settings: dict[str, list[float]] = {}
    for member, entry in zip(members, entries, strict=True):
        interval, rate = entry["score_interval_95"], entry["success_rate"]
        print(
            f"  {member}: score {entry['score_mean']:.1f}"
            + (f" ± {interval:.1f}" if interval is not None else "")
            + f" (95% interval over episodes), median {entry['score_median']:.1f}, "
            + (f"success {100 * rate:.0f}%, " if rate is not None else "")
            + f"return {entry['return_mean']:.4g}, length {entry['length_mean']:.1f}"
            + (" (diverged: actions that were not finite were 0)" if entry["non_finite_actions"] else "")
        )
        if isinstance(member, Member):
            setting = ", ".join(f"{name}={value:g}" for name, value in member.hyperparameters.items())
            settings.setdefault(setting, []).append(entry["score_mean"])
    for setting, scores in settings.items():
        if len(scores) > 1:
            mean, half_width = mean_and_interval(np.array(scores))
            print(
                f"  {f'{setting}: ' if setting else ''}mean of {len(scores)} seeds: {mean:.1f} ± "
                f"{half_width:.1f} (95% interval over seeds)"
            )


def plan(planned: Plan) -> None:
    """Prints what a table needs, by state, the data that are missing, and about how long it takes."""
    by_state: dict[str, list[Cell]] = {}
    for cell in planned.cells:
        by_state.setdefault(cell.state, []).append(cell)
    print(", ".join(f"{len(cells)} {state}" for state, cells in by_state.items()) + ":", flush=True)
    for cell in planned.cells:
        seconds = planned.seconds(cell)
        what = {
            reproduction.FINISHED: f"finished: {cell.record.path}" if cell.record else "",
            reproduction.NO_DATA: f"no data: {cell.missing} (train_offline.py downloads D4RL's)",
        }.get(cell.state, f"{cell.state}, {cell.updates:,} updates of {cell.members} members")
        hours = f", about {seconds / 3600:.2g} h" if seconds else ""
        print(f"  {cell.dataset} {cell.method}: {what}{hours}")
    expected = [planned.seconds(cell) for cell in planned.cells if cell.state != reproduction.NO_DATA]
    known = [seconds for seconds in expected if seconds is not None]
    if known:
        print(f"about {sum(known) / 3600:.2g} h, by the runs that are there", flush=True)
    else:
        print("how long it takes will be known when the first run has finished", flush=True)


def cell(of: Cell, run: OfflineRun) -> None:
    """Prints what has become of a table's cell."""
    if run.stop.received:
        print(
            f"{of.dataset} {of.method}: stopped by {run.stop.received.name}; typed again, it goes on",
            flush=True,
        )
        return
    summary = run.folder.finished_summary()
    assert summary is not None  # it has just finished
    print(f"{of.dataset} {of.method}:", flush=True)
    for result in summary["results"]:
        _print_result(result)


def collect(run: CollectionRun | RecipeRun, dry_run: bool) -> int:
    """Runs it and prints a line a set, or in a dry run what it would do; returns the exit code."""
    with run:
        if dry_run:
            print("\n".join(run.plan()))
            return 0
        for made in run.run()["sets"]:
            print(
                f"{made['output']}: {made['transitions']:,} transitions, {made['episodes']:,} episodes, "
                f"{made['terminals']:,} terminal; mean return {made['mean_return']:.4g}, "
                f"score {made['mean_score']:.1f}"
            )
    return 0
