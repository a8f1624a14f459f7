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
            f"{what}: {in_words(needed)} of memory are needed, {in_words(free)} are free: use a machine with "
            "more memory, or a part of the data"
        )


def in_words(num_bytes: int) -> str:
    unit, name = (10**9, "GB") if num_bytes >= 10**9 else (10**6, "MB")
    return f"{num_bytes / unit:,.2f} {name}"


def fits_on_device(num_bytes: int) -> bool:
    """Returns whether each device that JAX uses has room for so many bytes of transitions."""
    return num_bytes < room_on_device()


def room_on_device() -> int:
    """Returns the bytes that data may take on each device that JAX uses."""
    left = memory_of_device()
    return int(SHARE_OF_DEVICE * (psutil.virtual_memory().available if left is None else left))


def check_device(num_bytes: int, what: str) -> None:
    """Raises UserError if transitions of so many bytes exceed the free memory of a device that JAX uses."""
    left = memory_of_device()
    if left is not None and num_bytes > left:
        raise UserError(
            f"{what}: {in_words(num_bytes)} of memory are needed on the device, {in_words(left)} are there: "
            "--data_on=host streams them in blocks"
        )


def memory_of_device() -> int | None:
    """Returns the bytes left on each device that JAX uses; None for a CPU, which has no memory of its own."""
    statistics = jax.local_devices()[0].memory_stats()
    if statistics is None or "bytes_limit" not in statistics:
        return None
    return int(statistics["bytes_limit"] - statistics["bytes_in_use"])
