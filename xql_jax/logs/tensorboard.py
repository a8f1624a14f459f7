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
    """Writes one event folder per member (seed and setting), which TensorBoard shows as a run.

    When a run is resumed, TensorBoard hides the earlier events of the steps that are repeated.

    Events are written by the caller's thread. tensorboardX's SummaryWriter has a thread for each folder. If
    the disk is full, that thread ends, and the caller waits forever.
    """

    def __init__(self, folder: Path, names: list[str], resume_step: int = 0):
        self._writers: list[tuple[Path, EventsWriter]] = []
        for path in (folder / name for name in names):
            with writing(path):
                path.mkdir(parents=True, exist_ok=True)
                # The default name has the time in seconds. Nanoseconds make it unique after a quick resume.
                writer = EventsWriter(str(path / "events"), f".{time.time_ns() % 10**9:09d}")
                self._writers.append((path, writer))
                writer.write_event(Event(step=resume_step + 1, file_version="brain.Event:2"))
                start = SessionLog(status=SessionLog.START)
                writer.write_event(Event(step=resume_step + 1, session_log=start))

    def write(self, member: int, step: int, scalars: Mapping[str, float]) -> None:
        """Writes a member's scalars at a step, except values that are not finite: no curve shows them."""
        path, writer = self._writers[member]
        with writing(path):
            for name, value in scalars.items():
                if math.isfinite(value):
                    writer.write_event(Event(step=step, wall_time=time.time(), summary=scalar(name, value)))

    def flush(self) -> None:
        """Flushes the files. Called at a checkpoint: a resumed run does not write earlier events again."""
        for path, writer in self._writers:
            with writing(path):
                writer.flush()

    def close(self) -> None:
        for path, writer in self._writers:
            with writing(path):
                writer.close()
