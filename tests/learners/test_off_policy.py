"""What the online learners have in common: when they update what, masks, vmap, acting, targets."""

import itertools

import jax
import numpy as np
import pytest
from learner_runs import QUICKLY, flat, init, make, make_batch
from online_runs import MEANS, SLOPES, STATE_TERMS, STDS, linear_actor, linear_critics, one_hot_states

from xql_jax.theory.error_model import bellman_error

LEARNERS = {
    "sac": ("sac", {}),
    "sac without V": ("sac", {"uses_value_network": False}),
    "xsac": ("xsac", {}),
    "td3": ("td3", {}),
    "xtd3": ("xtd3", {}),
    "xtd3_dq": ("xtd3_dq", {}),
}
every_learner = pytest.mark.parametrize("name", LEARNERS)
# One learner of each structure, and which of its networks have targets.
STRUCTURES = {"sac without V": ["critic"], "xsac": ["value"], "td3": ["policy", "critic"]}
every_structure = pytest.mark.parametrize("name", STRUCTURES)
BATCH = make_batch()
ACTOR_PERIOD, TARGET_PERIOD = 3, 2


def learner_named(name, hidden_dims=(8,), **changes):
    method, own = LEARNERS[name]
    periods = {"actor_period": ACTOR_PERIOD, "target_period": TARGET_PERIOD}
    return make(method, hidden_dims, **periods | own | changes)


def train_states(state):
    found = {"policy": state.policy, "value": state.value, "critic": state.critic}
    found |= {"coefficient": getattr(state.policy, "log_entropy_coef", None)}
    return {name: held for name, held in found.items() if held is not None}


def networks(state):
    """What may stand still or move, as copies: networks with Adam's moments, by name."""
    return {name: flat((held.params, held.optimizer_state)) for name, held in train_states(state).items()}


def target_networks(state):
    """Copies of the target networks, and of what they follow, by name."""
    held = {name: held for name, held in train_states(state).items() if held.target is not None}
    return {name: (flat(state.target), flat(state.params)) for name, state in held.items()}


@every_structure
def test_delayed_updates_come_exactly_when_due(name):
    """Also: targets move by tau and by nothing else, states can be donated, metrics are always there."""
    learner = learner_named(name, actor_lr=0.01, tau=0.25)
    donating = jax.jit(learner.update, donate_argnums=0, compiler_options=QUICKLY)
    state = init(learner, BATCH)
    assert list(target_networks(state)) == STRUCTURES[name]
    reports = [0.0]
    for step in range(1, 8):
        before, targets_before = networks(state), target_networks(state)
        state, metrics = donating(state, BATCH, jax.random.key(step))  # a buffer with two names would raise
        after, targets_after = networks(state), target_networks(state)
        due = {"critic", "value"} | ({"policy", "coefficient"} if step % ACTOR_PERIOD == 0 else set())
        assert {part for part in after if (after[part] != before[part]).any()} == due & set(after)
        for part, (target, followed) in targets_after.items():
            old, _ = targets_before[part]
            if step % TARGET_PERIOD == 0:
                np.testing.assert_allclose(target, 0.25 * followed + 0.75 * old, rtol=1e-5, atol=1e-7)
            # Before the actor moves for the first time, its target has nothing to follow.
            moves = step % TARGET_PERIOD == 0 and (part != "policy" or step > ACTOR_PERIOD)
            assert (target != old).any() == moves
        assert all(np.isfinite(metric) and metric.shape == () for metric in metrics.values())
        reports.append(float(metrics["actor/loss"]))
    changes = [new != old for old, new in itertools.pairwise(reports)]
    assert changes == [step % ACTOR_PERIOD == 0 for step in range(1, 8)]  # the actor's last, until the next
    assert int(state.step) == 7


@pytest.mark.parametrize("name", ["sac", "td3"])
def test_bellman_errors_are_those_of_appendix_d2(name):
    """Linear critics and policy over three states: first critic, central action, no target network."""
    learner = learner_named(name, hidden_dims=(), discount=0.9)
    batch = one_hot_states(3, 2)._replace(
        actions=np.linspace(-0.9, 0.9, 6, dtype=np.float32)[:, None],
        rewards=np.arange(6, dtype=np.float32),
        masks=np.array([1, 1, 0, 1, 0, 1], np.float32),
        next_observations=np.eye(3, dtype=np.float32)[[1, 2, 0, 0, 1, 2]],
    )
    policy = linear_actor(MEANS, STDS)
    if name == "td3":
        policy = jax.tree.map(lambda leaf: leaf[..., :1], policy)  # the means
    state = init(learner, batch)
    # A target critic or actor, where there is one, stays another.
    critic = state.critic.replace(params=linear_critics(STATE_TERMS, SLOPES))
    state = state.replace(policy=state.policy.replace(params=policy), critic=critic)
    states, successors = np.array([0, 1, 2, 0, 1, 2]), np.array([1, 2, 0, 0, 1, 2])
    q = STATE_TERMS[0][states] + SLOPES[0] * np.asarray(batch.actions, float)[:, 0]
    next_q = STATE_TERMS[0][successors] + SLOPES[0] * np.tanh(MEANS[successors, 0])
    expected = bellman_error(batch.rewards, batch.masks * next_q, q, discount=0.9)
    np.testing.assert_allclose(learner.bellman_errors(state, batch), expected, rtol=1e-5, atol=1e-6)
