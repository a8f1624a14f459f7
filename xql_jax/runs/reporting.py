"""What reports, lists and figures show of runs, read from their folders. Nothing in them is changed."""

import functools
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from xql_jax.errors import UserError
from xql_jax.reports.results import (
    FINE_TUNED,
    OFFLINE,
    ONLINE,
    LeftOut,
    Member,
    Results,
    RunFacts,
    as_text,
    grouped,
)
from xql_jax.reports.summary import LARGEST
from xql_jax.runs.load import SavedRun, load_run, run_folders
from xql_jax.tasks import COMPILED_TASKS, ONLINE_TASKS, TASKS

T = TypeVar("T")
U = TypeVar("U")
UNFINISHED = "unfinished"  # the status of a run without a summary: it is training, or was killed


def read_runs(folders: Sequence[str], file_name: str = "evaluations.csv", column: str = "score") -> Results:
    """Reads all runs below some folders, ordered by name. Damaged runs are left out, with the reason.

    Args:
        folders: folders of runs, or folders that contain runs.
        file_name: the CSV file that the members' numbers are read from.
        column: of these numbers.
    Raises:
        UserError: if a folder does not exist.
    """
    named: dict[Path, tuple[str, Path]] = {}
    for given in folders:
        root = Path(given).expanduser()
        if not root.is_dir():
            raise UserError(f"{given}: no such folder: name folders of runs, or folders that contain runs")
        for folder in run_folders(root):
            is_below = len(folders) == 1 and folder != root
            name = str(folder.relative_to(root) if is_below else folder)
            named.setdefault(folder.resolve(), (name, folder))
    runs: list[RunFacts] = []
    members: list[Member] = []
    left_out: list[LeftOut] = []
    for name, folder in sorted(named.values()):
        read = functools.partial(_read, name, folder, file_name, column)
        found = _read_or(name, folder, read, functools.partial(LeftOut, name))
        if isinstance(found, LeftOut):
            left_out.append(found)
        else:
            runs.append(found[0])
            members.extend(found[1])
    return Results(runs, members, left_out)


def _read(name: str, folder: Path, file_name: str, column: str) -> tuple[RunFacts, list[Member]]:
    record = load_run(folder)
    content, summary = record.content, record.summary
    rows = record.rows(record.path / file_name, column)
    last = max((row.step for row in rows), default=0)
    first_seed, last_seed = content["seeds"]
    facts = RunFacts(
        path=record.path,
        name=name,
        dataset=record.name,
        algorithm=record.algorithm,
        phase=ONLINE if record.is_online else OFFLINE if record.handover is None else FINE_TUNED,
        status=str(summary.get("status", UNFINISHED)),
        step=int(summary.get("step", last)),
        max_steps=int(content["max_steps"]),
        unit=record.unit,
        seeds=(int(first_seed), int(last_seed)),
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
        restarted=tuple(str(restart.get("member", "")) for restart in summary.get("restarts", ())),
        warnings=tuple(_warnings(record, summary, bool(rows))),
    )
    members = []
    for (swept, seed), of_member in grouped(rows, lambda row: (row.setting, row.seed)).items():
        of_member.sort(key=lambda row: row.step)
        values = [row.results[column] for row in of_member]
        settings = _with_swept(facts.settings, dict(swept))
        member = Member(
            run=facts,
            settings={setting: as_text(value) for setting, value in settings.items()},
            swept=", ".join(f"{name}={value:g}" for name, value in swept),
            seed=seed,
            steps=[row.step for row in of_member],
            values=[value if abs(value) <= LARGEST else math.nan for value in values],
            diverged=[not math.isnan(row.results.get("diverged_at", math.nan)) for row in of_member],
            is_finished=facts.status == "finished" and of_member[-1].step == last,
        )
        members.append(member)
    return facts, members


def _is_normalised(record: SavedRun, rows: Sequence[Any]) -> bool:
    """Whether reference returns were set for the run's task; if not, a score is the return itself.

    A user's own task is not looked up, because that would import the user's code. Its rows are inspected
    instead: scores that differ from the returns are normalised.
    """
    if record.references is not None or record.name in TASKS:
        return True
    online = (ONLINE_TASKS | COMPILED_TASKS).get(record.name)
    if online is not None:
        return online.is_normalised
    return any(row.results.get("score") != row.results.get("return") for row in rows)


def _simulator(summary: Mapping[str, Any]) -> str:
    if not summary:
        return "not recorded before the run ends"
    if not (environment := summary.get("environment")):
        return "none: nothing was evaluated"
    packages = ", ".join(f"{package} {version}" for package, version in environment["versions"].items())
    inertia = ", legacy inertia" if environment.get("legacy_inertia") else ""
    return f"{packages} ({environment.get('backend', 'unknown')} backend{inertia})"


def _machine(machine: Mapping[str, Any]) -> str:
    parts = [machine.get("device"), machine.get("processor")]
    cores = [f"{machine['cores']} cores"] if "cores" in machine else []
    return ", ".join([*dict.fromkeys(str(part) for part in parts if part), *cores]) or "unknown"


def _warnings(record: SavedRun, summary: Mapping[str, Any], was_evaluated: bool) -> Iterator[str]:
    """Yields warnings for readers of the run's numbers."""
    if not summary:
        yield "there is no summary.json: the run goes on, or was killed"
    if not was_evaluated:
        yield "nothing was evaluated" + ("" if summary else " yet")
    if str(record.content.get("commit")).endswith("-dirty"):
        yield "the source tree had changes that are in no commit"
    if "note" in record.content:
        yield f"config.json was {record.content['note']}"
    for divergence in summary.get("diverged", []):
        where = f"{record.unit} {divergence['step']} ({divergence['quantity']})"
        yield f"{divergence['member']} diverged at {where}"


def _with_swept(settings: Mapping[str, Any], swept: Mapping[str, float]) -> dict[str, Any]:
    """Returns a run's settings with the values that its sweep gives some of its members."""
    return {
        **settings,
        **{f"config.{name}" if f"config.{name}" in settings else name: swept[name] for name in swept},
    }


def _read_or(name: str, folder: Path, read: Callable[[], T], damaged: Callable[[str], U]) -> T | U:
    """Reads a run that may be damaged or of another version.

    Args:
        name: of the run, for the reason.
        read: raises an error if the run in `folder` cannot be read.
        damaged: makes the result from the reason why it cannot.
    """
    try:
        return read()
    except UserError as error:
        return damaged(str(error).replace(f"{folder}{os.sep}", "").replace(str(folder), name))
    except (ValueError, LookupError, TypeError, AttributeError, OSError) as error:
        return damaged(f"of another version ({type(error).__name__}: {error})")
