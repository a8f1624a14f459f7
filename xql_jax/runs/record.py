"""Reading of runs from their folders, finished or not. Nothing in the folders is changed."""

import dataclasses
import hashlib
import itertools
import logging
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from xql_jax.configuration import settings_by_name
from xql_jax.data import PREFIXES
from xql_jax.errors import Damaged, UserError
from xql_jax.files import read_file
from xql_jax.learners.registry import ONLINE
from xql_jax.logs.csv_reader import Columns, Row, parse_rows
from xql_jax.runs.folder import OF_THE_RECORD, read_config, read_summary
from xql_jax.tasks import References
from xql_jax.training.checkpoints import Checkpoints
from xql_jax.training.files import TrainingFiles
from xql_jax.training.online import OnlinePopulation
from xql_jax.training.population import Population

LOG = logging.getLogger(__name__)
T = TypeVar("T")
U = TypeVar("U")
MOST_NAMED = 3  # runs that a message names
MOST = 2**53  # largest step or seed; a larger number means that the file is damaged
NO_SETTINGS = ("env_name", "seeds", *OF_THE_RECORD)  # that are not settings of the method


@dataclasses.dataclass(frozen=True)
class RunRecord:
    """A run's config.json, and access to its other files."""

    path: Path
    content: Mapping[str, Any]  # of config.json

    @property
    def run(self) -> str:
        """The digest of its identity; all files of the run contain it."""
        return self.content["run"]

    @property
    def files(self) -> TrainingFiles:
        return TrainingFiles(self.path, self.run)

    @property
    def config(self) -> Mapping[str, Any]:
        return self.content["config"]

    @property
    def algorithm(self) -> str:
        return self.config["algorithm"]

    @property
    def env_name(self) -> str | None:
        """The task's name; None for a run on data without a task."""
        return self.content["env_name"]

    @property
    def references(self) -> References | None:
        """The returns of score 0 and 100, if the data or the user gave them instead of the task."""
        return References(*self.content["references"]) if "references" in self.content else None

    @property
    def name(self) -> str:
        """The task's name, or the data's if there was no task: ENV in SAVE_DIR/ENV/ALGORITHM/RUN."""
        return self.env_name or self.path.resolve().parents[1].name

    @property
    def settings(self) -> dict[str, Any]:
        """All settings that its numbers depend on, except task and seeds, by name."""
        by_name = settings_by_name(self.content).items()
        return {name: value for name, value in by_name if name not in NO_SETTINGS}

    @property
    def sources(self) -> list[str]:
        """What its data were read from; none for the task's own.

        Raises:
            UserError: if they were arrays in memory, which only the program that had them can give again.
        """
        sources, stamps = self.content.get("dataset", []), self.content.get("data_files", ())
        if sources and stamps is None and not any(source.startswith(PREFIXES) for source in sources):
            raise UserError(f"{self.path}: its data were arrays in memory: give them as files, by --dataset")
        return sources

    @property
    def unit(self) -> str:
        """The name of one step, "update" or "step"."""
        return (OnlinePopulation if self.is_online or self.handover is not None else Population).unit

    @property
    def is_online(self) -> bool:
        """Whether it learned only from its own replay buffer."""
        return self.algorithm in ONLINE

    @property
    def handover(self) -> int | None:
        """The number of updates before the first environment step; None if it was not fine-tuned."""
        return self.content.get("num_pretraining_steps")

    @property
    def summary(self) -> dict[str, Any]:
        """The content of summary.json, {} if there is none; raises Damaged if the file has changed."""
        return read_summary(self.files.summary, self.run) if self.files.summary.exists() else {}

    def rows(self, file: Path) -> list[Row]:
        """Returns the rows of one of its CSV files, as they were when the run stopped or ended.

        If the file has changed since, the rows are read from the last checkpoint, with a warning.

        Raises:
            UserError: if the last checkpoint does not have these rows either, or there is none.
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

    def rows_with(self, column: str, file: Path) -> list[Row]:
        """Like `rows`, but raises Damaged if `column` is missing or a step or seed is impossible."""
        rows = self.rows(file)
        if any(column not in row.results for row in rows):
            raise Damaged(f"{file}: damaged: it has no column {column}")
        if any(not 0 <= number <= MOST for row in rows for number in (row.step, row.seed)):
            raise Damaged(f"{file}: damaged: a step or seed is negative or beyond {MOST:,}")
        return rows

    @property
    def steps(self) -> list[int]:
        """The steps of its checkpoints, ascending."""
        with Checkpoints(self.files.checkpoints, self.run) as checkpoints:
            return checkpoints.steps


def with_swept(settings: Mapping[str, Any], swept: Mapping[str, float]) -> dict[str, Any]:
    """Returns a run's settings with the values that its sweep gives some of its members."""
    return {
        **settings,
        **{f"config.{name}" if f"config.{name}" in settings else name: swept[name] for name in swept},
    }


def read_or(name: str, folder: Path, read: Callable[[], T], damaged: Callable[[str], U]) -> T | U:
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
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError, OSError) as error:
        return damaged(f"damaged or of another version ({type(error).__name__}: {error})")


def all_runs(root: Path) -> Iterator[RunRecord]:
    """Yields the runs below a folder, unfinished ones included; skips damaged ones with a warning."""
    for folder in run_folders(root):
        try:
            record = open_record(folder)
            _ = record.summary  # raises if it is damaged
        except UserError as error:
            LOG.warning(f"{error}; its run is left out")
            continue
        yield record


def run_folders(root: Path) -> Iterator[Path]:
    """Yields the folders below `root` that have a config.json, damaged runs included.

    Links to folders are not followed.
    """
    for folder, below, files in os.walk(root):
        if "config.json" in files:
            below.clear()  # there are no runs inside a run
            yield Path(folder)


def open_record(path: Path) -> RunRecord:
    """Opens a run's folder.

    Raises:
        UserError: if it is not a run's folder, or its config.json cannot be read.
    """
    file = path / "config.json"
    if not file.is_file():
        below = [str(found.parent) for found in itertools.islice(_configs_near(path), MOST_NAMED + 1)]
        named = ", ".join(below[:MOST_NAMED]) + (", ..." if len(below) > MOST_NAMED else "")
        raise UserError(
            f"{path}: not the folder of a run: it has no config.json"
            + (f"; runs below it: {named} (experiments/runs.py lists them)" if below else "")
        )
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


def _configs_near(path: Path) -> Iterator[Path]:
    """Yields the config.json files at most three folders below, the depth of SAVE_DIR/ENV/ALGORITHM/RUN."""
    for depth in range(1, 4):
        yield from sorted(path.glob("/".join(["*"] * depth + ["config.json"])))
