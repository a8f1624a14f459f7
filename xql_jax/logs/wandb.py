"""A run on Weights & Biases, for `--wandb`."""

import math
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path

from xql_jax.errors import UserError, needing


class WandbLogger:
    """Writes the numbers of all members (seeds and settings) to one run on Weights & Biases.

    With several members each name ends with the member's, as in `critic/loss/seed3_beta=0.5`. A resumed
    training keeps the id of its run and sends all rows again: W&B ignores the steps that it has. A run that
    the program has of its own stays as it is: open, and `wandb.log` writes to it.
    """

    def __init__(self, folder: Path, names: Sequence[str], project: str, config: Mapping[str, object]):
        with needing("--wandb", "wandb"):
            import wandb  # takes a second

        self._endings = [f"/{name}" if len(names) > 1 else "" for name in names]
        earlier = sorted(folder.glob("wandb/*run-*-*"))  # run-DATE-ID, offline-run-DATE-ID
        run_id = earlier[-1].name.rpartition("-")[2] if earlier else None
        if run_id is None and wandb.run:  # the environment's WANDB_RUN_ID is then the id of the program's run
            run_id = secrets.token_hex(4)
        try:
            self._run = wandb.init(
                project=project,
                id=run_id,
                resume="allow",
                dir=folder,
                config=dict(config),
                settings=wandb.Settings(console="off", silent=True, reinit="create_new"),
            )
        except wandb.Error as error:
            raise UserError(f"--wandb: {error}; WANDB_MODE=offline needs no account") from error

    def write(self, member: int, step: int, scalars: Mapping[str, float]) -> None:
        """Writes a member's scalars at a step, except values that are not finite."""
        ending = self._endings[member]
        self._run.log(
            {name + ending: value for name, value in scalars.items() if math.isfinite(value)}, step=step
        )

    def flush(self) -> None:
        """Does nothing: W&B's own process writes the files. What a kill loses is sent again."""

    def close(self) -> None:
        self._run.finish()
