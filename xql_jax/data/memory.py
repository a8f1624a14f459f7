"""How much memory there is, and the error message if there is too little."""

import jax
import psutil

from xql_jax.errors import UserError

# Of a file's arrays: as they are read, as transitions, and as transitions after preprocessing.
COPIES = 3
SHARE_OF_DEVICE = 0.6  # of its memory, for the data; the rest is for networks, their gradients and XLA


def check_memory(num_bytes: int, what: str) -> None:
    """Raises UserError if the host's free memory has no room for a dataset.

    Args:
        num_bytes: of the arrays in its files.
        what: its name, for the message.
    """
    needed, free = COPIES * num_bytes, psutil.virtual_memory().available
    if needed > free:
        raise UserError(
            f"{what}: {needed / 1e9:,.3f} GB of memory are needed, {free / 1e9:,.3f} GB are free: use a "
            "machine with more memory, or a part of the data"
        )


def fits_on_device(num_bytes: int) -> bool:
    """Returns whether each device that JAX uses has room for so many bytes of transitions."""
    return num_bytes < room_on_device()


def room_on_device() -> int:
    """Returns the bytes that data may take on each device that JAX uses."""
    statistics = jax.local_devices()[0].memory_stats()
    if statistics is None or "bytes_limit" not in statistics:  # a CPU, which has no memory of its own
        return int(SHARE_OF_DEVICE * psutil.virtual_memory().available)
    return int(SHARE_OF_DEVICE * (statistics["bytes_limit"] - statistics["bytes_in_use"]))
