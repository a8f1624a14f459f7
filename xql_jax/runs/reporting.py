"""The data of reports, read from runs' folders. Damaged runs are listed with the reason."""

import itertools
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from xql_jax.errors import UserError
from xql_jax.logs.csv_reader import Row
from xql_jax.reports.results import (
    FINE_TUNED,
    OFFLINE,
    ONLINE,
    LeftOut,
    MemberCurve,
    Results,
    RunFacts,
    as_text,
)
from xql_jax.reports.summary import LARGEST
from xql_jax.runs.folder import rows_digest
from xql_jax.runs.load import SavedRun, load_run, read_or, run_folders, with_swept
from xql_jax.tasks import COMPILED_TASKS, ONLINE_TASKS, TASKS

UNFINISHED = "unfinished"  # the status of a run without a summary: it is training, or was killed
READ = ("config.json", "summary.json", "evaluations.csv")  # the files that are read
LARGEST_FILE = 100_000_000  # bytes; a larger file is refused
Stamp = tuple[tuple[int, ...], ...]


class _Run(NamedTuple):
    facts: RunFacts
    members: Sequence[MemberCurve]
    identity: str


class RunFinder:
    """Reads all runs below some folders; when asked again, it reads only files that have changed.

    Args:
        folders: folders of runs, or folders that contain runs.
    Raises:
        UserError: if a folder does not exist.
    """

    def __init__(self, folders: Sequence[str]):
        self._roots: dict[str, Path] = {}
        for folder in folders:
            path = Path(folder).expanduser()
            if not path.is_dir():
                raise UserError(f"{path}: no such folder: name folders of runs, or folders that contain runs")
            if path.resolve() not in self._roots.values():
                self._roots[self._new_name(path.resolve())] = path.resolve()
        self._read: dict[Path, tuple[Stamp, _Run | LeftOut]] = {}

    @property
    def title(self) -> str:
        """The folders' names, separated by commas."""
        return ", ".join(self._roots)

    def stamp(self) -> dict[Path, Stamp]:
        """Returns a value that changes whenever a run appears, disappears or writes to its files."""
        return {folder: _stamp(folder) for _, folder in self._folders()}

    def find(self) -> Results:
        """Returns all runs, ordered by name, reading only what has changed; damaged runs are listed."""
        read: dict[Path, tuple[Stamp, _Run | LeftOut]] = {}
        name_of: dict[str, str] = {}
        runs: list[_Run] = []
        left_out: list[LeftOut] = []
        for name, folder in sorted(self._folders()):
            stamp, before = _stamp(folder), self._read.get(folder)
            read[folder] = before if before and before[0] == stamp else (stamp, _read(name, folder))
            found = read[folder][1]
            if isinstance(found, LeftOut):
                left_out.append(found)
            elif (first := name_of.setdefault(found.identity, name)) != name:
                left_out.append(LeftOut(name, f"a copy of {first}"))
            else:
                runs.append(found)
        self._read = read
        members = [member for run in runs for member in run.members]
        return Results([run.facts for run in runs], members, left_out)

    def _new_name(self, path: Path) -> str:
        """Returns the folder's name, with a number if another folder has the same name."""
        own = path.name or "/"
        numbered = (f"{own} ({number})" for number in itertools.count(2))
        return next(name for name in itertools.chain([own], numbered) if name not in self._roots)

    def _folders(self) -> Iterator[tuple[str, Path]]:
        """Yields each run's name, relative to the searched folder, and its folder; each run once."""
        seen: set[Path] = set()
        for root_name, root in self._roots.items():
            for folder in run_folders(root):
                if folder not in seen:
                    seen.add(folder)
                    below = folder.relative_to(root)
                    is_clear = len(self._roots) == 1 and below.parts
                    yield str(below if is_clear else Path(root_name) / below), folder


def _stamp(folder: Path) -> Stamp:
    stamps = []
    for name in READ:
        try:
            found = os.lstat(folder / name)
            stamps.append((found.st_mtime_ns, found.st_size, found.st_ino))
        except OSError:
            stamps.append((0, 0, 0))
    return tuple(stamps)


def _read(name: str, folder: Path) -> _Run | LeftOut:
    def read() -> _Run:
        _check_files(folder)
        return _run(name, load_run(folder))

    return read_or(name, folder, read, lambda reason: LeftOut(name, reason))


def _check_files(folder: Path) -> None:
    """Raises UserError for files that are links, or too large to be a run's."""
    for name in READ:
        path = folder / name
        if path.is_symlink():
            raise UserError(f"{name} is a link, which is not followed")
        if path.is_file() and path.stat().st_size > LARGEST_FILE:
            raise UserError(
                f"{name} has {path.stat().st_size:,} bytes: no run's has more than {LARGEST_FILE:,}"
            )


def _run(name: str, record: SavedRun) -> _Run:
    content, summary = record.content, record.summary
    rows = record.rows(record.files.evaluations)
    last = max((row.step for row in rows), default=0)
    status = str(summary.get("status", UNFINISHED))
    facts = RunFacts(
        name=name,
        dataset=record.name,
        algorithm=record.algorithm,
        phase=ONLINE if record.is_online else OFFLINE if record.handover is None else FINE_TUNED,
        status=status,
        step=int(summary.get("step", last)),
        max_steps=int(content["max_steps"]),
        unit=record.unit,
        seconds={what: float(seconds) for what, seconds in summary.get("seconds", {}).items()},
        rate=float(summary.get("updates_per_second") or summary.get("steps_per_second") or math.nan),
        commit=content.get("commit") or "unknown: it was no git checkout",
        versions={str(package): str(version) for package, version in content["versions"].items()},
        simulator=_simulator(summary),
        machine=_machine(content.get("machine") or {}),
        resumed=len(content["resumed"]),
        settings={setting: as_text(value) for setting, value in record.settings.items()},
        is_normalised=_is_normalised(record, rows),
        has_own_data=bool(content.get("dataset")),
        handover=record.handover,
        warnings=tuple(_warnings(record, summary, rows)),
    )
    by_member: dict[tuple[tuple[tuple[str, float], ...], int], list[Row]] = {}
    for row in rows:
        by_member.setdefault((row.setting, row.seed), []).append(row)
    members = [
        _member(facts, dict(setting), seed, of_member, status == "finished", last)
        for (setting, seed), of_member in by_member.items()
    ]
    return _Run(facts, members, record.run)


def _member(
    run: RunFacts, swept: Mapping[str, float], seed: int, rows: Sequence[Row], has_ended: bool, last: int
) -> MemberCurve:
    scores = {row.step: row.results["score"] for row in sorted(rows, key=lambda row: row.step)}
    return MemberCurve(
        run=run,
        settings={name: as_text(value) for name, value in with_swept(run.settings, swept).items()},
        seed=seed,
        steps=list(scores),
        scores=[score if abs(score) <= LARGEST else math.nan for score in scores.values()],
        has_diverged=any(not math.isnan(row.results.get("diverged_at", math.nan)) for row in rows),
        is_finished=has_ended and max(scores) == last,
    )


def _is_normalised(record: SavedRun, rows: Sequence[Row]) -> bool:
    """Whether reference returns were set for the run's task; if not, a score is the return itself.

    A user's own task is not looked up, because that would import the user's code. Its rows are inspected
    instead: scores that differ from the returns are normalised.
    """
    if record.references is not None or record.name in TASKS:
        return True
    online = (ONLINE_TASKS | COMPILED_TASKS).get(record.name)
    if online is not None:
        return online.is_normalised
    return any(row.results["score"] != row.results.get("return") for row in rows)


def _simulator(summary: Mapping[str, Any]) -> str:
    if not summary:
        return "not recorded before the run ends"
    if "environment" not in summary:
        return "not recorded by this version"  # an older one, of an online run
    if not (environment := summary["environment"]):
        return "none: nothing was evaluated"
    packages = ", ".join(f"{package} {version}" for package, version in environment["versions"].items())
    inertia = ", legacy inertia" if environment.get("legacy_inertia") else ""
    return f"{packages} ({environment.get('backend', 'unknown')} backend{inertia})"


def _machine(machine: Mapping[str, Any]) -> str:
    parts = [machine.get("device"), machine.get("processor")]
    cores = [f"{machine['cores']} cores"] if "cores" in machine else []
    return ", ".join([*dict.fromkeys(str(part) for part in parts if part), *cores]) or "unknown"


def _warnings(record: SavedRun, summary: Mapping[str, Any], rows: Sequence[Row]) -> Iterator[str]:
    """Yields warnings for readers of the run's numbers."""
    written = summary.get("logs", {}).get(record.files.evaluations.name)
    if written not in (None, rows_digest(record.files.evaluations)):
        yield "evaluations.csv is not as the run wrote it: its rows are those of the last checkpoint"
    if not summary:
        yield "there is no summary.json: the run goes on, or was killed"
    if not rows:
        yield "nothing was evaluated" + ("" if summary else " yet")
    if str(record.content.get("commit")).endswith("-dirty"):
        yield "the source tree had changes that are in no commit"
    if "note" in record.content:
        yield f"config.json was {record.content['note']}"
    for divergence in summary.get("diverged", []):
        where = f"{record.unit} {divergence['step']} ({divergence['quantity']})"
        yield f"{divergence['member']} diverged at {where}"
