"""What reports, figures and lists show of runs, read from their folders. Nothing in them is changed."""

import math
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from xql_jax.errors import UserError
from xql_jax.files import is_locked
from xql_jax.files.paths import as_written, located
from xql_jax.reports.method_scores import LARGEST_DRAWN, FoundRuns, LeftOut, RunFacts, RunMember, as_text
from xql_jax.reports.run_summary import FINE_TUNING, OFFLINE_TRAINING, ONLINE_TRAINING, grouped
from xql_jax.runs.folder import LOCK, digests_of
from xql_jax.runs.kinds import Finetune, Offline, Online
from xql_jax.runs.load import SavedRun, load_run, run_folders
from xql_jax.settings import settings_of
from xql_jax.suites.tasks import LISTED_TASKS
from xql_jax.types import Json

SETTINGS_OF = {
    OFFLINE_TRAINING: Offline,
    ONLINE_TRAINING: Online,
    FINE_TUNING: Finetune,
}


def read_runs(folders: Sequence[str], file_name: str = "evaluations.csv", column: str = "score") -> FoundRuns:
    """Reads all runs below some folders, ordered by name; UserError if there is no such folder.

    Damaged runs are left out, with the reason.

    Args:
        folders: folders of runs, or folders that contain runs.
        file_name: the CSV file that the members' numbers are read from.
        column: of these numbers.
    """
    named: dict[Path, tuple[str, Path]] = {}
    for root in map(located, folders):
        if not root.is_dir():
            raise UserError(f"{root}: no such folder: name folders of runs, or folders that contain runs")
        for folder in run_folders(root):
            is_below = len(folders) == 1 and folder != root
            name = str(folder.relative_to(root)) if is_below else as_written(str(folder))
            named.setdefault(folder.resolve(), (name, folder))
    found: list[RunFacts] = []
    spellings: dict[str, str] = {}
    members: list[RunMember] = []
    left_out: list[LeftOut] = []
    for name, folder in sorted(named.values()):
        try:
            facts, of_run = _read(name, folder, file_name, column, spellings)
            found.append(facts)
            members.extend(of_run)
        except UserError as error:
            reason = str(error).replace(f"{folder}{os.sep}", "").replace(str(folder), name)
            left_out.append(LeftOut(name, reason))
        except (ValueError, LookupError, TypeError, AttributeError, OSError) as error:
            reason = f"of another version ({type(error).__name__}: {error})"
            left_out.append(LeftOut(name, reason))
    of_runs = [(facts.algorithm, facts.settings) for facts in found]
    of_members = [(member.run.algorithm, member.settings) for member in members]
    for kind in (of_runs, of_members):
        for alike in grouped(kind, lambda pair: pair[0]).values():
            _join_widths([settings for _, settings in alike])
    return FoundRuns(found, members, left_out)


def _join_widths(settings: Sequence[dict[str, str]]) -> None:
    """Puts `hidden_dims` in place of the networks' widths, if all networks have the same in each of these."""
    names = sorted({name for of_run in settings for name in of_run if name.endswith("_hidden_dims")})
    if len(names) > 1 and all(len({of_run.get(name) for name in names}) == 1 for of_run in settings):
        for of_run in settings:
            [of_run["config.hidden_dims"]] = {of_run.pop(name) for name in names}


def _read(
    name: str, folder: Path, file_name: str, column: str, spellings: dict[str, str]
) -> tuple[RunFacts, list[RunMember]]:
    """Reads a run; `spellings` gives all runs on the same files the names of data that the first one has."""
    run = load_run(folder)
    content, summary, rows = run.content, run.summary, run.rows(run.path / file_name)
    last = max((row.step for row in rows), default=0)
    seconds, environment = summary.get("seconds"), summary.get("environment") or {}
    known = LISTED_TASKS  # no task of a user's own: that would import their code
    if run.references or run.name in known:
        is_normalised = bool(run.references) or known[run.name].is_normalised
    else:
        is_normalised = any(row.results.get("score") != row.results.get("return") for row in rows)
    declared = settings_of(SETTINGS_OF[run.kind])
    neutral = {name: one.neutral for name, one in declared.items() if one.neutral is not None}  # not recorded
    if "dataset" in content:
        names, digests = as_text(content["dataset"]), digests_of(content.get("data_files"))
        neutral["dataset"] = spellings.setdefault(as_text(digests) if digests else names, names)
    facts = RunFacts(
        path=run.path,
        name=name,
        dataset=run.name,
        algorithm=run.algorithm,
        phase=run.kind,
        status=summary["status"] if summary else "running" if is_locked(run.path / LOCK) else "interrupted",
        step=int(summary.get("step", last)),
        max_steps=int(content["max_steps"]),
        unit=run.unit,
        seeds=(content["seeds"][0], content["seeds"][-1]),
        seconds=sum(seconds.values()) if seconds else math.nan,
        rate=float(summary.get("updates_per_second") or summary.get("steps_per_second") or math.nan),
        made_by={
            "commit": content.get("commit") or "unknown: it was no git checkout",
            "code": content.get("code") or "unknown",
            "versions": _pairs(content["versions"]),
            "machine": _pairs(content["machine"]),
            "simulator": _pairs({**environment, **environment.get("versions", {}), "versions": None}),
            "resumed": len(content["resumed"]),
            "data": content.get("data_source", ""),
        },
        settings={name: as_text(value) for name, value in {**neutral, **run.settings}.items()},
        is_normalised=is_normalised,
        has_own_data=bool(content.get("dataset")),
        handover=run.handover,
        restarted=tuple(str(restart.get("member", "")) for restart in summary.get("restarts", ())),
        warnings=tuple(_warnings(run, summary, bool(rows))),
    )
    members = []
    for (swept, seed), of_member in grouped(rows, lambda row: (row.setting, row.seed)).items():
        of_member.sort(key=lambda row: row.step)
        values, settings = [row.results[column] for row in of_member], dict(facts.settings)
        for name, value in swept:
            settings[f"config.{name}" if f"config.{name}" in settings else name] = as_text(value)
        member = RunMember(
            run=facts,
            settings=settings,
            swept=", ".join(f"{name}={value:g}" for name, value in swept),
            seed=seed,
            steps=[row.step for row in of_member],
            values=[value if abs(value) <= LARGEST_DRAWN else math.nan for value in values],
            diverged=[not math.isnan(row.results.get("diverged_at", math.nan)) for row in of_member],
            is_finished=facts.status == "finished" and of_member[-1].step == last,
        )
        members.append(member)
    return facts, members


def _pairs(values: Mapping[str, object]) -> str:
    return " ".join(f"{name}={value}" for name, value in values.items() if value not in (None, "", False))


def _warnings(run: SavedRun, summary: Json, was_evaluated: bool) -> Iterator[str]:
    if not was_evaluated:
        yield "nothing was evaluated" + ("" if summary else " yet")
    if str(run.content.get("commit")).endswith("-dirty"):
        yield "the source tree had changes that are in no commit"
    for resumed in run.content["resumed"]:
        if resumed.get("code") != run.content.get("code"):
            yield f"trained by other code after {run.unit} {resumed['after_step']:,}"
    if "note" in run.content:
        yield f"note in config.json: {run.content['note']}"
    for divergence in summary.get("diverged", []):
        where = f"{run.unit} {divergence['step']} ({divergence['quantity']})"
        yield f"{divergence['member']} diverged at {where}"


def local_time(seconds: float) -> str:
    """Returns seconds since the epoch as text."""
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds))
