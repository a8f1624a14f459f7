"""A run's folder: where it is, what it was asked to do, and what came of it."""

import contextlib
import dataclasses
import hashlib
import json
import logging
import os
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from xql_jax.configuration import settings_by_name
from xql_jax.data.preprocessing import Preprocessing
from xql_jax.errors import Damaged, UserError
from xql_jax.files import (
    REFUSALS,
    Taken,
    as_json,
    cannot_write,
    digest,
    locked,
    read_file,
    read_json,
    read_record,
    set_aside,
    write_record,
)
from xql_jax.logs.csv_reader import Columns
from xql_jax.runs.provenance import differences, machine, versions
from xql_jax.training.checkpoints import Checkpoints
from xql_jax.training.loop import TrainingFiles
from xql_jax.training.members import Member

LOG = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class RunFolder:
    """SAVE_DIR/ENV/ALGORITHM/RUN/, with RUN derived from `identity`: all that defines the run's numbers.

    So `--resume` finds its run, and a run with other settings never touches it.
    """

    save_dir: Path
    env_name: str
    algorithm: str
    seeds: Sequence[int]
    members: Sequence[Member]
    identity: Mapping[str, Any]

    @property
    def run(self) -> str:
        """A digest of the identity, which all files of the run carry."""
        return digest(self.recorded)[:16]

    @property
    def path(self) -> Path:
        seeds = f"seed{self.seeds[0]}" if len(self.seeds) == 1 else f"seeds{self.seeds[0]}-{self.seeds[-1]}"
        return self.save_dir / self.env_name / self.algorithm / f"{seeds}_{self.run[:8]}"

    @property
    def files(self) -> TrainingFiles:
        return TrainingFiles(self.path)

    @property
    def columns(self) -> Columns:
        """What the columns of its CSV files are."""
        return Columns.of(list(self.members[0].hyperparameters))

    @property
    def recorded(self) -> dict[str, Any]:
        """The identity as config.json has it."""
        return json.loads(as_json(self.identity))

    @contextlib.contextmanager
    def opened(self, resume: bool) -> Iterator[None]:
        """Makes the folder, holds it against other processes, and notes in config.json what runs here.

        Raises:
            UserError: if the run is there already and is not to be resumed, another process is at it, the
                folder cannot be made, or the system refuses a file within, whoever writes it.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            held = contextlib.ExitStack()
            held.enter_context(locked(self.path / ".lock"))
        except Taken:
            raise UserError(f"another process is at this run: {self.path}") from None
        except OSError as error:
            raise UserError(f"cannot write to --save_dir: {error}") from None
        with held:
            self._note_start(resume)
            try:
                yield
            except OSError as error:  # a picture's, say; most writers name their file themselves
                if error.errno not in REFUSALS:
                    raise
                path = Path(error.filename or self.path)
                raise cannot_write(path, os.strerror(error.errno)) from error

    def _note_start(self, resume: bool) -> None:
        file = self.path / "config.json"
        here: dict[str, Any] = {"versions": versions(), "machine": machine(), "commit": _commit()}
        what = {**self.recorded, "run": self.run, "columns": self.columns._asdict()}
        has_begun = os.path.lexists(file) or os.path.lexists(self.files.checkpoints)
        if has_begun and not resume:
            raise UserError(
                f"this run exists: {self.path}; go on with --resume, or give another --save_dir or --seed"
            )
        if not os.path.lexists(file):
            if resume and not has_begun:
                self._tell_of_others()
            write_record(file, {**what, **here, "resumed": []})
            return
        try:
            config = read_config(file)
            if config["run"] != self.run:
                raise Damaged(f"{file}: of another run, {config['run']}; this one is {self.run}")
        except Damaged as error:
            aside = set_aside(file)
            LOG.warning(f"{error}; it is written anew, the file as it was is {aside.name}")
            write_record(file, {**what, **here, "resumed": [here], "note": "written anew: it was damaged"})
            return
        for kind in ("versions", "machine"):
            if changed := differences(config[kind], here[kind]):
                LOG.warning(f"the run began elsewhere, its bits may differ from here on: {changed}")
        write_record(file, {**config, "resumed": [*config["resumed"], here]})

    def _tell_of_others(self) -> None:
        """Says that the run begins anew, and what sets apart the one most like it, if there is one."""
        others, ours = {}, settings_by_name(self.recorded)
        for file in sorted(self.path.parent.glob("*/config.json")):
            theirs = settings_by_name(read_json(file))
            changed = [name for name in ours if theirs.get(name) != ours[name]]
            others[file.parent] = [f"{name}={theirs.get(name)}, here {ours[name]}" for name in changed]
        if others:
            nearest = min(others, key=lambda path: len(others[path]))
            LOG.info(
                f"no run of these settings to go on with: it begins anew; {nearest.name} has "
                f"{'; '.join(others[nearest][:3])}"
            )

    def finished_summary(self) -> dict[str, Any] | None:
        """Returns the summary if the run has ended and its rows are there, else None: the run makes it anew.

        Raises:
            UserError: if rows are not as they were written, and no checkpoint is there to get them from.
        """
        if not os.path.lexists(self.files.summary):
            return None
        try:
            summary = read_summary(self.files.summary, self.run)
        except Damaged as error:
            LOG.warning(f"{error}; it is made anew")
            return None
        if summary["status"] != "finished":
            return None
        changed = [
            name for name, found in summary.get("logs", {}).items() if found != rows_digest(self.path / name)
        ]
        changed += self._damaged_records()
        if not changed:
            return summary
        what = f"{self.path}: the run has ended, and {', '.join(changed)} is not as it was written"
        if not self.has_checkpoints:
            raise UserError(
                f"{what}; there is no checkpoint to get the rows from: mend it, or delete the run"
            )
        LOG.warning(f"{what}; it is made anew")
        return None

    def _damaged_records(self) -> list[str]:
        """Names of the files, beside the summary, without which nothing else reads the run."""
        damaged = []
        try:
            if read_config(self.path / "config.json")["run"] != self.run:
                damaged.append("config.json")
        except Damaged:
            damaged.append("config.json")
        if os.path.lexists(self.files.preprocessing):
            try:
                Preprocessing.load(self.files.preprocessing, self.run)
            except Damaged:
                damaged.append("preprocessing.json")
        return damaged

    @property
    def has_checkpoints(self) -> bool:
        with Checkpoints(self.files.checkpoints) as checkpoints:
            return bool(checkpoints.steps)

    def write_summary(self, summary: Mapping[str, Any]) -> dict[str, Any]:
        """Writes summary.json, with this run's digest; returns what it holds."""
        if os.path.lexists(self.files.summary):
            try:
                read_summary(self.files.summary, self.run)
            except Damaged:
                set_aside(self.files.summary)
        return write_record(self.files.summary, {**summary, "run": self.run})


def read_config(file: Path) -> dict[str, Any]:
    """Returns what a run's config.json holds.

    Raises:
        Damaged: if that is not what was written.
        UserError: if a version before 0.5 wrote it, or it cannot be read.
    """
    try:
        return read_record(file)
    except Damaged as error:
        by = read_json(file).get("versions")
        if isinstance(by, dict) and str(by.get("xql_jax")).startswith(("0.1.", "0.2.", "0.3.", "0.4.")):
            raise UserError(
                f"{file}: written by version {by['xql_jax']}, whose runs this one cannot read"
            ) from error
        raise


def read_summary(file: Path, run: str) -> dict[str, Any]:
    """Returns what the summary.json of the run holds; raises as `read_record`, also if it is another's."""
    summary = read_record(file)
    if summary.get("run") != run:
        raise Damaged(f"{file}: of another run, {summary.get('run')}; this one is {run}")
    return summary


def rows_digest(file: Path) -> str | None:
    """A digest of a CSV file's rows; None if they cannot be read."""
    try:
        return hashlib.sha256(read_file(file)).hexdigest()
    except OSError:
        return None


def _commit() -> str | None:
    """The commit of the source tree that runs; None for an installed package or without git."""
    try:
        _git("ls-files", "--error-unmatch", Path(__file__).name)  # or the tree is another project's
        return _git("describe", "--always", "--dirty", "--abbrev=40")
    except (OSError, subprocess.CalledProcessError):
        return None


def _git(*arguments: str) -> str:
    command = ["git", "-C", str(Path(__file__).parent), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
