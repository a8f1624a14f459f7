"""A run's folder: where it is, what it was asked to do, and what came of it."""

import contextlib
import dataclasses
import fcntl
import hashlib
import importlib.metadata
import json
import math
import os
import platform
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax

import xql_jax
from xql_jax.configuration import settings_by_name
from xql_jax.errors import UserError
from xql_jax.logs.files import REFUSALS, cannot_write, read_json, write_atomically

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
    identity: Mapping[str, Any]

    @property
    def path(self) -> Path:
        digest = hashlib.sha256(json.dumps(_finite(self.identity), sort_keys=True).encode()).hexdigest()[:8]
        seeds = f"seed{self.seeds[0]}" if len(self.seeds) == 1 else f"seeds{self.seeds[0]}-{self.seeds[-1]}"
        return self.save_dir / self.env_name / self.algorithm / f"{seeds}_{digest}"

    @property
    def metrics(self) -> Path:
        return self.path / "metrics.csv"

    @property
    def evaluations(self) -> Path:
        return self.path / "evaluations.csv"

    @property
    def bellman_errors(self) -> Path:
        return self.path / "bellman_errors.csv"

    @property
    def summary(self) -> Path:
        return self.path / "summary.json"

    @contextlib.contextmanager
    def opened(self, resume: bool) -> Iterator[None]:
        """Makes the folder, holds it against other processes, and notes in config.json what runs here.

        Raises:
            UserError: if the run is there already and is not to be resumed, another process is at it, the
                folder cannot be made, or the system refuses a file within, whoever writes it.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            lock = (self.path / ".lock").open("w")
        except OSError as error:
            raise UserError(f"cannot write to --save_dir: {error}") from None
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise UserError(f"another process is at this run: {self.path}") from None
            self._note_start(resume)
            try:
                yield
            except OSError as error:  # of a picture, say; most writers name their file themselves
                if error.errno not in REFUSALS:
                    raise
                path = Path(error.filename or self.path)
                raise cannot_write(path, os.strerror(error.errno)) from error

    def _note_start(self, resume: bool) -> None:
        file = self.path / "config.json"
        here = {"versions": _versions(), "commit": _commit()}
        identity = json.loads(_json(self.identity))
        if (file.exists() or (self.path / "checkpoints").exists()) and not resume:
            raise UserError(
                f"this run exists: {self.path}; go on with --resume, or give another --save_dir or --seed"
            )
        if not file.exists():
            if resume and not (self.path / "checkpoints").exists():
                self._tell_of_others(identity)
            write_json(file, {**identity, **here, "resumed": []})
            return
        config = read_json(file)
        if (
            identity != {key: config.get(key) for key in identity}
            or not isinstance(config.get("versions"), dict)
            or not isinstance(config.get("resumed"), list)
        ):
            print(f"warning: {file} is damaged; it is written anew")
            write_json(file, {**identity, **here, "resumed": [here], "note": "written anew: it was damaged"})
            return
        if config["versions"] != here["versions"]:
            print(
                "warning: the run began with other versions (config.json): its bits may differ from here on"
            )
        write_json(file, {**config, "resumed": [*config["resumed"], here]})

    def _tell_of_others(self, identity: Mapping[str, Any]) -> None:
        """Says that the run begins anew, and what sets apart the one most like it, if there is one."""
        others, ours = {}, settings_by_name(identity)
        for file in sorted(self.path.parent.glob("*/config.json")):
            theirs = settings_by_name(read_json(file))
            changed = [name for name in ours if theirs.get(name) != ours[name]]
            others[file.parent] = [f"{name}={theirs.get(name)}, here {ours[name]}" for name in changed]
        if others:
            nearest = min(others, key=lambda path: len(others[path]))
            print(
                f"no run of these settings to go on with: it begins anew; {nearest.name} has "
                f"{'; '.join(others[nearest][:3])}"
            )

    def finished_summary(self) -> dict[str, Any] | None:
        """Returns the summary if the run has ended; a damaged one is none, and is made anew by the run."""
        if not self.summary.exists():
            return None
        summary = read_json(self.summary)
        digest = summary.pop("digest", None)
        if "status" not in summary or digest not in (None, _digest(summary)):
            print(f"warning: {self.summary} is damaged; it is made anew")
            return None
        return summary if summary["status"] == "finished" else None

    def write_summary(self, summary: Mapping[str, Any]) -> None:
        summary = json.loads(_json(summary))
        write_json(self.summary, {**summary, "digest": _digest(summary)})


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Writes JSON whole or not at all; numbers that JSON has not become text, "inf" or "nan"."""
    write_atomically(path, _json(content) + "\n")


def _json(content: Mapping[str, Any]) -> str:
    return json.dumps(_finite(content), indent=2, allow_nan=False)


def _digest(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


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
