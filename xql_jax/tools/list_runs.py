"""The list of runs that `xql-runs` prints."""

import math
import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence

from xql_jax.errors import UserError, nearest
from xql_jax.reports.method_scores import FINGERPRINT, data_differ, method_scores
from xql_jax.reports.read_runs import read_runs
from xql_jax.reports.score_table import MethodScore, with_interval
from xql_jax.rollout.run_summary import grouped
from xql_jax.runs.find import LeftOut
from xql_jax.runs.load import Run
from xql_jax.training.members import fields_given

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


def score_text(scores: Sequence[MethodScore]) -> str:
    """Returns the best score, its 95% interval, in a sweep the setting, and whether it is a return."""
    if not (best := best_of(scores)):
        return ""
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


def values_by_name(run: Run) -> dict[str, str]:
    """Returns what a filter knows: the list's columns, and settings with or without their "config."."""
    settings = shown_settings(run)
    columns = {"state": run.status, "task": run.dataset, "method": run.method, "name": run.name}
    return {name.removeprefix("config."): value for name, value in settings.items()} | settings | columns


def filtered(listed: Mapping[Run, list[MethodScore]], text: str) -> dict[Run, list[MethodScore]]:
    """Returns the runs that match every NAME=VALUE of the text, such as 'method=xql beta=1'.

    A name is a column of the list or a setting; UserError if no run has it. Spaces within brackets belong to
    a value, such as [256, 256]. If a run swept the setting, only the scores with the value are kept.
    """
    chosen = dict(listed)
    values = {run: values_by_name(run) for run in listed}
    for part in re.sub(r",\s+(?=[^[]*\])", ",", text).split():
        key, equals, wanted = part.partition("=")
        if not equals or not key:
            raise UserError(f"--filter wants NAME=VALUE NAME=VALUE ..., not {part!r}")
        if values and not any(key in of_run for of_run in values.values()):
            known = {name.removeprefix("config.") for of_run in values.values() for name in of_run}
            raise UserError(f"--filter: no run has {key!r}; nearest: {nearest(key, known)}")
        chosen = {
            run: [score for score in scores if _fits(score, key.removeprefix("config."), wanted)]
            for run, scores in chosen.items()
            if _equal(values[run].get(key), wanted)
        }
    return chosen


def _fits(score: MethodScore, name: str, wanted: str) -> bool:
    """Whether its run did not sweep the setting, or it is of the wanted value."""
    member = score.members[0]
    return name not in member.swept or _equal(member.settings.get(f"config.{name}"), wanted)


def _equal(value: str | None, wanted: str) -> bool:
    """Whether a value, or one of a sweep's values, is the wanted one; lists need no spaces and quotes."""
    bare = re.sub(r'[\s"]', "", value or "")
    try:
        return float(wanted) in [float(each) for each in bare.split(",")]
    except ValueError:
        return wanted in (value, bare) or f"[{wanted}]" == bare


def differing(runs: Collection[Run]) -> list[str]:
    """Returns the names of the settings with several values; that a method lacks one is no difference.

    The data's digest is among them if it tells runs apart that differ in nothing else.
    """
    settings = list(map(shown_settings, runs))
    pairs = {pair for of_run in settings for pair in of_run.items() if pair[0] != FINGERPRINT}
    found = [name for name, number in Counter(name for name, _ in pairs).items() if number > 1]
    if data_differ(list(map(values_by_name, runs)), [*found, "task", "method"]):
        found.append(FINGERPRINT)
    return sorted(found)
