"""The folder of a run, with its config.json (the settings) and its summary.json (the results)."""

import contextlib
import dataclasses
import functools
import hashlib
import json
import logging
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from xql_jax.data.dataset import name_of
from xql_jax.errors import Damaged, UserError
from xql_jax.files import as_json, digest, locked, write_record
from xql_jax.files.paths import located
from xql_jax.logs.csv_rows import TIMES
from xql_jax.runs.kinds import EVALUATION_SEED, METHOD_SETTINGS, Acting, FromData, Training
from xql_jax.runs.load import Run, load_run
from xql_jax.runs.machine import differences, other_code, surroundings
from xql_jax.runs.records import LOCK, defining, read_config
from xql_jax.settings import as_typed, settings_of, values_of
from xql_jax.suites.tasks import Task
from xql_jax.training.checkpoints import Checkpoints, TrainingFiles
from xql_jax.training.members import fields_given
from xql_jax.types import Json

LOG = logging.getLogger(__name__)
LONGEST_LABEL = 60  # characters
LABELLED = *METHOD_SETTINGS, "ramp", "network"  # settings that a label can contain besides hyperparameters


@dataclasses.dataclass(frozen=True)
class RunFolder:
    """The folder SAVE_DIR/TASK/METHOD/SEEDS_KIND[_LABEL]_DIGEST/ of a run.

    DIGEST is that of `identity`, which holds everything that the run's numbers depend on. So `--resume` finds
    the run again, and a run with other settings never changes it.
    """

    settings: Training  # resolved
    env_name: str
    identity: Json  # as config.json has it
    label: str  # part of a new folder's name, see `run_label`
    about: Json  # further entries of config.json

    @property
    def run_id(self) -> str:
        """A digest of the identity; all files of the run contain it."""
        return digest(self.identity)[:16]

    @property
    def max_steps(self) -> int:
        """Part of the identity only if `why_its_length_is_fixed` says why."""
        return self.settings.schedule.max_steps

    @property
    def parent(self) -> Path:
        """The folder that this run and similar ones are in."""
        env_name = re.sub(r'[:*?"<>|\\]', ".", self.env_name)
        return located(self.settings.save_dir) / env_name / self.settings.method.replace(":", ".")

    @functools.cached_property
    def path(self) -> Path:
        """The run's existing folder, whatever its label; if there is none, the path of the new folder."""
        settings, seeds = self.settings, self.settings.seeds
        numbers = f"seed{seeds[0]}" if len(seeds) == 1 else f"seeds{seeds[0]}-{seeds[-1]}"
        start, short_id = f"{numbers}_{settings.kind}_", self.run_id[:8]
        parent = self.parent
        # Data without a task are named by their file alone, so the run may be under another name.
        others = [] if settings.task else sorted(parent.parents[1].glob(f"*/{parent.name}"))
        for each in (parent, *others):
            if there := sorted(each.glob(f"{start}*{short_id}")):
                return there[0]
        return parent / (start + "_".join(filter(None, (self.label, short_id))))

    @property
    def files(self) -> TrainingFiles:
        return TrainingFiles(self.path, self.run_id)

    @property
    def config_file(self) -> Path:
        return self.path / "config.json"

    @property
    def setting_columns(self) -> list[str]:
        """The columns of its CSV files with the seed and the swept hyperparameters."""
        return ["seed", *self.settings.grid]

    @property
    def has_begun(self) -> bool:
        return self.config_file.exists() or self.files.checkpoints.exists()

    @property
    def steps(self) -> list[int]:
        """The steps of its checkpoints, ascending."""
        with Checkpoints(self.files.checkpoints) as checkpoints:
            return checkpoints.steps

    @contextlib.contextmanager
    def locked(self, resume: bool) -> Iterator[None]:
        """Creates the folder, locks it against other processes, and writes or updates config.json.

        Raises:
            Busy: if another process uses the folder.
            UserError: if the run exists and `resume` is false, or if the folder cannot be created or is in
                another run, where commands do not look for runs.
        """
        save_dir = self.settings.save_dir
        here = located(save_dir).resolve()
        for place in () if self.has_begun else (here, *here.parents):
            if (place / LOCK).exists() and (place / "config.json").exists():
                raise UserError(f"--save_dir={save_dir} is in a run, whose own is {place.parents[2]}")
        with contextlib.ExitStack() as held:
            try:
                self.path.mkdir(parents=True, exist_ok=True)
                held.enter_context(locked(self.path / LOCK, f"run: {self.path}"))
            except OSError as error:
                raise UserError(f"cannot write to --save_dir: {error}") from None
            self._record_start(resume)
            yield

    def _record_start(self, resume: bool) -> None:
        """Writes config.json or, if the run continues, records that there."""
        if self.has_begun and not resume:
            raise UserError(f"this run exists: {self.path}; go on with --resume, or give another --seed")
        if resume and not self.has_begun:
            self._say_that_it_begins()
        settings = self.settings
        here = surroundings(settings.task, settings.method)
        if not self.config_file.exists():
            self._write_config(here, [])
            return
        try:
            began = read_config(self.config_file)
        except Damaged as error:
            raise _to_be_deleted(error) from None
        step = max(self.steps, default=0)
        if changed := differences(began, here):
            LOG.warning(
                f"the run began with another setup, so its numbers may differ after step {step:,} (another "
                f"--save_dir begins anew): {changed}"
            )
        self._write_config(began, [*began.get("resumed", []), {**here, "after_step": step}])

    def _say_that_it_begins(self) -> None:
        """Logs that no run has these settings, and why one of another length cannot become this one."""
        files = sorted(self.parent.glob("*/config.json"))
        for file in files:
            with contextlib.suppress(UserError):
                if {**defining(read_config(file)), "max_steps": self.max_steps} == self.identity:
                    LOG.warning(
                        f"{file.parent} has the same settings but for --max_steps, and cannot go on to "
                        f"{self.max_steps:,}: {why_its_length_is_fixed(self.settings)}; so a new run begins"
                    )
                    return
        if files:
            LOG.info(f"a new run begins, as none has these settings: xql-runs {self.parent} --compare")

    def _write_config(self, began: Json, resumed: Sequence[Json]) -> None:
        content = {
            **self.identity,
            "max_steps": self.max_steps,
            **self.about,
            **self.identity,
            "name": self.env_name,
            "run": self.run_id,
            "defining": list(self.identity),
            "columns": {"times": TIMES, "settings": self.setting_columns},
            "resumed": resumed,
        }
        write_record(self.config_file, {**began, **content})

    def finished(self) -> Run | None:
        """Returns the run if it has finished; None if it must go on.

        Damaged if summary.json or config.json is; UserError if the run is longer than asked for.
        """
        if self.steps and self.steps[-1] > self.max_steps:
            raise UserError(
                f"{self.path} is at update {self.steps[-1]:,} already: give --max_steps={self.steps[-1]} or "
                "more, or for a shorter run another --save_dir"
            )
        if not (self.files.summary.exists() and self.config_file.exists()):
            return None
        try:
            run = load_run(self.path)
            summary = run.summary
        except Damaged as error:
            raise _to_be_deleted(error) from None
        if summary["status"] != "finished" or summary["step"] < self.max_steps:
            return None
        if changed := other_code(run.content, self.settings.task):
            LOG.warning(
                f"{self.path} was trained by other code ({changed}), and is only loaded: to train anew, give "
                "another --save_dir, or delete it"
            )
        run.had_ended = True
        return run

    def write_summary(self, summary: Json, logs: Iterable[Path] = ()) -> None:
        """Writes summary.json, with digests of the CSV files."""
        digests = {log.name: hashlib.sha256(log.read_bytes()).hexdigest() for log in logs if log.exists()}
        write_record(self.files.summary, {**summary, "logs": digests, "run": self.run_id})


def _to_be_deleted(error: Damaged) -> Damaged:
    return Damaged(f"{error}; delete it: --resume writes it again")


def folder_of(
    settings: Training, name: str, task: Task | None, sizes: Sequence[int], about: Json, **of_data: object
) -> RunFolder:
    """Returns the folder of a run of resolved settings, whose name is derived from its identity.

    Args:
        name: TASK in SAVE_DIR/TASK/METHOD/RUN.
        task: scored as the run scores it.
        sizes: the lengths of an observation and of an action.
        about: further entries of config.json, on which no number depends.
        of_data: digests of the data.
    """
    identity = {**of_data, **identity_of(settings)}
    if task and settings.task and task != settings.task:  # the user's or the data's references
        identity["references"] = [task.min_return, task.max_return]
    about = {"sizes": list(sizes), **about}
    if identity.get("dataset"):  # the user's own data: their digests tell, whatever the files are called
        about["dataset"] = identity.pop("dataset")
    if settings.random_return is not None:
        about["given_references"] = True
    label = run_label({"network": "paper", **settings.by_file.values}, identity)
    return RunFolder(settings, name, json.loads(as_json(identity)), label, about)


def identity_of(settings: Any) -> Json:
    """Returns what a run's numbers depend on, of its resolved settings; `folder_of` adds what data say."""
    values = values_of(settings)
    recorded = [
        name
        for name, one in settings_of(settings).items()
        if one.recorded and (one.neutral is None or values[name] != one.neutral)
    ]
    identity = {
        **{name: values[name] for name in recorded},
        "env_name": settings.env_name,
        # All hyperparameters: with another beta it is another run. Files of runs say "algorithm".
        "config": {"algorithm": settings.method, **dict(sorted(values_of(settings.learner).items()))},
        "seeds": [settings.seeds[0], settings.seeds[-1]],
        "max_steps": settings.schedule.max_steps,
        "evaluation_seed": EVALUATION_SEED,
        "env_backend": "mujoco",  # constants, which digests of runs contain
        "legacy_inertia": False,
    }
    if isinstance(settings, FromData):
        identity |= {"unit_rewards": True} if settings.unit_rewards else {}
        identity["dataset"] = [name_of(source) for source in settings.dataset]
    if settings.source:
        identity["checkpoint"] = {"run": settings.source.run_id, "step": settings.source.step}
    if isinstance(settings, Acting):
        identity["round_steps"] = settings.round_steps
    if not why_its_length_is_fixed(settings):
        del identity["max_steps"]
    return identity


def why_its_length_is_fixed(settings: Training) -> str:
    """Returns why a longer run has other numbers than this one from the start; "" if it has the same."""
    if settings.unit == "step":
        return "a run that acts would begin its episodes again there"
    if any(len(ramp.values) > 1 for ramp in settings.ramps):
        return "--ramp changes over all updates"
    learners = settings.learner, settings.learner.scheduled(math.inf)
    if not all(np.array_equal(a, b) for a, b in zip(*map(jax.tree.leaves, learners), strict=True)):
        return "its actor's learning rate falls to 0 at the last update (decay_actor_lr; false keeps it)"
    return ""


def run_label(base: Json, identity: Json) -> str:
    """Returns the settings that differ from the config file's, such as beta=0.5_tau=0.1.

    Swept settings come first, then the others by name, as many as fit into LONGEST_LABEL characters. The
    label depends only on the settings, not on how they were typed. Characters that some file systems do not
    allow are left out. `base` has the values of the config file, by name.
    """
    swept = dict(fields_given(identity["sweep"]))
    ours = {name: value for name, value in identity["config"].items() if name in base and value is not None}
    changed = {name: as_typed(ours[name]) for name in ours if name not in swept and ours[name] != base[name]}
    changed |= {
        name: as_typed(identity[name])
        for name in LABELLED
        if name in identity and identity[name] != base.get(name)
    }
    widths = [name for name in base if name.endswith("_hidden_dims")]
    if all(name in changed for name in widths) and len({changed[name] for name in widths}) == 1:
        [width] = {changed.pop(name) for name in widths}
        changed["hidden_dims"] = width
    label: list[str] = []
    for name, value in [*swept.items(), *sorted(changed.items())]:
        part = re.sub(r"[^\w=.,+-]", "", f"{name}={value}", flags=re.ASCII)
        if len("_".join([*label, part])) <= LONGEST_LABEL:
            label.append(part)
    return "_".join(label)
