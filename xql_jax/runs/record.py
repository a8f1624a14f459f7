"""A run read from its folder, finished or not: nothing in it is changed."""

import dataclasses
import hashlib
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from xql_jax.configuration import learner_from_config, settings_by_name
from xql_jax.data.preprocessing import Preprocessing
from xql_jax.envs import BACKENDS
from xql_jax.errors import Damaged, UserError
from xql_jax.evaluation.policies import Act, prepared
from xql_jax.files import read_file
from xql_jax.learners.registry import ONLINE
from xql_jax.logs.csv_reader import Columns, Row, parse_rows
from xql_jax.runs.folder import RunFolder, read_config, read_summary
from xql_jax.tasks import References, Task
from xql_jax.training.checkpoints import Checkpoints, Progress
from xql_jax.training.loop import TrainingFiles
from xql_jax.training.manifests import UnfitCheckpoint
from xql_jax.training.members import Member, learners_of, make_members, parse_sweep, stacked
from xql_jax.training.online import OnlinePopulation
from xql_jax.training.policies import deterministic_policy
from xql_jax.training.population import Population
from xql_jax.types import Learner, State

LOG = logging.getLogger(__name__)
TRIES = 10  # to read a checkpoint of a run that goes on
MAX_SEEDS = 100_000  # of a run; more are damage
# What of config.json does not make a run another method.
NO_SETTINGS = ("env_name", "seeds", "run", "columns", "versions", "machine", "commit", "resumed", "note")


@dataclasses.dataclass(frozen=True)
class RunRecord:
    """What a run's config.json says, and the way to its other files."""

    path: Path
    content: Mapping[str, Any]  # of config.json

    @property
    def run(self) -> str:
        """The digest of its identity, which all its files carry."""
        return self.content["run"]

    @property
    def files(self) -> TrainingFiles:
        return TrainingFiles(self.path)

    @property
    def config(self) -> Mapping[str, Any]:
        return self.content["config"]

    @property
    def algorithm(self) -> str:
        return self.config["algorithm"]

    @property
    def env_name(self) -> str | None:
        """None for a run on data alone."""
        return self.content["env_name"]

    @property
    def references(self) -> References | None:
        """Those by which its data had its task scored."""
        return References(*self.content["references"]) if "references" in self.content else None

    @property
    def name(self) -> str:
        """The task's, or the data's if it was trained without one: SAVE_DIR/ENV/ALGORITHM/RUN."""
        return self.env_name or self.path.resolve().parents[1].name

    @property
    def settings(self) -> dict[str, Any]:
        """All that its numbers depend on but task and seeds, by name."""
        by_name = settings_by_name(self.content).items()
        return {name: value for name, value in by_name if name not in NO_SETTINGS}

    @property
    def unit(self) -> str:
        """What its steps are."""
        return (OnlinePopulation if self.algorithm in ONLINE else Population).unit

    @property
    def summary(self) -> dict[str, Any]:
        """What summary.json holds; nothing if there is none. Damaged if it is not as it was written."""
        return read_summary(self.files.summary, self.run) if self.files.summary.exists() else {}

    def rows(self, file: Path) -> list[Row]:
        """Returns the rows of one of its CSV files, as they were when the run stopped or ended.

        Where the file is not as it was written they are the last checkpoint's, with a warning.

        Raises:
            UserError: if that has others, too, or there is none.
        """
        written = self.summary.get("logs", {}).get(file.name)
        text = read_file(file) if file.is_file() else b""
        if written not in (None, hashlib.sha256(text).hexdigest()):
            with Checkpoints(self.files.checkpoints, self.run) as checkpoints:
                steps = checkpoints.steps
                text = checkpoints.logs(steps[-1]).get(file.name, b"") if steps else b""
            if written != hashlib.sha256(text).hexdigest():
                raise Damaged(f"{file}: damaged: it is not as the run wrote it")
            LOG.warning(f"{file}: not as the run wrote it; the rows are read from its last checkpoint")
        return parse_rows(text, Columns(**self.content["columns"]), file)

    @property
    def steps(self) -> list[int]:
        """Those of its checkpoints, ascending."""
        with Checkpoints(self.files.checkpoints, self.run) as checkpoints:
            return checkpoints.steps


@dataclasses.dataclass(frozen=True)
class SavedPolicies:
    """The learner and members of a run that has checkpoints."""

    record: RunRecord
    learner: Learner
    members: list[Member]
    preprocessing: Preprocessing
    env_backend: str  # of the run's evaluations, as the next
    legacy_inertia: bool

    def restore(self, step: int, *dimensions: int) -> dict[str, State]:
        """Returns the states after `step` by name, for observations and actions of these sizes."""
        return restore_members(self.record, self.learner, self.members, step, *dimensions)[0]

    def restore_last(self, *dimensions: int) -> tuple[dict[str, State], int]:
        """Returns the states of the last checkpoint, and its step.

        A run that goes on removes old checkpoints: where one goes while it is read, the newest is taken.
        """
        for _ in range(TRIES):
            step = self.record.steps[-1]
            try:
                return self.restore(step, *dimensions), step
            except UserError:
                if step in self.record.steps:
                    raise
        raise UserError(f"{self.record.path}: its checkpoints go faster than they can be read: stop the run")

    def restore_for(self, task: Task, step: int | None, *dimensions: int) -> tuple[dict[str, State], int]:
        """Returns the states after `step`, None for the last, and that step; the task may be another's."""
        try:
            return self.restore_last(*dimensions) if step is None else (self.restore(step, *dimensions), step)
        except UnfitCheckpoint as error:
            trained_on = self.record.env_name
            if task.name == trained_on or "other states" not in error.reason:
                raise
            raise UserError(
                f"{task.name} does not fit the run, which was trained on {trained_on or 'data alone'}: its "
                f"observations have {dimensions[0]} entries, its actions {dimensions[1]} ({error.reason})"
            ) from error

    def policy(self, states: Mapping[str, State]) -> Act:
        """Returns the members' deterministic policies, f32[M, K, O] to f32[M, K, A]."""
        of_members = stacked([states[member.name] for member in self.members])
        act = deterministic_policy(stacked(learners_of(self.learner, self.members)), of_members)
        return prepared(act, self.preprocessing.observations, self.preprocessing.rewards)

    def only(self, index: int) -> "SavedPolicies":
        """Returns the run as if there had been but the member of that index."""
        if not 0 <= index < len(self.members):
            raise UserError(f"--member={index}: the run has members 0 to {len(self.members) - 1}")
        return dataclasses.replace(self, members=[self.members[index]])


def restore_members(
    record: RunRecord, learner: Learner, members: Sequence[Member], step: int, *dimensions: int
) -> tuple[dict[str, State], Progress]:
    """Reads these members' states by their names, and the progress; raises as `Checkpoints.restore`."""
    example = [jnp.zeros((1, dimension)) for dimension in dimensions]
    shapes = jax.eval_shape(learner.init, jax.random.key(0), *example)
    with Checkpoints(record.files.checkpoints, record.run) as checkpoints:
        return checkpoints.restore({member.name: shapes for member in members}, step)


def all_runs(root: Path) -> Iterator[RunRecord]:
    """Yields the runs under a folder, unfinished ones too; damaged ones are left out, with a warning."""
    for folder, below, files in os.walk(root):
        if "config.json" not in files:
            continue
        below.clear()  # what a run holds is no run
        try:
            record = open_record(Path(folder))
            _ = record.summary  # damaged ones raise
        except UserError as error:
            LOG.warning(f"{error}; its run is left out")
            continue
        yield record


def open_record(path: Path) -> RunRecord:
    """Opens a run's folder.

    Raises:
        UserError: if it is no run's folder, or its config.json cannot be read.
    """
    file = path / "config.json"
    if not file.is_file():
        raise UserError(f"{path}: not the folder of a run: it has no config.json")
    content = read_config(file)
    config, columns = content.get("config"), content.get("columns")
    fit = {
        "config": isinstance(config, dict),
        "algorithm": isinstance(config, dict) and isinstance(config.get("algorithm"), str),
        "columns": isinstance(columns, dict) and columns.keys() == set(Columns._fields),
        "env_name": isinstance(content.get("env_name", 0), str | None),
    }
    if not all(fit.values()):
        unfit = ", ".join(name for name, is_fit in fit.items() if not is_fit)
        raise UserError(f"{file}: damaged or of another version ({unfit})")
    return RunRecord(path, content)


def open_run(path: Path) -> SavedPolicies:
    """Opens a run's folder, which holds `config.json` and `checkpoints/`.

    Raises:
        UserError: if it is no run's folder, or what defines the run cannot be read.
    """
    record = open_record(path)
    content, damaged = record.content, f"{path / 'config.json'}: damaged or of another version"
    try:
        config = ConfigDict({name: _number(value) for name, value in record.config.items()})
        learner = learner_from_config(config, content["max_steps"])
        first, last = content["seeds"]
        if not 0 <= first <= last < first + MAX_SEEDS:
            raise ValueError(f"seeds {first} to {last}")
        grid = parse_sweep(content["sweep"], learner, record.algorithm)
        members = make_members(range(first, last + 1), grid)
        env_backend, legacy_inertia = content["env_backend"], content["legacy_inertia"]
        if env_backend not in BACKENDS or not isinstance(legacy_inertia, bool):
            raise ValueError(f"env_backend {env_backend!r}, legacy_inertia {legacy_inertia!r}")
    except UserError as error:
        raise UserError(f"{damaged} ({error})") from error
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(f"{damaged} ({type(error).__name__}: {error})") from error
    if not record.steps:
        raise UserError(f"{path}: the run has no checkpoint yet")
    online = record.algorithm in ONLINE
    preprocessing = Preprocessing() if online else Preprocessing.load(record.files.preprocessing, record.run)
    return SavedPolicies(record, learner, members, preprocessing, env_backend, legacy_inertia)


def split_checkpoint(name: str) -> tuple[Path, int | None]:
    """Returns a run's folder and its checkpoint's step, None for the last, from the path of either."""
    path = Path(name).expanduser()
    if path.parent.name == "checkpoints" and path.name.isdigit():
        return path.parent.parent, int(path.name)
    return (path.parent if path.name == "checkpoints" else path), None


def members_of_another(
    source: Path, folder: RunFolder, learner: Learner, *dimensions: int
) -> tuple[dict[str, State], Progress]:
    """Reads a new run's members from the last checkpoint of a run that has them, and perhaps others.

    Raises:
        UserError: if that run lacks a member or a checkpoint, or differs in more than its members.
    """
    record = open_record(source)
    ours = settings_by_name(folder.recorded)
    changed = [
        f"{name}={value}, here {ours.get(name)}"
        for name, value in record.settings.items()
        if name != "sweep" and value != ours.get(name)
    ]
    if changed or record.name != folder.env_name:
        raise UserError(f"--checkpoint={source}: another run: {'; '.join(changed[:3]) or record.name}")
    for _ in range(TRIES):  # a source that goes on removes old checkpoints, as in `restore_last`
        if not (steps := record.steps):
            raise UserError(f"--checkpoint={source}: the run has no checkpoint yet")
        try:
            restored = restore_members(record, learner, folder.members, steps[-1], *dimensions)
        except UserError:
            if steps[-1] in record.steps:
                raise
            continue
        if steps[-1] >= record.content["max_steps"]:
            raise UserError(f"--checkpoint={source}: the run has ended: there is nothing left to train")
        return restored
    raise UserError(f"{source}: its checkpoints go faster than they can be read: stop the run")


def _number(value: object) -> object:
    """JSON has no infinity: `write_json` writes it as text."""
    return float(value) if value in ("inf", "-inf", "nan") else value
