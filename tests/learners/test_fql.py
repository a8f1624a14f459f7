"""FQL's losses are those of its authors' program (seohongpark/fql, agents/fql.py) on the same tensors."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from slow_cases import slow_but

from xql_jax.learners.parts import CriticState, LearnerState, NetworkState
from xql_jax.learners.registry import make_learner
from xql_jax.types import Batch

B, O, A = 16, 4, 2
KEY = jax.random.key(0)
# By target_q and normalize_q (with actor_layer_norm, too): what their `total_loss` gives for these tensors.
THEIRS = {
    ("mean", False): (5.169246196746826, 1.4737584590911865, 1.4746235609054565, -0.770535945892334),
    ("mean", True): (5.1659040451049805, 1.3897449970245361, 0.9155044555664062, -0.7869404554367065),
    ("min", False): (4.206752300262451, 1.4737584590911865, 1.4746235609054565, -0.770535945892334),
    ("min", True): (4.205679893493652, 1.3897449970245361, 0.9155044555664062, -0.7869404554367065),
}


class TheirCritic(nn.Module):
    """Their critic: after each hidden layer GELU, then layer norm."""

    @nn.compact
    def __call__(self, *inputs):
        x = jnp.concatenate(inputs, -1)
        for _ in range(2):
            x = nn.LayerNorm()(nn.gelu(nn.Dense(8)(x)))
        return nn.Dense(1)(x).squeeze(-1)


def waves(params, phase):
    """Parameters of these shapes, the same in every program."""
    leaves, structure = jax.tree.flatten(params)
    made = []
    for number, leaf in enumerate(leaves):
        steps = 0.7 * jnp.arange(leaf.size, dtype=jnp.float32)
        made.append(0.6 * jnp.sin(phase * (1 + number) + steps).reshape(leaf.shape))
    return jax.tree.unflatten(structure, made)


def fixed_batch():
    generator = np.random.default_rng(3)
    states, next_states = generator.normal(size=(2, B, O)).astype(np.float32)
    actions = generator.uniform(-1, 1, (B, A)).astype(np.float32)
    rewards = generator.normal(size=B).astype(np.float32)
    masks = (generator.uniform(size=B) < 0.8).astype(np.float32)
    return Batch(states, actions, rewards, masks, next_states)


@pytest.mark.parametrize("case", slow_but(THEIRS, ("mean", True), ("min", False)))
def test_losses_are_the_authors(case):
    target_q, normalize_q = case
    config = {"actor_hidden_dims": (8, 8), "actor_layer_norm": normalize_q, "flow_alpha": 3.0}
    learner = make_learner("fql", {**config, "target_q": target_q, "normalize_q": normalize_q})
    batch = fixed_batch()
    velocity, critic = learner.policy.head.network(A), TheirCritic()
    flow = velocity.init(KEY, batch.observations, batch.actions, batch.actions[:, :1])
    one_step = velocity.init(KEY, batch.observations, batch.actions)
    q = critic.init(KEY, batch.observations, batch.actions)
    critics = CriticState.create(critic, (waves(q, 1.0), waves(q, 2.0)))
    state = LearnerState(
        jnp.zeros((), jnp.int32),
        NetworkState.create(velocity, (waves(flow, 5.0), waves(one_step, 6.0))),
        critic=critics.replace(target=(waves(q, 3.0), waves(q, 4.0))),
    )
    _, info = learner.update(state, batch, KEY)
    found = [info["critic/loss"] / 2, *(info[f"actor/{name}"] for name in ("loss", "distance", "q"))]
    np.testing.assert_allclose(found, THEIRS[case], rtol=1e-5)
