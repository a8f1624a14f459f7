"""What several learner tests share: small learners, a batch, compiled calls (others take longer)."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from xql_jax.learners.registry import FLOWS, HEADS, IN_SAMPLE, OFFLINE, ONLINE, POLICIES, make_learner
from xql_jax.settings import replaced, values_of, with_values
from xql_jax.types import CalibratedBatch, SarsaBatch, Windows

# The tests spend their time in the compiler, so it is told not to optimise.
QUICKLY = {"xla_backend_optimization_level": 0}
METHODS = {**OFFLINE, **ONLINE}
# METHOD+POLICY: every policy with one method, and one policy with every method that takes others.
REPLACED = [f"xql+{name}" for name in (*POLICIES, *HEADS)]
REPLACED += [f"xql+{name}+mixture" for name in POLICIES if name not in FLOWS]
REPLACED += [f"xql+reverse_kl+{name}" for name in HEADS if name != "mixture"]
REPLACED += [f"{name}+state_gaussian" for name in (*IN_SAMPLE, "bc", "awac", "onestep", "brac_p", "bear")]
# Value fits whose scale is a number, one for each state, or a part of the state, and V not above Q's maximum.
REPLACED += ["sql+reverse_kl", "qql+max_q", "eql+trust_region", "xql_bellman+reverse_kl+mixture"]
DECAYING = [name for name in METHODS if values_of(make_learner(name)).get("decay_actor_lr")]
# What the methods without hidden layers are in tests.
SMALL = {
    "dt": {"embed_dim": 8, "num_layers": 1, "context_length": 4, "max_timesteps": 8, "actor_warmup_steps": 1}
}
FROZEN = jnp.float32(0.0)  # a learning rate that no user may give


def make(name, hidden_dims=(8,), **changes):
    """The named method's learner; all its networks have these hidden layers."""
    learner = make_learner(name)
    widths = [field for field in values_of(learner) if field.endswith("_hidden_dims")]
    values = dict.fromkeys(widths, hidden_dims) | SMALL.get(name, {}) | changes
    frozen = {field: rate for field, rate in values.items() if rate is FROZEN}
    checked = {field: value for field, value in values.items() if field not in frozen}
    return replaced(with_values(learner, checked), frozen)


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


def fitting(learner, batch):
    """The batch as the learner asks for it: its rows in a ring, as a trajectory without beginning or end."""
    if learner.batch_type is CalibratedBatch:
        return CalibratedBatch(*batch[:5], batch.rewards)
    if learner.batch_type is not Windows:
        return batch
    rows = np.arange(4)[:, None] + np.arange(learner.context_length)
    fields = (np.take(field, rows, axis=0, mode="wrap") for field in batch[:3])
    return Windows(*fields, rows.astype(np.int32), rows >= 2, np.full(4, 5.0, np.float32))


@functools.partial(jax.jit, compiler_options=QUICKLY)
def init(learner, batch):
    return learner.init(jax.random.key(0), batch.observations, batch.actions)


@functools.partial(jax.jit, compiler_options=QUICKLY)
def update(learner, state, batch, key):
    return learner.update(state, batch, key)


@functools.partial(jax.jit, static_argnames="deterministic", compiler_options=QUICKLY)
def act(learner, state, observations, key, deterministic):
    return learner.act(learner.actor(state), observations, key, deterministic)


def flat(tree):
    """All leaves as one NumPy vector."""
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)])


def same(first, second):
    """Asserts that two trees are equal to the bit, and in what is static, functions included."""
    assert jax.tree.structure(first) == jax.tree.structure(second)
    for one, other in zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True):
        np.testing.assert_array_equal(one, other)
