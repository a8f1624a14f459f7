"""Lists of the runs in some folders: their states, the settings in which they differ, their last scores."""

import dataclasses
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from xql_jax.errors import UserError, nearest
from xql_jax.reports.results import Member, RunFacts, grouped
from xql_jax.rollout.scores import mean_and_interval
from xql_jax.runs.reporting import read_runs

STATES = ("finished", "running", "interrupted", "damaged")
LOCKS = Path("/proc/locks")  # on Linux; reading it does not take a lock that could disturb a run
COLUMNS = ("state", "task", "method", "name")  # what a filter knows besides settings
NO_DIFFERENCE = ("config.algorithm", "dataset_fingerprint")  # shown in another column, or a digest


@dataclasses.dataclass(frozen=True)
class ListedRun:
    """One entry of a list of runs."""

    name: str  # its folder, relative to the folder that was searched
    state: str  # one of `STATES`
    reason: str = ""  # why it is damaged
    task: str = ""
    method: str = ""
    seeds: tuple[int, int] = (0, 0)  # first and last
    how_far: str = ""  # unless it is finished
    score: float = math.nan  # mean over the seeds at the last evaluation; in a sweep, the best setting's
    interval: float = math.nan  # half the width of the score's 95% interval
    best_of: str = ""  # in a sweep, the setting with that score
    written: float = 0.0  # when its files last changed, in seconds since the epoch
    settings: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def value(self, key: str) -> str | None:
        """Returns the value that a filter compares.

        Args:
            key: a column of the list, or a setting's name, with or without the prefix "config.".
        """
        known = {column: getattr(self, column) for column in COLUMNS} | dict(self.settings)
        return known.get(key, known.get(f"config.{key}"))


def list_runs(folders: Sequence[str]) -> list[ListedRun]:
    """Reads all runs below the folders, sorted by task, method and name; damaged ones with the reason.

    Raises:
        UserError: if a folder does not exist.
    """
    results, held = read_runs(folders), _locked_files()
    members = grouped(results.members, lambda member: member.run.path)
    listed = [ListedRun(name, "damaged", reason) for name, reason in results.left_out]
    listed += [_listed(run, members.get(run.path, []), held) for run in results.runs]
    return sorted(listed, key=lambda run: (run.task, run.method, run.name))


def filtered(runs: Sequence[ListedRun], text: str) -> list[ListedRun]:
    """Returns the runs that match every condition of the text, such as 'method=xql beta=1'.

    Args:
        text: NAME=VALUE pairs; a name is a column of the list or a setting. Spaces within brackets belong to
            a value, such as [256, 256].
    Raises:
        UserError: if the text has another form, or if no run has a column or setting of that name.
    """
    chosen = list(runs)
    for part in re.sub(r",\s+(?=[^[]*\])", ",", text).split():
        key, equals, wanted = part.partition("=")
        if not equals or not key:
            raise UserError(f"--filter wants NAME=VALUE NAME=VALUE ..., not {part!r}")
        if key not in COLUMNS and all(run.value(key) is None for run in runs if run.state != "damaged"):
            known = {*COLUMNS, *(name for run in runs for name in run.settings)}
            short = [name.removeprefix("config.") for name in sorted(known)]
            raise UserError(f"--filter: no run has {key!r}; nearest: {nearest(key, short)}")
        if key == "state" and wanted not in STATES:
            raise UserError(f"--filter={part}: a state is one of {', '.join(STATES)}")
        chosen = [run for run in chosen if _equal(run.value(key), wanted)]
    return chosen


def differing(runs: Iterable[ListedRun]) -> list[str]:
    """Returns the names of the settings that are not the same in all of these runs."""
    sound = [run for run in runs if run.state != "damaged"]
    names = sorted({name for run in sound for name in run.settings})
    return [name for name in names if len({run.settings.get(name) for run in sound}) > 1]


def differences(runs: Sequence[ListedRun]) -> dict[str, list[str]]:
    """Returns, by run name, the settings that differ among runs of the same task and method: beta=0.5."""
    told = {}
    for group in grouped(runs, lambda run: (run.task, run.method)).values():
        names = differing(group)
        for run in group:
            pairs = ((name, run.settings.get(name)) for name in names)
            told[run.name] = [f"{name.removeprefix('config.')}={value}" for name, value in pairs if value]
    return told


def _equal(value: str | None, wanted: str) -> bool:
    """Whether a value, or one of a sweep's values separated by commas, is the wanted one.

    A list, which is recorded as JSON, may be given without spaces and quotes, [128,128]; a list of one
    element also as that element, mine.npz.
    """
    if value is None:
        return False
    bare = re.sub(r'[\s"]', "", value)
    if wanted in (value, bare) or f"[{wanted}]" == bare:
        return True
    try:
        return float(wanted) in [float(each) for each in value.split(",")]
    except ValueError:
        return False


def _listed(run: RunFacts, members: Sequence[Member], held: set[int]) -> ListedRun:
    lock = run.path / ".lock"
    is_running = lock.exists() and lock.stat().st_ino in held
    state = "running" if is_running else "finished" if run.status == "finished" else "interrupted"
    checkpoints = [int(path.name) for path in run.path.glob("checkpoints/*") if path.name.isdigit()]
    step = max([run.step, *checkpoints])
    scores: list[tuple[float, float, str]] = []
    for swept, of_setting in grouped(members, lambda member: member.swept).items():
        end = max(member.steps[-1] for member in of_setting)
        last = [member.last if member.steps[-1] == end else math.nan for member in of_setting]
        mean, half_width = map(float, mean_and_interval(np.array(last)))
        scores.append((mean, half_width, swept))
    score, interval, best_of = max(
        (entry for entry in scores if math.isfinite(entry[0])),
        key=lambda entry: entry[0],
        default=(math.nan, math.nan, ""),
    )
    sweep = dict(re.findall(r"(\S+?)=(\S+)", run.settings.get("sweep", "")))
    files = [run.path / "evaluations.csv", run.path / "config.json"]
    return ListedRun(
        name=run.name,
        state=state,
        task=run.dataset,
        method=run.algorithm,
        seeds=run.seeds,
        how_far="" if state == "finished" else f" at {step:,} of {run.max_steps:,} {run.unit}s",
        score=score,
        interval=interval,
        best_of=best_of.replace(",", ""),
        written=max(file.stat().st_mtime for file in files if file.exists()),
        settings={
            name: sweep.get(name.removeprefix("config."), value)
            for name, value in run.settings.items()
            if name not in NO_DIFFERENCE
        },
    )


def _locked_files() -> set[int]:
    """Returns the inodes of all files locked by a process; empty if the system does not provide them."""
    try:
        lines = LOCKS.read_text().splitlines()
    except OSError:
        return set()
    return {int(part.split(":")[2]) for line in lines for part in line.split() if part.count(":") == 2}
