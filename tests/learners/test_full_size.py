"""The soft actor-critics at the size of the paper's Table 5 learn, on any device."""

import jax
import numpy as np
import pytest
from learner_runs import QUICKLY, init

from xql_jax.learners.registry import make_learner
from xql_jax.types import Batch

BATCH_SIZE, O, A = 1024, 17, 6  # cheetah-run's


@pytest.mark.slow
@pytest.mark.parametrize("name", ["xsac", "sac"])
def test_two_layers_of_1024_fit_one_batch(name):
    """Q learns the rewards of terminal transitions: in 30 updates most of their variance."""
    generator = np.random.default_rng(0)
    observations = generator.normal(size=(BATCH_SIZE, O)).astype(np.float32)
    batch = Batch(
        observations,
        generator.uniform(-1, 1, (BATCH_SIZE, A)).astype(np.float32),
        observations[:, 0] + observations[:, 1],
        np.zeros(BATCH_SIZE, np.float32),
        observations,
    )
    learner = make_learner(name, {})
    state = init(learner, batch)
    kernels = [leaf.shape for leaf in jax.tree.leaves(state.critic.params) if leaf.ndim == 2]
    assert kernels == 2 * [(1024, 1), (O + A, 1024), (1024, 1024)]
    update = jax.jit(learner.update, donate_argnums=0, compiler_options=QUICKLY)
    losses = []
    for step in range(30):
        state, metrics = update(state, batch, jax.random.key(step))
        assert all(np.isfinite(metric) for metric in metrics.values())
        losses.append(float(metrics["critic/loss"]))
    assert losses[-1] < 0.3 * losses[0]
    q = learner.min_q(state.critic.params, batch.observations, batch.actions)
    assert np.corrcoef(q, batch.rewards)[0, 1] > 0.9
