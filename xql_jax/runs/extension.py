"""Extension of an existing run, with the same results as a longer or larger run from the start.

A run with more updates has its own folder. It starts from the shorter run's last checkpoint and rows. Rows
that the shorter run wrote only because it ended there are left out.

More seeds become a run of the missing seeds alone, because members of a population do not depend on each
other. Reports put runs together that differ only in their seeds.
"""

import dataclasses
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from xql_jax.configuration import learner_from_config, settings_by_name
from xql_jax.errors import UserError
from xql_jax.runs.folder import OF_THE_RECORD, RunFolder, differing_settings
from xql_jax.runs.load import NO_SETTINGS, SavedRun, load_run
from xql_jax.runs.run import Job
from xql_jax.runs.settings import OfflineSettings
from xql_jax.training.checkpoints import Checkpoints, Progress, TrainingFiles
from xql_jax.types import State

LOG = logging.getLogger(__name__)


class Beginning(NamedTuple):
    """The starting point of a run that continues from another run's members (one per seed and setting)."""

    states: Mapping[str, State]  # by the member's name
    progress: Progress
    logs: Mapping[str, bytes] = {}  # rows up to this point, by file name


def begin_with(beginning: Beginning, folder: RunFolder) -> None:
    """Writes a new run's first checkpoint."""

    def write_logs(checkpoint: Path) -> None:
        for name, rows in beginning.logs.items():
            (checkpoint / "logs").mkdir(exist_ok=True)
            (checkpoint / "logs" / name).write_bytes(rows)

    with Checkpoints(folder.files.checkpoints, folder.run) as checkpoints:
        checkpoints.save({"states": beginning.states}, beginning.progress, write_logs)


def extended(folder: RunFolder, job: Job) -> Beginning:
    """Reads the starting point of the new run from the longest shorter run with the same settings.

    Args:
        folder: of the new run, which has no checkpoint yet.
    Raises:
        UserError: if there is no such run, or if a run from the start would have different numbers.
    """
    schedule = job.settings.schedule
    record = _shorter_run(folder)
    _check_rates(record, job)
    step, states, progress = record.step, record.states, record.progress
    with Checkpoints(record.files.checkpoints, record.run) as checkpoints:
        logs = checkpoints.logs(step)
    files = TrainingFiles(folder.path, folder.run)
    intervals = {files.metrics.name: schedule.log_interval, files.evaluations.name: schedule.eval_interval}
    # An evaluation of the shorter run that was interrupted at its end is not due: the longer run has none.
    if step % schedule.eval_interval:
        progress = dataclasses.replace(progress, evaluation_due=False)
    LOG.info(f"extending {record.path}, from update {step:,} to {schedule.max_steps:,}")
    return Beginning(states, progress, {name: _due(rows, intervals[name]) for name, rows in logs.items()})


def members_of_another(source: Path, folder: RunFolder) -> Beginning:
    """Reads the members of a new run from the last checkpoint of another run that includes them.

    The progress is that of the new members: it has their share of the other run's seconds.

    Raises:
        UserError: if the other run lacks a member, has no checkpoint, has ended, or has other settings.
    """
    other = load_run(source)
    theirs = {name: value for name, value in other.settings.items() if name != "sweep"}
    ours = {
        name: value
        for name, value in settings_by_name(folder.recorded).items()
        if name not in (*NO_SETTINGS, "sweep")
        and (name in theirs or not name.startswith("config."))  # else their version did not have the field
    }
    changed = differing_settings(theirs, ours)
    if changed or other.name != folder.env_name:
        raise UserError(f"--checkpoint={source}: another run: {'; '.join(changed[:3]) or other.name}")
    names, theirs_named = (
        [member.name for member in folder.members],
        [member.name for member in other.members],
    )
    if lacking := sorted(set(names) - set(theirs_named)):
        raise UserError(
            f"--checkpoint={source}: the run has no member {lacking[0]}; it has: {', '.join(theirs_named)}"
        )
    if other.step >= other.content["max_steps"]:
        raise UserError(f"--checkpoint={source}: the run has ended: there is nothing left to train")
    share, progress = len(names) / len(theirs_named), other.progress
    progress = dataclasses.replace(
        progress,
        update_seconds=share * progress.update_seconds,
        evaluation_seconds=share * progress.evaluation_seconds,
        members={name: progress.members[name] for name in names},
    )
    return Beginning({name: other.states[name] for name in names}, progress)


def with_missing_seeds(settings: OfflineSettings, folder: RunFolder) -> OfflineSettings | None:
    """Returns the settings with the seeds that no run with otherwise the same settings has.

    If there are none, but a run of some of them has not ended, returns the settings of that run.

    Args:
        folder: of the run with all seeds.
    Returns:
        None if the run itself exists, or if no other run has any of its seeds.
    Raises:
        UserError: if other runs have all seeds, or if those missing are not successive.
    """
    if folder.has_begun:
        return None
    there = {
        seed: record
        for record in _runs_that_differ_in(folder, "seeds")
        for seed in range(record.content["seeds"][0], record.content["seeds"][1] + 1)
        if seed in folder.seeds
    }
    if not there:
        return None
    paths = ", ".join(sorted({str(record.path) for record in there.values()}))
    missing = [seed for seed in folder.seeds if seed not in there]
    if not missing:
        for record in there.values():
            first, last = record.content["seeds"]
            is_part = folder.seeds[0] <= first and last <= folder.seeds[-1]
            if record.summary.get("status") != "finished" and is_part:
                LOG.info(f"going on with {record.path}, which has not ended")
                return _with_seeds(settings, first, last, resume=True)
        raise UserError(
            f"--extend: seeds {folder.seeds[0]} to {folder.seeds[-1]} already have runs with these settings: "
            f"{paths}. Ask for more seeds by --num_seeds; a run that was stopped goes on by --resume and its "
            "own seeds"
        )
    if missing[-1] - missing[0] + 1 != len(missing):
        raise UserError(
            f"--extend: seeds {', '.join(map(str, missing))} are missing beside {paths}, which is not one "
            "range: train each range by --seed and --num_seeds, without --extend"
        )
    LOG.info(
        f"extending {paths} by seeds {', '.join(map(str, missing))}, in a run of their own; "
        "experiments/report.py puts them together"
    )
    return _with_seeds(settings, missing[0], missing[-1], resume=False)


def _with_seeds(settings: OfflineSettings, first: int, last: int, *, resume: bool) -> OfflineSettings:
    return dataclasses.replace(settings, seed=first, num_seeds=last - first + 1, extend=False, resume=resume)


def _runs_that_differ_in(folder: RunFolder, name: str) -> list[SavedRun]:
    """Returns the runs beside the folder that have its settings, except for the one of this name."""
    ours = folder.recorded
    found: list[SavedRun] = []
    for file in sorted(folder.path.parent.glob("*/config.json")):
        try:
            record = load_run(file.parent)
        except UserError:
            continue
        theirs = {key: value for key, value in record.content.items() if key not in OF_THE_RECORD}
        if {**theirs, name: ours[name]} == ours:
            found.append(record)
    return found


def _shorter_run(folder: RunFolder) -> SavedRun:
    updates = folder.recorded["max_steps"]
    found = [
        record
        for record in _runs_that_differ_in(folder, "max_steps")
        if record.steps and record.steps[-1] < updates
    ]
    if not found:
        raise UserError(
            f"--extend: below {folder.path.parent} there is no run with fewer updates or other seeds and "
            "otherwise these settings (see experiments/runs.py --compare); for more updates and more seeds, "
            "extend twice"
        )
    return max(found, key=lambda record: record.steps[-1])


def _check_rates(record: SavedRun, job: Job) -> None:
    """Raises UserError if a learning rate depends on how long the run is."""
    shorter = jax.tree.leaves(learner_from_config(job.settings.config, record.content["max_steps"]))
    if all(np.array_equal(a, b) for a, b in zip(shorter, jax.tree.leaves(job.learner), strict=True)):
        return
    raise UserError(
        f"--extend: {record.path} cannot be extended: its actor's learning rate falls to 0 at update "
        f"{record.content['max_steps']:,} (decay_actor_lr), and a longer run's rate would differ from the "
        "first update on. Train a new run without --extend; runs with --config.decay_actor_lr=false can be "
        "extended"
    )


def _due(rows: bytes, interval: int) -> bytes:
    """Returns the header and the rows at steps that are multiples of the interval."""
    header, *lines = rows.splitlines(keepends=True) or [b""]
    return header + b"".join(line for line in lines if int(line.split(b",", 1)[0]) % interval == 0)
