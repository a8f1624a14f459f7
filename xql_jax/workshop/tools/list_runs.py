"""The list of runs that `xql-runs` prints."""

import math
from collections.abc import Sequence

from xql_jax.numerics.statistics import grouped
from xql_jax.runs.find import LeftOut
from xql_jax.runs.load import Run
from xql_jax.workshop.reports.scores import MethodScore, method_scores, read_runs, with_interval


def list_runs(folders: Sequence[str]) -> tuple[dict[Run, MethodScore | None], Sequence[LeftOut]]:
    """Reads all runs below the folders, and which are damaged, and why.

    Each run comes with its last score over seeds: in a sweep, the best finite score of all settings.
    """
    listing = read_runs(folders)
    members = grouped(listing.members, lambda member: member.run)
    listed = {}
    for run in listing.runs:
        finite = [score for score in method_scores(members.get(run, [])) if math.isfinite(score.mean)]
        listed[run] = max(finite, default=None, key=lambda score: score.mean)
    return listed, listing.left_out


def score_text(run: Run, best: MethodScore | None) -> str:
    """Returns the best score, its 95% interval, in a sweep the setting, and how many seeds diverged."""
    if not best:
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
