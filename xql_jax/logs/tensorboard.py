"""TensorBoard event files."""

import math
import time
from collections.abc import Mapping
from pathlib import Path

from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.summary import scalar

from xql_jax.files import writing


class TensorBoardLogger:
    """One event folder a member: TensorBoard shows members as runs; a resumed run hides what it repeats.

    Events are written by the caller's thread. tensorboardX's SummaryWriter has one for each folder: at a full
    disk that thread ends with a traceback, and after ten more events the caller waits for ever.
    """

    def __init__(self, folder: Path, names: list[str], resume_step: int = 0):
        self._folders = [folder / name for name in names]
        self._writers = []
        for path in self._folders:
            with writing(path):
                path.mkdir(parents=True, exist_ok=True)
                # The name has the time in seconds: a run resumed within the second writes another file.
                writer = EventsWriter(str(path / "events"), f".{time.time_ns() % 10**9:09d}")
                self._writers.append(writer)
                writer.write_event(Event(step=resume_step + 1, file_version="brain.Event:2"))
                start = SessionLog(status=SessionLog.START)
                writer.write_event(Event(step=resume_step + 1, session_log=start))

    def write(self, member: int, step: int, scalars: Mapping[str, float]) -> None:
        """Leaves out what is not finite, which no curve shows."""
        for name, value in scalars.items():
            if not math.isfinite(value):
                continue
            event = Event(step=step, wall_time=time.time(), summary=scalar(name, value))
            with writing(self._folders[member]):
                self._writers[member].write_event(event)

    def flush(self) -> None:
        """Hands over what was written: rows before a checkpoint are not written again by a resumed run."""
        for path, writer in zip(self._folders, self._writers, strict=True):
            with writing(path):
                writer.flush()

    def close(self) -> None:
        for path, writer in zip(self._folders, self._writers, strict=True):
            with writing(path):
                writer.close()
