"""A policy as a `jax.export` artifact: portable code that needs only JAX, which compiles it."""

from collections.abc import Callable
from pathlib import Path

import jax
import jax.export
import numpy as np

from xql_jax.types import Array

PLATFORMS = ("cpu", "cuda", "tpu")


def write_artifact(act: Callable[[Array], Array], observation_dim: int, path: Path) -> None:
    """Writes the function of f32[B, O], for any B, as StableHLO for `PLATFORMS`.

    jax.export promises that versions of JAX up to six months newer can read it.
    """
    (size,) = jax.export.symbolic_shape("B")
    observations = jax.ShapeDtypeStruct((size, observation_dim), np.float32)
    path.write_bytes(jax.export.export(jax.jit(act), platforms=PLATFORMS)(observations).serialize())


def read_artifact(path: Path) -> Callable[[np.ndarray], np.ndarray]:
    """Returns the function that `write_artifact` wrote."""
    called = jax.export.deserialize(bytearray(path.read_bytes())).call
    return lambda observations: np.asarray(called(observations))
