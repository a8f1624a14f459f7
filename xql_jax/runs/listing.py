"""Lists of the runs in some folders: their states, the settings in which they differ, their last scores."""

import dataclasses
import math
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from xql_jax.errors import UserError, nearest
from xql_jax.reports.results import as_text
from xql_jax.reports.summary import LARGEST, summarize
from xql_jax.runs.load import SavedRun, load_run, read_or, run_folders
from xql_jax.training.members import fields_given

STATES = ("finished", "running", "interrupted", "damaged")
LOCKS = Path("/proc/locks")  # on Linux; reading it does not take a lock that could disturb a run
COLUMNS = ("state", "task", "method", "name")  # what `ListedRun.value` knows besides settings
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
    step: int = 0
    max_steps: int = 0
    unit: str = "step"
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
    """Reads all runs below the folders; damaged ones are listed with the reason.

    Returns:
        The runs, sorted by task, method and name.
    Raises:
        UserError: if a folder does not exist.
    """
    held = _locked_files()
    listed = []
    seen: set[Path] = set()
    for name in folders:
        root = Path(name).expanduser()
        if not root.is_dir():
            raise UserError(f"{name}: no such folder: name folders of runs, or folders that contain runs")
        for folder in run_folders(root):
            if folder.resolve() in seen:
                continue
            seen.add(folder.resolve())
            shown = str(folder.relative_to(root)) if len(folders) == 1 and folder != root else str(folder)
            listed.append(_listed(shown, folder, held))
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
    groups: dict[tuple[str, str], list[ListedRun]] = {}
    for run in runs:
        groups.setdefault((run.task, run.method), []).append(run)
    told = {}
    for group in groups.values():
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


def _listed(name: str, folder: Path, held: set[int]) -> ListedRun:
    return read_or(
        name,
        folder,
        lambda: _read(name, load_run(folder), held),
        lambda reason: ListedRun(name, "damaged", reason),
    )


def _read(name: str, record: SavedRun, held: set[int]) -> ListedRun:
    content, summary = record.content, record.summary
    is_running = _inode(record.path / ".lock") in held
    results: Any = None if is_running else summary.get("results")
    if results is None:
        results = summarize(record.rows(record.files.evaluations))
    step = int(summary["step"]) if summary and not is_running else max(record.steps, default=0)
    state = "running" if is_running else "finished" if summary.get("status") == "finished" else "interrupted"
    scored = [entry for entry in results if abs(entry["last_score"]) <= LARGEST]
    best = max(scored, key=lambda entry: entry["last_score"], default=None)
    half_width = best["last_score_interval_95"] if best else None
    setting = best["hyperparameters"].items() if best else ()
    first, last = content["seeds"]
    swept = dict(fields_given(content.get("sweep", "")))
    return ListedRun(
        name=name,
        state=state,
        task=record.name,
        method=record.algorithm,
        seeds=(int(first), int(last)),
        step=step,
        max_steps=int(content["max_steps"]),
        unit=record.unit,
        score=float(best["last_score"]) if best else math.nan,
        interval=math.nan if half_width is None else float(half_width),
        best_of=" ".join(f"{key}={float(value):g}" for key, value in setting),
        written=max(_changed(record.files.evaluations), _changed(record.path / "config.json")),
        settings={
            name: swept.get(name.removeprefix("config."), as_text(value))
            for name, value in record.settings.items()
            if name not in NO_DIFFERENCE
        },
    )


def _changed(file: Path) -> float:
    try:
        return file.stat().st_mtime
    except OSError:
        return 0.0


def _inode(file: Path) -> int | None:
    try:
        return file.stat().st_ino
    except OSError:
        return None


def _locked_files() -> set[int]:
    """Returns the inodes of all files locked by a process; empty if the system does not provide them."""
    try:
        lines = LOCKS.read_text().splitlines()
    except OSError:
        return set()
    return {int(part.split(":")[2]) for line in lines for part in line.split() if part.count(":") == 2}


def when(seconds: float) -> str:
    """Formats a time for the list; returns an empty text for 0."""
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds)) if seconds else ""
