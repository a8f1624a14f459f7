"""TensorBoard event files."""

from collections.abc import Mapping
from pathlib import Path

from tensorboardX import SummaryWriter


class TensorBoardLogger:
    """One event folder a member: TensorBoard shows members as runs; a resumed run hides what it repeats."""

    def __init__(self, folder: Path, names: list[str], resume_step: int = 0):
        self._writers = [SummaryWriter(str(folder / name), purge_step=resume_step + 1) for name in names]

    def write(self, member: int, step: int, scalars: Mapping[str, float]) -> None:
        for name, value in scalars.items():
            self._writers[member].add_scalar(name, value, step)

    def flush(self) -> None:
        """Hands over what was written: rows before a checkpoint are not written again by a resumed run."""
        for writer in self._writers:
            writer.flush()

    def close(self) -> None:
        for writer in self._writers:
            writer.close()
