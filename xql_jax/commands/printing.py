"""The results that the mains print at the end of a run, and their exit codes."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from xql_jax.reports.summary import ranked
from xql_jax.rollout.scores import mean_and_interval
from xql_jax.runs.collection import CollectionRun
from xql_jax.runs.evaluation import EvaluationRun
from xql_jax.runs.export import export_policy
from xql_jax.runs.run import Summary, request
from xql_jax.runs.settings import RunSettings
from xql_jax.runs.tool_settings import ExportSettings
from xql_jax.runs.train import train_run
from xql_jax.training.members import Member

# When an episode counts as a success, by suite.
_MAZE = "the goal was reached at least once in the episode; the score counts the steps that are spent there"
SUCCESS = {
    "pointmaze": _MAZE,
    "maze2d": _MAZE,
    "antmaze": "the goal was reached, which ends the episode",
    "kitchen": "all four subtasks were done, which ends the episode; the score is the share of them",
    "adroit": "the goal was met in more steps than D4RL asks for; the score is of the summed rewards",
}


def train(settings: RunSettings) -> int:
    """Trains, prints how it ended (finished or stopped by a signal), and returns the exit code."""
    print(request(settings), flush=True)  # before training, so that a full disk is not found out after hours
    summary = train_run(settings)
    _print_end(summary)
    return 128 + summary.stopped_by if summary.stopped_by else 0


def _print_end(summary: Summary) -> None:
    content, unit, stopped_by = summary.content, summary.unit, summary.stopped_by
    heading = "this run has ended already" if summary.had_ended else "done"
    if stopped_by:
        heading = f"stopped by {stopped_by.name}; go on with --resume"
    print(f"{heading}: {content['env_name']}, {content['algorithm']}, {content['step']:,} {unit}s")
    results = content["results"]
    if len(results) > 1:
        print(f"  settings by their last score, the best of {len(results)} first:")
    for result in ranked(results):
        print_result(result)
    for entry in content.get("finetuning", []):
        _print_finetuning(entry)
    for divergence in content["diverged"]:
        where = f"{unit} {divergence['step']} ({divergence['quantity']})"
        print(f"  diverged: {divergence['member']} at {where}")
    print(f"  results: {summary.path}")


def print_result(result: Mapping[str, Any]) -> None:
    """Prints a setting's last score, averaged over seeds with its interval, and each seed's score."""
    setting = ", ".join(f"{name}={float(value):g}" for name, value in result["hyperparameters"].items())
    interval, seeds = result["last_score_interval_95"], result["seeds"]
    words = f"(95% interval of the mean over {len(seeds)} seeds)"
    spread = f" ± {interval:.1f} {words}" if interval is not None else ""  # 0.0 if all seeds agree
    by_seed = ", ".join(
        f"{score:.1f}" + (" (diverged)" if seed in result["diverged_seeds"] else "")
        for seed, score in zip(seeds, result["last_score_by_seed"], strict=True)
    )
    print(
        f"  {setting + ': ' if setting else ''}last score {result['last_score']:.1f}{spread}; "
        f"by seed: {by_seed}"
    )


def _print_finetuning(entry: dict[str, Any]) -> None:
    setting = ", ".join(f"{name}={float(value):g}" for name, value in entry["hyperparameters"].items())
    print(
        f"  {setting + ': ' if setting else ''}before → after: {entry['offline_score']:.1f} → "
        f"{entry['online_score']:.1f}; cumulative regret {entry['cumulative_regret']:.2f}"
    )


def evaluate(run: EvaluationRun) -> int:
    """Evaluates the run's policies, prints one line per member, and returns the exit code.

    A member is one seed with one setting of the hyperparameters.
    """
    with run:
        report = run.run()
    members, settings = run.policies.members, run.settings
    _print_members(members, report["members"])
    meaning = SUCCESS.get(run.policies.task.suite)
    if meaning and any(entry["success_rate"] is not None for entry in report["members"]):
        print(f"  success: {meaning}")
    if "video_returns" in report:
        scores = run.policies.task.normalized_score(np.array(report["video_returns"]))
        numbers = ", ".join(f"{score:.1f}" for score in scores)
        print(f"video of {members[0]}: {run.video}; scores {numbers}")
    if settings.output:
        print(f"results: {run.output}")
    return 0


def export(settings: ExportSettings) -> int:
    """Exports a policy, prints where the files are and their scores, and returns the exit code."""
    report = export_policy(settings)
    for name, score in report["scores"].items():
        print(f"  {name}: score {score:.1f}")
    print(f"{report['policy']}: {report['folder']}")
    return 0


def _print_members(members: Sequence[Member | str], entries: Sequence[dict[str, Any]]) -> None:
    """Prints a line per member and, for several seeds of one setting, their mean with its interval."""
    settings: dict[str, list[float]] = {}
    for member, entry in zip(members, entries, strict=True):
        interval, rate = entry["score_interval_95"], entry["success_rate"]
        print(
            f"  {member}: score {entry['score_mean']:.1f}"
            + (f" ± {interval:.1f} (95% interval over episodes)" if interval is not None else "")
            + f", median {entry['score_median']:.1f}, "
            + (f"success {100 * rate:.0f}%, " if rate is not None else "")
            + f"return {entry['return_mean']:.4g}, length {entry['length_mean']:.1f}"
            + (" (diverged: actions that were not finite were 0)" if entry["non_finite_actions"] else "")
        )
        if isinstance(member, Member):
            setting = ", ".join(f"{name}={value:.9g}" for name, value in member.hyperparameters.items())
            settings.setdefault(setting, []).append(entry["score_mean"])
    for setting, scores in settings.items():
        if len(scores) > 1:
            mean, half_width = mean_and_interval(np.array(scores))
            print(
                f"  {f'{setting}: ' if setting else ''}mean of {len(scores)} seeds: {mean:.1f} ± "
                f"{half_width:.1f} (95% interval over seeds)"
            )


def collect(run: CollectionRun, dry_run: bool) -> int:
    """Makes a dataset and prints a line about it; a dry run only prints the plan. Returns the exit code."""
    with run:
        if dry_run:
            print("\n".join(run.plan()))
            return 0
        made = run.run()
        print(
            f"{made['output']}: {made['transitions']:,} transitions, {made['episodes']:,} episodes, "
            f"{made['terminals']:,} terminal; mean return {made['mean_return']:.4g}, "
            f"score {made['mean_score']:.1f}"
        )
    return 0
