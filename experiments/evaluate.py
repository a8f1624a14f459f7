"""Evaluates the policies of a run: mean, median and 95% interval of their scores, and other quantities.

Examples:
  xql-evaluate results/kitchen-complete-v0/xql/seeds0-2_1a2b3c4d --episodes=100
  xql-evaluate results/.../checkpoints/20000 --member=1 --video=member1.mp4

The argument is a run's folder, or one of its checkpoints; the default is the last checkpoint. Nothing in the
folder is changed.
"""

from typing import Any

import numpy as np

from xql_jax.errors import UserError
from xql_jax.numerics.statistics import mean_and_interval, wilson_interval
from xql_jax.rollout.quantities import QUANTITIES, Quantity, shown
from xql_jax.settings import settings_of
from xql_jax.suites.tasks import get_task
from xql_jax.workshop.commands import command_line
from xql_jax.workshop.tools.evaluate import EvaluationSettings, evaluate


def main(settings: EvaluationSettings) -> int:
    if (
        settings.video is None
        and settings.video_episodes != settings_of(EvaluationSettings)["video_episodes"].default
    ):
        raise UserError("--video_episodes: only used for a video: add --video=FILE")
    report = evaluate(settings)
    members = report["members"]
    print_members(members, report["quantity"])
    meaning = get_task(report["env_name"]).suite.success
    if meaning and any(entry["success_rate"] is not None for entry in members):
        print(f"  success: {meaning}")
    if "video_scores" in report:
        numbers = ", ".join(shown(score) for score in report["video_scores"])
        print(f"video of {members[0]['member']}: {settings.video}; {report['quantity']}s {numbers}")
    if settings.output:
        print(f"results: {settings.output}")
    return 0


def print_members(members: list[dict[str, Any]], quantity: str) -> None:
    """Prints a line per member and, for several seeds of one setting, their mean with its interval."""
    settings: dict[str, list[dict[str, Any]]] = {}
    success = QUANTITIES["success_rate"]
    for entry in members:
        interval, rate = entry["score_interval_95"], entry["success_rate"]
        note = " (diverged in training)" if entry["diverged"] else ""
        if entry["non_finite_actions"]:
            note = " (diverged: actions that were not finite became the centre)"
        words = [f"median {shown(entry['score_median'])}"]
        if rate is not None:
            words.append(success.in_words(rate, entry["success_interval_95"]))
        words += [one.in_words(entry[f"{one.name}_mean"]) for one in others(entry, quantity)]
        print(
            f"  {entry['member']}: {quantity} {shown(entry['score_mean'])}"
            + (f" ± {shown(interval)} (95% interval over episodes)" if interval is not None else "")
            + f", {', '.join(words)}{note}"
        )
        settings.setdefault(entry["setting"], []).append(entry)
    for of_setting in settings.values():
        if len(of_setting) > 1:
            _, _, setting = of_setting[0]["member"].partition(", ")
            mean, half_width = mean_and_interval(np.array([entry["score_mean"] for entry in of_setting]))
            words = [f"{shown(mean)} ± {shown(half_width)} (95% interval over seeds)"]
            if successes := [one for entry in of_setting for one in entry["successes"] or ()]:
                interval = wilson_interval(sum(successes), len(successes))
                words.append(f"{success.in_words(np.mean(successes), interval)} (over all episodes)")
            for one in others(of_setting[0], "return"):
                if one.over_seeds:  # NaN for a member of whose episodes none told it
                    means = np.array([entry[f"{one.name}_mean"] for entry in of_setting], np.float64)
                    words.append(one.in_words(*map(float, mean_and_interval(means))))
            print(f"  {f'{setting}: ' if setting else ''}mean of {len(of_setting)} seeds: {'; '.join(words)}")


def others(entry: dict[str, Any], quantity: str) -> list[Quantity]:
    """Returns the quantities that a member's line names by their means alone, without this one."""
    named = [one for one in QUANTITIES.values() if one.name not in ("score", "success_rate", quantity)]
    return [one for one in named if entry[f"{one.name}_mean"] is not None]


if __name__ == "__main__":
    command_line.run(main, EvaluationSettings)
