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
from xql_jax.runs.folder import RunFolder
from xql_jax.runs.job import Job
from xql_jax.runs.load import NO_SETTINGS, SavedRun, all_runs, load_run
from xql_jax.runs.run_settings import OfflineSettings
from xql_jax.training.checkpoints import Checkpoints, Progress
from xql_jax.types import State

LOG = logging.getLogger(__name__)
OF_BEGINNING = ("versions", "machine", "commit", "code", "resumed")  # in config.json


class Beginning(NamedTuple):
    """The starting point of a run that continues from another run's members (one per seed and setting)."""

    states: Mapping[str, State]  # by the member's name
    progress: Progress
    source: SavedRun
    logs: Mapping[str, bytes] = {}  # rows up to this point, by file name

    def save(self, folder: RunFolder) -> None:
        """Writes the new run's first checkpoint, and with which code the other run was trained until then."""

        def write_logs(checkpoint: Path) -> None:
            (checkpoint / "logs").mkdir()
            for name, rows in self.logs.items():
                (checkpoint / "logs" / name).write_bytes(rows)

        with Checkpoints(folder.files.checkpoints, folder.run_id) as checkpoints:
            checkpoints.save({"states": self.states}, self.progress, write_logs)
        content = self.source.content
        folder.record_resumption({name: content[name] for name in OF_BEGINNING})


def end_of_shorter(folder: RunFolder, job: Job) -> Beginning:
    """Reads the end of the longest shorter run with the same settings; UserError if none can be extended."""
    schedule = job.settings.schedule
    others = _runs_that_differ_in(folder, "max_steps")
    found = [run for run in others if run.steps and run.steps[-1] < schedule.max_steps]
    if not found:
        raise UserError(
            f"--extend: below {folder.path.parent} there is no run with fewer updates or other seeds and "
            "otherwise these settings (see xql-runs --compare); for more of both, extend twice"
        )
    shorter = max(found, key=lambda run: run.steps[-1])
    if job.ramps:
        raise UserError("--extend: a longer run's --ramp has other values from the first update on")
    rates = jax.tree.leaves(learner_from_config(job.settings.config, shorter.content["max_steps"]))
    if not all(np.array_equal(a, b) for a, b in zip(rates, jax.tree.leaves(job.learner), strict=True)):
        raise UserError(
            f"--extend: {shorter.path} cannot be extended: its actor's learning rate falls to 0 at update "
            f"{shorter.content['max_steps']:,} (decay_actor_lr), and a longer run's differs from the first "
            "update on. Train a new run without --extend; --decay_actor_lr=false can be extended"
        )
    progress = shorter.progress
    with Checkpoints(shorter.files.checkpoints, shorter.run_id) as checkpoints:
        logs = checkpoints.logs(shorter.step)
    # The longer run has no evaluation there: none is due that was interrupted, and none found a divergence.
    if shorter.step % schedule.eval_interval:
        last, members = {"step": shorter.step, "quantity": "actions"}, dict(progress.members)
        members |= {name: {**of, "diverged": None} for name, of in members.items() if of["diverged"] == last}
        progress = dataclasses.replace(progress, evaluation_due=False, members=members)
    LOG.info(f"extending {shorter.path}, from update {shorter.step:,} to {schedule.max_steps:,}")
    due = {}  # the rows that the longer run has, too
    for name, rows in logs.items():
        interval = schedule.log_interval if name == folder.files.metrics.name else schedule.eval_interval
        header, *lines = rows.splitlines(keepends=True) or [b""]
        due[name] = header + b"".join(row for row in lines if int(row.split(b",", 1)[0]) % interval == 0)
    return Beginning(shorter.states, progress, shorter, due)


def members_of_another(source: str, folder: RunFolder) -> Beginning:
    """Reads a new run's members, with their share of the seconds, from another run's last checkpoint."""
    other = load_run(source)
    theirs = {name: value for name, value in other.settings.items() if name != "sweep"}
    ours = {
        name: value
        for name, value in settings_by_name(folder.recorded).items()
        if name not in (*NO_SETTINGS, "sweep")
    }
    # What only one run records has its default in the other.
    changed = [
        f"{name}={theirs.get(name, 'the default')}, here {ours.get(name, 'the default')}"
        for name in dict.fromkeys((*ours, *theirs))
        if theirs.get(name) != ours.get(name)
    ]
    if changed or other.name != folder.env_name:
        raise UserError(f"--checkpoint={source}: another run: {'; '.join(changed[:3]) or other.name}")
    names, known = ([member.name for member in run.members] for run in (folder, other))
    if lacking := sorted(set(names) - set(known)):
        raise UserError(
            f"--checkpoint={source}: the run has no member {lacking[0]}; it has: {', '.join(known)}"
        )
    if other.step >= other.content["max_steps"]:
        raise UserError(f"--checkpoint={source}: the run has ended: there is nothing left to train")
    share, progress = len(names) / len(known), other.progress
    progress = dataclasses.replace(
        progress,
        update_seconds=share * progress.update_seconds,
        evaluation_seconds=share * progress.evaluation_seconds,
        members={name: progress.members[name] for name in names},
    )
    return Beginning({name: other.states[name] for name in names}, progress, other)


def with_missing_seeds(settings: OfflineSettings, folder: RunFolder) -> OfflineSettings | None:
    """Returns the settings with the seeds that no run with otherwise the same settings has.

    If there are none, returns those of a run of some seeds that has not ended. None if the run with all
    seeds, that of `folder`, exists, or if no other run has any of them.
    UserError if other runs have all seeds, or if those missing are not successive.
    """
    others = [] if folder.has_begun else _runs_that_differ_in(folder, "seeds")
    there = {seed: run for run in others for seed in run.seeds if seed in folder.seeds}
    if not there:
        return None
    paths = ", ".join(sorted({str(run.path) for run in there.values()}))
    missing = [seed for seed in folder.seeds if seed not in there]
    unfinished = [
        run.seeds
        for run in there.values()
        if run.summary.get("status") != "finished" and set(run.seeds) <= set(folder.seeds)
    ]
    seeds = missing or [*next(iter(unfinished), ())]
    if not seeds:
        raise UserError(f"--extend: runs with these settings have these seeds: {paths}; ask for more seeds")
    if seeds[-1] - seeds[0] + 1 != len(seeds):
        raise UserError(
            f"--extend: seeds {', '.join(map(str, missing))} are missing beside {paths}, which is not one "
            "range: train each range by --seed and --num_seeds, without --extend"
        )
    LOG.info(f"extending {paths}: seeds {', '.join(map(str, seeds))} are trained, in a run of their own")
    return dataclasses.replace(
        settings, seed=seeds[0], num_seeds=len(seeds), extend=False, resume=not missing
    )


def _runs_that_differ_in(folder: RunFolder, name: str) -> list[SavedRun]:
    """Returns the runs beside the folder that have its settings, except for the one of this name."""
    ours = folder.recorded
    return [run for run in all_runs(folder.parent) if {**run.identity, name: ours[name]} == ours]
