"""JAX's settings while this package computes, whatever the program around it has set."""

import contextlib
import importlib.util
import os
from collections.abc import Iterator, Mapping
from importlib.metadata import entry_points
from pathlib import Path

import jax

from xql_jax.errors import UserError

# Settings of JAX that change random numbers, sums or the computation itself. By default JAX reads each
# from the environment variable of that name.
SETTINGS: Mapping[str, bool | int | str | None] = {
    "jax_enable_x64": False,
    "jax_default_matmul_precision": None,
    "jax_default_prng_impl": "threefry2x32",
    "jax_threefry_partitionable": True,
    "jax_random_seed_offset": 0,
    "jax_high_dynamic_range_gumbel": False,
    "jax_numpy_dtype_promotion": "standard",
    "jax_numpy_rank_promotion": "allow",  # it could warn, or raise errors
    "jax_debug_nans": False,  # they would raise errors; the training loop handles NaN itself
    "jax_debug_infs": False,
    "jax_disable_jit": False,  # programs are compiled before they are called
    "jax_transfer_guard_host_to_device": "allow",
    "jax_transfer_guard_device_to_host": "allow",
    "jax_transfer_guard_device_to_device": "allow",
}
GOOGLE = "0x1ae0"  # the number of the makers of TPUs on a PCI bus

if not jax.config.jax_platforms and importlib.util.find_spec("libtpu"):  # type: ignore[attr-defined]
    # Perhaps for its compiler alone. JAX would load it, and it would complain before each command's lines.
    has_plugins = importlib.util.find_spec("jax_plugins") or entry_points(group="jax_plugins")
    vendors = [file.read_text().strip() for file in Path("/sys/bus/pci/devices").glob("*/vendor")]
    if not has_plugins and GOOGLE not in vendors and "JAX_FORCE_TPU_INIT" not in os.environ:
        jax.config.update("jax_platforms", "cpu")


# By --matmul_precision: JAX's name for it, and the platforms that have it. By default GPUs multiply float32
# in TF32, TPUs in bfloat16, CPUs in float32.
MATMUL_PRECISIONS: Mapping[str, tuple[str | None, tuple[str, ...]]] = {
    "default": (None, ("cpu", "gpu", "tpu")),
    "highest": ("highest", ("cpu", "gpu", "tpu")),
    "tf32": ("TF32_TF32_F32", ("gpu",)),
    "bfloat16": ("BF16_BF16_F32", ("gpu", "tpu")),
}


@contextlib.contextmanager
def settings_of_jax(matmul_precision: str = "default") -> Iterator[None]:
    """Sets JAX's settings to SETTINGS while entered, in this thread alone; as a decorator, in each call."""
    check_platforms()
    precision = MATMUL_PRECISIONS[matmul_precision][0]
    with contextlib.ExitStack() as held:
        for name, value in {**SETTINGS, "jax_default_matmul_precision": precision}.items():
            held.enter_context(jax.config._value_holders[name](value))  # type: ignore[operator]
        yield


def check_matmul_precision(name: str, platform: str) -> None:
    """Raises UserError if devices of the platform cannot multiply so."""
    if platform not in MATMUL_PRECISIONS[name][1]:
        known = [other for other, (_, platforms) in MATMUL_PRECISIONS.items() if platform in platforms]
        raise UserError(f"--matmul_precision={name}: not on a {platform.upper()}: give {' or '.join(known)}")


def check_platforms(wanted: str | None = None) -> None:
    """Raises UserError if JAX finds no device of the platforms; None: the platforms of JAX_PLATFORMS."""
    wanted = wanted or jax.config.jax_platforms or ""  # type: ignore[attr-defined]
    names, reason = wanted.split(","), ""
    try:
        is_there = jax.default_backend() != "cpu" or names == [""] or "cpu" in names
    except (RuntimeError, AssertionError) as error:  # the latter if only a GPU is asked for
        is_there, reason = False, f" ({error})" if str(error) else ""
    if not is_there:
        raise UserError(f"JAX_PLATFORMS={wanted}: not available here{reason}; unset it")
