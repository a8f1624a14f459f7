"""JAX's settings while this package computes, whatever the program around it has set."""

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import jax

# Settings of JAX that change random numbers, sums or the computation itself. By default JAX reads each one
# from the environment variable of that name.
SETTINGS: Mapping[str, Any] = {
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
    with contextlib.ExitStack() as held:
        for name, value in SETTINGS.items():
            held.enter_context(jax.config._value_holders[name](value))  # type: ignore[operator]
        yield
