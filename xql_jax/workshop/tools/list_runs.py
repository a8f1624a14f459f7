"""The list of runs that `xql-runs` prints."""

import math
from collections import Counter
from collections.abc import Collection, Sequence

from xql_jax.rollout.run_summary import grouped
from xql_jax.runs.find import LeftOut
from xql_jax.runs.load import Run
from xql_jax.training.members import fields_given
from xql_jax.workshop.reports.method_scores import FINGERPRINT, data_differ, method_scores
from xql_jax.workshop.reports.read_runs import read_runs
from xql_jax.workshop.reports.score_table import MethodScore, with_interval

NO_DIFFERENCE = ("config.algorithm", "sweep")  # shown otherwise
SORTS = ("task", "score", "when", "name")


def list_runs(folders: Sequence[str]) -> tuple[dict[Run, list[MethodScore]], Sequence[LeftOut]]:
    """Reads all runs below the folders, and which are damaged, and why.

    Each run comes with its finite scores: in a sweep, those of all settings.
    """
    found = read_runs(folders)
    members = grouped(found.members, lambda member: member.run)
    listed = {
        run: [score for score in method_scores(members.get(run, [])) if math.isfinite(score.mean)]
        for run in found.runs
    }
    return listed, found.left_out


def best_of(scores: Sequence[MethodScore]) -> MethodScore | None:
    return max(scores, default=None, key=lambda score: score.mean)  # over seeds, at the last evaluation


def score_text(run: Run, scores: Sequence[MethodScore]) -> str:
    """Returns the best score, its 95% interval, in a sweep the setting, and how many seeds diverged."""
    if not (best := best_of(scores)):
        count = len(run.summary.get("diverged", ()))
        return f"({count} diverged)" if count else ""
    text = with_interval(best.last)
    if swept := best.members[0].swept:
        text += f" ({', '.join(f'{name}={value:g}' for name, value in swept.items())})"
    if not best.is_normalised:
        text += " (return)"
    if best.diverged:
        text += f" ({best.diverged} diverged)"
    return text


def shown_settings(run: Run) -> dict[str, str]:
    """Returns the settings by which runs are told apart; what varies within the run has all of its values."""
    settings = run.settings
    varying = dict(fields_given(f"{settings.get('sweep', '')} {settings.get('ramp', '')}"))
    return {
        name: varying.get(name.removeprefix("config."), value)
        for name, value in settings.items()
        if name not in NO_DIFFERENCE
    }


def differing(runs: Collection[Run]) -> list[str]:
    """Returns the names of the settings with several values; that a method lacks one is no difference.

    The data's digest is among them if it tells runs apart that differ in nothing else.
    """
    settings = list(map(shown_settings, runs))
    pairs = {pair for of_run in settings for pair in of_run.items() if pair[0] != FINGERPRINT}
    found = [name for name, number in Counter(name for name, _ in pairs).items() if number > 1]
    known = [
        of_run | {"task": run.dataset, "method": run.method}
        for run, of_run in zip(runs, settings, strict=True)
    ]
    if data_differ(known, [*found, "task", "method"]):
        found.append(FINGERPRINT)
    return sorted(found)
