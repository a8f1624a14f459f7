"""The folder of a run, with its config.json (the settings) and its summary.json (the results)."""

import contextlib
import dataclasses
import functools
import hashlib
import json
import logging
import os
import re
import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from xql_jax.configuration import settings_by_name
from xql_jax.data.preprocessing import Preprocessing
from xql_jax.errors import Damaged, UserError
from xql_jax.files import (
    REFUSALS,
    as_json,
    cannot_write,
    digest,
    locked,
    read_record,
    with_numbers,
    write_record,
)
from xql_jax.logs.csv_rows import Columns
from xql_jax.runs.machine import differences, machine, versions
from xql_jax.settings import as_typed
from xql_jax.training.checkpoints import Checkpoints, TrainingFiles
from xql_jax.training.members import Member, fields_given

LOG = logging.getLogger(__name__)
# Entries of config.json on which the run's numbers do not depend.
OF_THE_RECORD = (
    *("run", "columns", "versions", "machine", "commit", "resumed", "note"),
    *("data_files", "given_references", "sizes"),
)
BY_SETTING = ("results", "finetuning")  # lists in summary.json, in which every value is a number
LONGEST_LABEL = 60  # characters
# Settings that a label can contain besides the config's fields.
LABELLED = ("batch_size", "normalize_observations", "top_returns", "scale_rewards")


@dataclasses.dataclass(frozen=True)
class RunFolder:
    """The folder SAVE_DIR/ENV/ALGORITHM/RUN/ of a run.

    RUN is derived from `identity`, which holds everything that the run's numbers depend on. So `--resume`
    finds the run again, and a run with other settings never changes it.
    """

    save_dir: Path
    env_name: str
    algorithm: str
    seeds: Sequence[int]
    members: Sequence[Member]
    identity: Mapping[str, Any]
    label: str = ""  # part of a new folder's name, see `run_label`
    about: Mapping[str, Any] = dataclasses.field(default_factory=dict)  # entries of config.json beside it

    @property
    def run(self) -> str:
        """A digest of the identity; all files of the run contain it."""
        return digest(self.recorded)[:16]

    @functools.cached_property
    def path(self) -> Path:
        """The run's existing folder, whatever its label; if there is none, the path of the new folder."""
        seeds = f"seed{self.seeds[0]}" if len(self.seeds) == 1 else f"seeds{self.seeds[0]}-{self.seeds[-1]}"
        parent, end = self.save_dir / self.env_name / self.algorithm, self.run[:8]
        there = [*parent.glob(f"{seeds}_{end}"), *sorted(parent.glob(f"{seeds}_*_{end}"))]
        return there[0] if there else parent / "_".join(filter(None, (seeds, self.label, end)))

    @property
    def files(self) -> TrainingFiles:
        return TrainingFiles(self.path, self.run)

    @property
    def columns(self) -> Columns:
        """The columns of its CSV files."""
        return Columns.of(list(self.members[0].hyperparameters))

    @property
    def recorded(self) -> dict[str, Any]:
        """The identity as config.json has it."""
        return json.loads(as_json(self.identity))

    @property
    def has_begun(self) -> bool:
        return (self.path / "config.json").exists() or self.files.checkpoints.exists()

    @property
    def has_checkpoints(self) -> bool:
        with Checkpoints(self.files.checkpoints) as checkpoints:
            return bool(checkpoints.steps)

    @contextlib.contextmanager
    def locked(self, resume: bool) -> Iterator[None]:
        """Creates the folder, locks it against other processes, and writes or updates config.json.

        Raises:
            Busy: if another process uses the folder.
            UserError: if the run exists and `resume` is false, if the folder cannot be created, or if any
                file in it cannot be written while it is locked.
        """
        with contextlib.ExitStack() as held:
            try:
                self.path.mkdir(parents=True, exist_ok=True)
                held.enter_context(locked(self.path / ".lock"))
            except OSError as error:
                raise UserError(f"cannot write to --save_dir: {error}") from None
            self._note_start(resume)
            try:
                yield
            except OSError as error:  # such as a picture's; most writers raise UserErrors themselves
                if error.errno not in REFUSALS:
                    raise
                path = Path(error.filename or self.path)
                raise cannot_write(path, os.strerror(error.errno)) from error

    def _note_start(self, resume: bool) -> None:
        """Writes config.json, or adds to it on which machine the run goes on."""
        if self.has_begun and not resume:
            raise UserError(
                f"this run exists: {self.path}; go on with --resume, or give another --save_dir or --seed"
            )
        if resume and not self.has_begun:
            self._tell_of_others()
        file = self.path / "config.json"
        here: dict[str, Any] = {"versions": versions(), "machine": machine(), "commit": _commit()}
        content = {**self.recorded, **self.about, "run": self.run, "columns": self.columns._asdict(), **here}
        if not file.exists():
            write_record(file, {**content, "resumed": []})
            return
        try:
            began = read_record(file)
        except Damaged as error:
            LOG.warning(f"{error}; it is written anew")
            write_record(file, {**content, "resumed": [here], "note": "written anew: it was damaged"})
            return
        for kind in ("versions", "machine"):
            if changed := differences(began[kind], here[kind]):
                LOG.warning(
                    f"the run began with another setup, so its numbers may differ from now on: {changed}"
                )
        write_record(file, {**began, **self.about, "resumed": [*began["resumed"], here]})

    def _tell_of_others(self) -> None:
        """Logs that the run starts from the beginning, and how the most similar run differs, if any."""
        others, ours = {}, settings_by_name(self.recorded)
        for file in sorted(self.path.parent.glob("*/config.json")):
            with contextlib.suppress(UserError, KeyError):  # damaged, or of another version
                theirs = settings_by_name(read_record(file)).items()
                theirs_alone = {name: value for name, value in theirs if name not in OF_THE_RECORD}
                others[file.parent.name] = differing_settings(theirs_alone, ours)
        if others:
            nearest = min(others, key=lambda name: len(others[name]))
            LOG.info(
                f"there is no run with these settings to resume, a new one begins; {nearest} has "
                f"{'; '.join(others[nearest][:3])}"
            )

    def finished_summary(self) -> dict[str, Any] | None:
        """Returns the summary if the run has finished and its files are undamaged.

        Returns:
            None if the run must continue, or must write damaged files again.
        Raises:
            Damaged: if a file has changed and there is no checkpoint to restore it from.
        """
        if not self.files.summary.exists():
            return None
        try:
            summary = read_summary(self.files.summary, self.run)
            if summary["status"] != "finished":
                return None
            read_record(self.path / "config.json")
            if "normalize_observations" in self.recorded:
                Preprocessing.load(self.files.preprocessing, self.run)
            for name, written in summary.get("logs", {}).items():
                if rows_digest(self.path / name) != written:
                    raise Damaged(f"{self.path / name}: damaged: it is not as it was written")
        except Damaged as error:
            if not self.has_checkpoints:
                raise Damaged(f"{error}; there is no checkpoint to restore it from: delete the run") from None
            LOG.warning(f"{error}; it is made anew")
            return None
        return summary

    def write_summary(self, summary: Mapping[str, Any], logs: Iterable[Path] = ()) -> dict[str, Any]:
        """Writes summary.json, with digests of the CSV files; returns its content as `read_summary` does."""
        digests = {path.name: rows_digest(path) for path in logs}
        return _with_scores(write_record(self.files.summary, {**summary, "logs": digests, "run": self.run}))


def run_label(config: Mapping[str, Any], identity: Mapping[str, Any]) -> str:
    """Returns the settings that differ from the config file's, such as beta=0.5_tau=0.1.

    Swept settings come first, then the others by name, as many as fit into LONGEST_LABEL characters. The
    label depends only on the settings, not on how they were typed. Characters that some file systems do not
    allow are left out.

    Args:
        config: resolved, with its entry `about` (the defaults to compare with).
        identity: of the run, see `RunFolder`.
    """
    swept = dict(fields_given(identity["sweep"]))
    base, of_run = config["about"].get("base", {}), config["about"].get("run", {})
    ours = {name: value for name, value in identity["config"].items() if name in base and value is not None}
    changed = {name: as_typed(ours[name]) for name in ours if name not in swept and ours[name] != base[name]}
    changed |= {
        name: as_typed(identity[name])
        for name in LABELLED
        if name in identity and identity[name] != of_run.get(name)
    }
    told: list[str] = []
    for name, value in [*swept.items(), *sorted(changed.items())]:
        part = re.sub(r"[^\w=.,+-]", "", f"{name}={value}", flags=re.ASCII)
        if len("_".join([*told, part])) <= LONGEST_LABEL:
            told.append(part)
    return "_".join(told)


def differing_settings(theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> list[str]:
    """Describes each setting that differs; one that only one run records has its default in the other."""
    return [
        f"{name}={theirs.get(name, 'the default')}, here {ours.get(name, 'the default')}"
        for name in dict.fromkeys((*ours, *theirs))
        if theirs.get(name) != ours.get(name)
    ]


def read_summary(file: Path, run: str) -> dict[str, Any]:
    """Returns the content of the run's summary.json, in which scores that are not finite are floats again.

    Raises the errors of `read_record`, and Damaged if the file belongs to another run.
    """
    summary = read_record(file)
    if summary.get("run") != run:
        raise Damaged(f"{file}: of another run, {summary.get('run')}; this one is {run}")
    return _with_scores(summary)


def _with_scores(summary: dict[str, Any]) -> dict[str, Any]:
    """Converts the text of scores that are not finite to floats. Names, such as the task's, are unchanged."""
    return {name: with_numbers(value) if name in BY_SETTING else value for name, value in summary.items()}


def rows_digest(file: Path) -> str | None:
    """Returns a digest of a CSV file's rows; None if it cannot be read."""
    with contextlib.suppress(OSError):
        return hashlib.sha256(file.read_bytes()).hexdigest()
    return None


def _commit() -> str | None:
    """Returns the commit of the running source tree; None for an installed package or without git."""
    root = Path(__file__).parents[2]
    if not (root / ".git").exists():
        return None
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=40"]
    with contextlib.suppress(OSError, subprocess.CalledProcessError):
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    return None
