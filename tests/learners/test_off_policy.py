"""What the online learners have in common: when they update what, tracing, masks, acting, targets."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from learner_runs import QUICKLY, act, flat, init, make_batch, update
from online_runs import (
    MEANS,
    SLOPES,
    STATE_TERMS,
    STDS,
    float_fields,
    linear_actor,
    linear_critics,
    make,
    one_hot_states,
    with_params,
)

from xql_jax.learners.sac import SAC
from xql_jax.learners.td3 import TD3
from xql_jax.learners.xsac import XSAC
from xql_jax.learners.xtd3 import XTD3
from xql_jax.theory.error_model import bellman_error

LEARNERS = {
    "sac": (SAC, {}),
    "sac without V": (SAC, {"uses_value_network": False}),
    "xsac": (XSAC, {}),
    "td3": (TD3, {}),
    "xtd3": (XTD3, {}),
    "xtd3_dq": (XTD3, {"num_critics": 1}),
}
every_learner = pytest.mark.parametrize("name", LEARNERS)
every_structure = pytest.mark.parametrize("name", ["sac without V", "xsac", "td3"])
BATCH = make_batch()
ACTOR_PERIOD, TARGET_PERIOD = 3, 2


def learner_named(name, **fields):
    learner_class, own = LEARNERS[name]
    periods = {"actor_period": ACTOR_PERIOD, "target_period": TARGET_PERIOD}
    return make(learner_class, **periods | own | fields)


def parts(state):
    """What may stand still or move, as copies: of networks their parameters and Adam's moments; by name."""
    names = ("actor", "critic", "value", "log_entropy_coef", "target", "target_actor", "target_critic")
    found = {name: getattr(state, name, None) for name in names}
    return {name: flat(part) for name, part in found.items() if part is not None}


def followed(state):
    """Copies of what the target networks follow, by the targets' names."""
    if hasattr(state, "target_actor"):
        return {"target_actor": flat(state.actor.params), "target_critic": flat(state.critic.params)}
    return {"target": flat((state.value or state.critic).params)}


@every_structure
def test_delayed_updates_come_exactly_when_due(name):
    """Also: targets move by tau and by nothing else, states can be donated, metrics are always there."""
    learner = learner_named(name, actor_lr=0.01, tau=0.25)
    donating = jax.jit(learner.update, donate_argnums=0, compiler_options=QUICKLY)
    state = init(learner, BATCH)
    reports = [0.0]
    for step in range(1, 8):
        before = parts(state)
        state, metrics = donating(state, BATCH, jax.random.key(step))  # a buffer with two names would raise
        after = parts(state)
        due = {"critic", "value"} | ({"actor", "log_entropy_coef"} if step % ACTOR_PERIOD == 0 else set())
        if step % TARGET_PERIOD == 0:
            # Before the actor moves for the first time, its target has nothing to follow.
            due |= {"target", "target_critic"} | ({"target_actor"} if step > ACTOR_PERIOD else set())
            for target, params in followed(state).items():
                expected = 0.25 * params + 0.75 * before[target]
                np.testing.assert_allclose(after[target], expected, rtol=1e-5, atol=1e-7)
        assert {part for part in after if (after[part] != before[part]).any()} == due & set(after)
        assert all(np.isfinite(metric) and metric.shape == () for metric in metrics.values())
        reports.append(float(metrics["actor/loss"]))
    changes = [new != old for old, new in itertools.pairwise(reports)]
    assert changes == [step % ACTOR_PERIOD == 0 for step in range(1, 8)]  # the actor's last, until the next
    assert int(state.step) == 7


@every_structure
def test_only_what_is_due_is_run(name):
    """The delayed parts stand in conditionals of the program; what is always due stands in none."""
    for period in (1, 2):
        learner = learner_named(name, actor_period=period, target_period=period)
        state = jax.eval_shape(init, learner, BATCH)
        text = str(jax.make_jaxpr(learner.update)(state, BATCH, jax.random.key(0)))
        assert ("cond[" in text) == (period > 1)


@every_structure
def test_the_actors_step_does_not_touch_the_critics(name):
    learner, key = learner_named(name), jax.random.key(0)
    state = init(learner, BATCH)
    due = dataclasses.replace(state, step=jnp.int32(ACTOR_PERIOD - 1))
    alone, both = (parts(update(learner, start, BATCH, key)[0]) for start in (state, due))
    assert (both["actor"] != alone["actor"]).any()
    for part in {"critic", "value"} & set(both):
        np.testing.assert_array_equal(both[part], alone[part])


@every_learner
def test_masks_stop_the_bootstrap(name):
    learner, key = learner_named(name), jax.random.key(0)
    state = init(learner, BATCH)
    elsewhere = BATCH._replace(next_observations=5.0 - BATCH.next_observations)

    def critic_after(mask, batch):
        masked = batch._replace(masks=np.full_like(batch.masks, mask))
        return flat(update(learner, state, masked, key)[0].critic.params)

    np.testing.assert_array_equal(critic_after(0.0, BATCH), critic_after(0.0, elsewhere))
    assert np.abs(critic_after(1.0, BATCH) - critic_after(1.0, elsewhere)).max() > 1e-5


@every_learner
def test_one_trace_serves_every_float_and_each_has_its_effect(name, monkeypatch):
    learner, traces = learner_named(name), []
    original = type(learner).update

    def counted(self, *arguments):
        traces.append(name)
        return original(self, *arguments)

    monkeypatch.setattr(type(learner), "update", counted)

    def trained(learner):
        state = init(learner, BATCH)
        for step in range(ACTOR_PERIOD * TARGET_PERIOD):
            state, _ = update(learner, state, BATCH, jax.random.key(step))
        return flat(state)

    # Small enough for the clips to bite.
    changes = {
        "actor_lr": 1e-2, "critic_lr": 1e-2, "value_lr": 1e-2, "entropy_coef_lr": 1e-2, "max_grad_norm": 1e-9,
        "discount": 0.5, "tau": 0.5, "initial_entropy_coef": 0.5, "beta": 0.6, "clip": 0.1,
        "target_noise": 0.6, "target_noise_clip": 0.05,
    }  # fmt: skip
    reference = trained(learner)
    fields = set(float_fields(learner)) - {"exploration_noise"}  # of acting alone
    if name == "sac without V":
        fields.remove("value_lr")
    for field in fields:
        changed = learner.replace(**{field: jnp.float32(changes[field])})
        assert np.abs(trained(changed) - reference).max() > 1e-8, field
    assert len(traces) <= 1  # none where an earlier test has left its program


@every_structure
def test_vmap_over_learners_agrees_with_lone_ones(name):
    learners = [learner_named(name, critic_lr=rate) for rate in (1e-3, 3e-3)]
    states = [init(learner, BATCH) for learner in learners]
    # One member's actor is due, the other's is not.
    states[0] = dataclasses.replace(states[0], step=jnp.int32(ACTOR_PERIOD - 1))
    keys = jax.random.split(jax.random.key(0), 2)
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *zip(learners, states, strict=True))

    @jax.jit(compiler_options=QUICKLY)
    def update_all(learners, states, keys):
        return jax.vmap(lambda learner, state, key: learner.update(state, BATCH, key))(learners, states, keys)

    together = update_all(*stacked, keys)
    for index, member in enumerate(zip(learners, states, keys, strict=True)):
        learner, state, key = member
        lone = update(learner, state, BATCH, key)
        same = jax.tree.map(lambda leaf, index=index: leaf[index], together)
        # Adam amplifies the last bit of a gradient near 0.
        jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-3, atol=1e-5), lone, same)


@pytest.mark.parametrize("name", ["xsac", "xtd3"])
def test_acting_needs_the_actors_parameters_alone(name):
    learner, key = learner_named(name), jax.random.key(0)
    state = init(learner, BATCH)
    # What is not a number in the rest of the state does not reach the actions.
    broken = jax.tree.map(lambda leaf: jnp.full_like(leaf, jnp.nan), dataclasses.replace(state, step=0.0))
    broken = dataclasses.replace(broken, step=state.step)
    broken = dataclasses.replace(broken, actor=dataclasses.replace(broken.actor, params=state.actor.params))
    assert learner.actor_params(state) is state.actor.params
    for deterministic in (True, False):
        actions = act(learner, state, BATCH.observations, key, deterministic=deterministic)
        assert actions.shape == BATCH.actions.shape
        assert np.abs(actions).max() <= 1.0
        again = act(learner, broken, BATCH.observations, key, deterministic=deterministic)
        np.testing.assert_array_equal(again, actions)
    np.testing.assert_allclose(
        learner.act_with(learner.actor_params(state), BATCH.observations, key, False), actions, atol=1e-5
    )
    other = act(learner, state, BATCH.observations, jax.random.key(1), deterministic=False)
    assert np.abs(other - actions).max() > 1e-3


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
    state = dataclasses.replace(
        state,
        actor=with_params(state.actor, policy),
        critic=with_params(state.critic, linear_critics(STATE_TERMS, SLOPES)),
    )
    states, successors = np.array([0, 1, 2, 0, 1, 2]), np.array([1, 2, 0, 0, 1, 2])
    q = STATE_TERMS[0][states] + SLOPES[0] * np.asarray(batch.actions, float)[:, 0]
    next_q = STATE_TERMS[0][successors] + SLOPES[0] * np.tanh(MEANS[successors, 0])
    expected = bellman_error(batch.rewards, batch.masks * next_q, q, discount=0.9)
    np.testing.assert_allclose(learner.bellman_errors(state, batch), expected, rtol=1e-5, atol=1e-6)
