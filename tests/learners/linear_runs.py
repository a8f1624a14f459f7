"""What the tests of TD3's offline kin share: linear networks, their gradients and metrics of one update."""

import jax
import jax.numpy as jnp
import numpy as np
from learner_runs import FROZEN, init, make, update
from online_runs import gradient, linear_critics

from xql_jax.types import SarsaBatch


def transition(observations, actions, rewards, next_observations, next_actions, masks):
    """Rows as a batch, float32."""
    rows = (observations, actions, rewards, masks, next_observations, next_actions)
    return SarsaBatch(*(jnp.asarray(column, jnp.float32) for column in rows))


def linear(layer, bias=0.0):
    """Parameters of a network without hidden layers."""
    kernel = jnp.asarray(layer, jnp.float32)
    return {"params": {"Dense_0": {"kernel": kernel, "bias": jnp.full(kernel.shape[-1], bias)}}}


def one_update(name, batch, actions, critics, target_critics=None, **changes):
    """One update of linear networks over one-hot states: the slopes of the actor and the critics, metrics.

    Args:
        actions: [S, A], the policy's.
        critics: [N, S] and [N, A], see `linear_critics`; they stand still unless `critic_lr` is given.
        target_critics: the same of their targets, if they are others.
    """
    settings = {"critic_lr": FROZEN, "actor_period": 1, "target_noise": 0.0, "num_critics": len(critics[0])}
    learner = make(name, (), **{**settings, **changes})
    state = init(learner, batch)
    actor = linear(np.arctanh(actions))
    state = state.replace(
        policy=state.policy.replace(params=actor, target=actor),
        critic=state.critic.replace(
            params=linear_critics(*critics), target=linear_critics(*(target_critics or critics))
        ),
    )
    after, metrics = update(learner, state, batch, jax.random.key(0))
    slopes = gradient(after.policy)["params"]["Dense_0"]["kernel"]
    return slopes, [slope["params"]["Dense_0"]["kernel"] for slope in gradient(after.critic)], metrics
