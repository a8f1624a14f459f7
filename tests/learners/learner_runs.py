"""What several learner tests share: a batch, and compiled calls, as uncompiled ones take longer."""

import functools

import jax
import numpy as np

from xql_jax.types import SarsaBatch

# The tests spend their time in the compiler, so it is told not to optimise.
QUICKLY = {"xla_backend_optimization_level": 0}


def make_batch(seed=0, size=16):
    """Observations f32[size, 3], actions f32[size, 2] within [-1, 1], of s' too; half of the masks are 0."""
    generator = np.random.default_rng(seed)
    arrays = (
        generator.normal(size=(size, 3)),
        generator.uniform(-1, 1, (size, 2)),
        generator.normal(size=size),
        generator.integers(0, 2, size),
        generator.normal(size=(size, 3)),
        generator.uniform(-1, 1, (size, 2)),
    )
    return SarsaBatch(*(np.asarray(array, np.float32) for array in arrays))


@functools.partial(jax.jit, compiler_options=QUICKLY)
def init(learner, batch):
    return learner.init(jax.random.key(0), batch.observations, batch.actions)


@functools.partial(jax.jit, compiler_options=QUICKLY)
def update(learner, state, batch, key):
    return learner.update(state, batch, key)


@functools.partial(jax.jit, static_argnames="deterministic", compiler_options=QUICKLY)
def act(learner, state, observations, key, deterministic):
    return learner.act(state, observations, key, deterministic)


def flat(tree):
    """All leaves as one NumPy vector."""
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)])
