"""The soft actor-critics with networks of the paper's Table 5 learn, on any device."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from learner_runs import init

from xql_jax.learners.critics import min_q
from xql_jax.learners.registry import make_learner
from xql_jax.types import Batch

O, A = 17, 6  # cheetah-run's


@pytest.fixture(scope="module")
def batch():
    """Terminal transitions whose rewards are linear in the observations."""
    generator = np.random.default_rng(0)
    observations = generator.normal(size=(256, O)).astype(np.float32)
    actions = generator.uniform(-1, 1, (256, A)).astype(np.float32)
    rewards = observations[:, 0] + observations[:, 1]
    return Batch(observations, actions, rewards, np.zeros(256, np.float32), observations)


@pytest.fixture(scope="module")
def start(batch):
    """X-SAC's first state, and SAC's: orthogonal kernels of that size take longer than the updates."""
    return init(make_learner("xsac"), batch)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["xsac", "sac"])
def test_two_layers_of_1024_fit_one_batch(name, start, batch):
    """Q learns the rewards of terminal transitions: in 30 updates most of their variance."""
    learner = make_learner(name)
    shapes = jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), start)
    own = jax.eval_shape(learner.init, jax.random.key(0), batch.observations, batch.actions)
    assert jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), own) == shapes
    kernels = [leaf.shape for leaf in jax.tree.leaves(start.critic.params) if leaf.ndim == 2]
    assert kernels == 2 * [(1024, 1), (O + A, 1024), (1024, 1024)]
    update = jax.jit(learner.update, donate_argnums=0)
    state, losses = jax.tree.map(jnp.copy, start), []
    for step in range(30):
        state, metrics = update(state, batch, jax.random.key(step))
        assert all(np.isfinite(metric) for metric in metrics.values())
        losses.append(float(metrics["critic/loss"]))
    assert losses[-1] < 0.3 * losses[0]
    q = min_q(state.critic, state.critic.params, batch.observations, batch.actions)
    assert np.corrcoef(q, batch.rewards)[0, 1] > 0.9
