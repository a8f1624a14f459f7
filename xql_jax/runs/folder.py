"""A run's folder: where it is, what it was asked to do, and what came of it."""

import contextlib
import dataclasses
import hashlib
import importlib.metadata
import json
import logging
import os
import platform
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import filelock
import jax

import xql_jax
from xql_jax.configuration import settings_by_name
from xql_jax.errors import UserError
from xql_jax.files import REFUSALS, as_json, cannot_write, read_json, write_json
from xql_jax.logs.csv_reader import Columns
from xql_jax.training.loop import TrainingFiles
from xql_jax.training.members import Member

LOG = logging.getLogger(__name__)
PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "gymnasium", "mujoco")


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
    def path(self) -> Path:
        digest = hashlib.sha256(json.dumps(self.recorded, sort_keys=True).encode()).hexdigest()[:8]
        seeds = f"seed{self.seeds[0]}" if len(self.seeds) == 1 else f"seeds{self.seeds[0]}-{self.seeds[-1]}"
        return self.save_dir / self.env_name / self.algorithm / f"{seeds}_{digest}"

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
            lock = filelock.FileLock(self.path / ".lock", timeout=0).acquire()
        except filelock.Timeout:
            raise UserError(f"another process is at this run: {self.path}") from None
        except OSError as error:
            raise UserError(f"cannot write to --save_dir: {error}") from None
        with lock:
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
        here = {"versions": _versions(), "commit": _commit()}
        what = {**self.recorded, "columns": self.columns._asdict()}
        if (file.exists() or self.files.checkpoints.exists()) and not resume:
            raise UserError(
                f"this run exists: {self.path}; go on with --resume, or give another --save_dir or --seed"
            )
        if not file.exists():
            if resume and not self.files.checkpoints.exists():
                self._tell_of_others()
            write_json(file, {**what, **here, "resumed": []})
            return
        config = read_json(file)
        if (
            self.recorded != {key: config.get(key) for key in self.recorded}
            or not isinstance(config.get("versions"), dict)
            or not isinstance(config.get("resumed"), list)
        ):
            LOG.warning(f"{file} is damaged; it is written anew")
            write_json(file, {**what, **here, "resumed": [here], "note": "written anew: it was damaged"})
            return
        if config["versions"] != here["versions"]:
            LOG.warning("the run began with other versions (config.json): its bits may differ from here on")
        write_json(file, {**config, "resumed": [*config["resumed"], here]})

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
        """Returns the summary if the run has ended; a damaged one is none, and is made anew by the run."""
        if not self.files.summary.exists():
            return None
        summary = read_json(self.files.summary)
        digest = summary.pop("digest", None)
        if "status" not in summary or digest not in (None, _digest(summary)):
            LOG.warning(f"{self.files.summary} is damaged; it is made anew")
            return None
        return summary if summary["status"] == "finished" else None

    def write_summary(self, summary: Mapping[str, Any]) -> dict[str, Any]:
        """Writes summary.json; returns what it holds, but for the digest."""
        content = json.loads(as_json(summary))
        write_json(self.files.summary, {**content, "digest": _digest(content)})
        return content


def _digest(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def _versions() -> dict[str, str]:
    versions = {
        "xql_jax": xql_jax.__version__,
        "python": platform.python_version(),
        "device": jax.devices()[0].device_kind,
    }
    return versions | {name: importlib.metadata.version(name) for name in PACKAGES}


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
