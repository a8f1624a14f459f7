"""JAX's settings while this package computes, whatever the program around it has set."""

import contextlib
from collections.abc import Iterator, Mapping

import jax

from xql_jax.errors import UserError

# Settings of JAX that change random numbers, sums or the computation itself. By default JAX reads each one
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
}


@contextlib.contextmanager
def settings_of_jax() -> Iterator[None]:
    """Sets JAX's settings to SETTINGS while entered, in this thread alone; as a decorator, in each call."""
    check_platforms()
    with contextlib.ExitStack() as held:
        for name, value in SETTINGS.items():
            held.enter_context(jax.config._value_holders[name](value))  # type: ignore[operator]
        yield


def check_platforms(wanted: str | None = None) -> None:
    """Raises UserError if JAX finds no device of the platforms; None: those of JAX_PLATFORMS."""
    wanted = wanted or jax.config.jax_platforms or ""  # type: ignore[attr-defined]
    names, reason = wanted.split(","), ""
    try:
        is_there = jax.default_backend() != "cpu" or names == [""] or "cpu" in names
    except (RuntimeError, AssertionError) as error:  # the latter if only a GPU is asked for
        is_there, reason = False, f" ({error})" if str(error) else ""
    if not is_there:
        raise UserError(f"JAX_PLATFORMS={wanted}: not available here{reason}; unset it")
