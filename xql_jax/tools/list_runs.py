"""The list of runs that `xql-runs` prints."""

import dataclasses
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence

from xql_jax.errors import UserError, nearest
from xql_jax.reports.method_scores import (
    FINGERPRINT,
    MethodScore,
    RunFacts,
    RunMember,
    data_differ,
    method_scores,
)
from xql_jax.reports.run_summary import grouped
from xql_jax.reports.score_table import with_interval
from xql_jax.tools.read_runs import read_runs
from xql_jax.training.members import fields_given

COLUMNS = ("state", "task", "method", "name")  # what a filter knows besides settings
NO_DIFFERENCE = ("config.algorithm", "sweep")  # shown otherwise
SORTS = ("task", "score", "when", "name")


@dataclasses.dataclass(frozen=True)
class ListedRun:
    """One entry of a list of runs."""

    name: str  # its folder, relative to the folder that was searched
    state: str  # finished, running, interrupted or damaged
    note: str = ""  # why it is damaged
    task: str = ""
    method: str = ""
    seeds: tuple[int, int] = (0, 0)  # first and last
    how_far: str = ""  # unless it is finished
    scores: Sequence[MethodScore] = ()  # the finite ones, of a sweep by setting
    written: float = 0.0  # when its files last changed, in seconds since the epoch
    settings: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @property
    def best(self) -> MethodScore | None:
        return max(self.scores, default=None, key=lambda score: score.mean)

    @property
    def score(self) -> float:
        """The mean over the seeds at the last evaluation; in a sweep, the best setting's."""
        return self.best.mean if self.best else math.nan

    @property
    def half_width(self) -> float:
        """Half the width of the score's 95% interval."""
        return self.best.interval if self.best else math.nan

    @property
    def score_text(self) -> str:
        """The score, its 95% interval, in a sweep the setting, and whether it is a return."""
        if not (best := self.best):
            return ""
        text = with_interval(best.last)
        if swept := best.members[0].swept:
            text += f" ({swept})"
        if not best.is_normalised:
            text += " (return)"
        if best.diverged:
            text += f" ({best.diverged} diverged)"
        return text

    def value(self, key: str) -> str | None:
        """Returns the value that a filter compares: a column, or a setting without its "config."."""
        known = {column: getattr(self, column) for column in COLUMNS} | dict(self.settings)
        return known.get(key, known.get(f"config.{key}"))


def list_runs(folders: Sequence[str]) -> list[ListedRun]:
    """Reads all runs below the folders, sorted by task, method and name; damaged ones with the reason."""
    results = read_runs(folders)
    members = grouped(results.members, lambda member: member.run.path)
    listed = [ListedRun(name, "damaged", reason) for name, reason in results.left_out]
    listed += [_listed(run, members.get(run.path, [])) for run in results.runs]
    return sorted(listed, key=lambda run: (run.task, run.method, run.name))


def _listed(run: RunFacts, members: Sequence[RunMember]) -> ListedRun:
    varying = dict(fields_given(f"{run.settings.get('sweep', '')} {run.settings.get('ramp', '')}"))
    files = [run.path / name for name in ("summary.json", "evaluations.csv", "metrics.csv")]
    files = [file for file in files if file.exists()] or [run.path / "config.json"]  # users may write in this
    saved = [int(path.name) for path in run.path.glob("checkpoints/*") if path.name.isdigit()]
    return ListedRun(
        name=run.name,
        state=run.status,
        task=run.dataset,
        method=run.algorithm,
        seeds=run.seeds,
        how_far="" if run.status == "finished" else f" at {max(run.step, *saved, 0):,} of {run.max_steps:,}",
        scores=[score for score in method_scores(members) if math.isfinite(score.mean)],
        written=max(file.stat().st_mtime for file in files),
        settings={
            name: varying.get(name.removeprefix("config."), value)
            for name, value in run.settings.items()
            if name not in NO_DIFFERENCE
        },
    )


def filtered(runs: Sequence[ListedRun], text: str) -> list[ListedRun]:
    """Returns the runs that match every NAME=VALUE of the text, such as 'method=xql beta=1'.

    A name is a column of the list or a setting; UserError if no run has it. Spaces within brackets belong to
    a value, such as [256, 256]. If a run swept the setting, only the scores with the value are kept.
    """
    chosen = list(runs)
    for part in re.sub(r",\s+(?=[^[]*\])", ",", text).split():
        key, equals, wanted = part.partition("=")
        if not equals or not key:
            raise UserError(f"--filter wants NAME=VALUE NAME=VALUE ..., not {part!r}")
        if key not in COLUMNS and all(run.value(key) is None for run in runs if run.state != "damaged"):
            known = {*COLUMNS, *(name.removeprefix("config.") for run in runs for name in run.settings)}
            raise UserError(f"--filter: no run has {key!r}; nearest: {nearest(key, known)}")
        chosen = [_with_scores_of(run, key, wanted) for run in chosen if _equal(run.value(key), wanted)]
    return chosen


def _with_scores_of(run: ListedRun, key: str, wanted: str) -> ListedRun:
    name = key.removeprefix("config.")

    def fits(score: MethodScore) -> bool:
        member = score.members[0]
        is_swept = name in dict(fields_given(member.swept.replace(",", "")))
        return not is_swept or _equal(member.settings.get(f"config.{name}"), wanted)

    return dataclasses.replace(run, scores=list(filter(fits, run.scores)))


def _equal(value: str | None, wanted: str) -> bool:
    """Whether a value, or one of a sweep's values, is the wanted one; lists need no spaces and quotes."""
    bare = re.sub(r'[\s"]', "", value or "")
    try:
        return float(wanted) in [float(each) for each in bare.split(",")]
    except ValueError:
        return wanted in (value, bare) or f"[{wanted}]" == bare


def differing(runs: Sequence[ListedRun]) -> list[str]:
    """Returns the names of the settings with several values; that a method lacks one is no difference.

    The data's digest is among them if it tells runs apart that differ in nothing else.
    """
    pairs = {pair for run in runs for pair in run.settings.items() if pair[0] != FINGERPRINT}
    found = [name for name, number in Counter(name for name, _ in pairs).items() if number > 1]
    settings = [{**run.settings, "task": run.task, "method": run.method} for run in runs]
    if data_differ(settings, [*found, "task", "method"]):
        found.append(FINGERPRINT)
    return sorted(found)
