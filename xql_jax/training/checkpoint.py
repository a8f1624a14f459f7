"""Checkpoints of a run: the population's states and what the loop must know to go on, written by orbax."""

import dataclasses
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp

from xql_jax.types import State

KEPT = 3


@dataclasses.dataclass(frozen=True)
class Progress:
    """What the loop must know to go on, beside the states. Times in seconds."""

    step: int = 0
    evaluation_due: bool = False  # at `step`: a signal came before it or in its midst
    diverged: dict[str, dict[str, Any]] = dataclasses.field(default_factory=dict)
    update_seconds: float = 0.0
    evaluation_seconds: float = 0.0


class Checkpoints:
    """The last three checkpoints of a run, in one folder; orbax writes each under a temporary name first."""

    def __init__(self, folder: Path):
        options = ocp.CheckpointManagerOptions(max_to_keep=KEPT, enable_async_checkpointing=False)
        self._manager = ocp.CheckpointManager(folder.absolute(), options=options)

    @property
    def latest_step(self) -> int | None:
        return self._manager.latest_step()

    def save(self, states: State, progress: Progress) -> None:
        """Writes the checkpoint of `progress.step`, unless there is one: the same step is the same state."""
        if progress.step not in self._manager.all_steps():
            contents = ocp.args.Composite(
                states=ocp.args.StandardSave(states), progress=ocp.args.JsonSave(dataclasses.asdict(progress))
            )
            self._manager.save(progress.step, args=contents)

    def restore(self, like: State) -> tuple[State, Progress]:
        """Returns the last checkpoint, its arrays placed as those of `like`."""
        abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, like)
        contents = ocp.args.Composite(
            states=ocp.args.StandardRestore(abstract), progress=ocp.args.JsonRestore()
        )
        restored = self._manager.restore(self._manager.latest_step(), args=contents)
        return restored.states, Progress(**restored.progress)

    def close(self) -> None:
        self._manager.close()
