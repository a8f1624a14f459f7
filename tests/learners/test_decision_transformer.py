"""Decision Transformer: its loss, its step, its memory, and that it follows the return that is asked for."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from learner_runs import QUICKLY, fitting, flat, init, make, make_batch, update

from xql_jax.data.dataset import Dataset
from xql_jax.data.views import view_for
from xql_jax.errors import UserError
from xql_jax.types import Batch

KEY = jax.random.key(0)


@functools.partial(jax.jit, compiler_options=QUICKLY)
def forward(model, windows):
    return model(windows)


def make_plain(**changes):
    return make("dt", dropout_rate=0.0, **changes)


def test_the_step_is_adamws_with_a_clipped_gradient_and_a_growing_rate():
    values = {"actor_lr": 0.01, "actor_warmup_steps": 4.0, "weight_decay": 0.3, "max_grad_norm": 0.05}
    learner = make_plain(**values)
    batch = fitting(learner, make_batch())
    assert 0 < (~batch.known).sum() < batch.known.sum()
    state = init(learner, batch)
    network, params = state.policy.network, state.policy.params
    scaled = batch._replace(returns_to_go=batch.returns_to_go / 1000)

    def loss(params):
        errors = jnp.square(network.apply(params, scaled) - batch.actions).mean(-1)
        return jnp.mean(errors, where=batch.known)

    rate = optax.linear_schedule(0.01 / 4, 0.01, 3)  # a quarter, ..., all of it at the fourth step
    optimizer = optax.chain(optax.clip_by_global_norm(0.05), optax.adamw(rate, weight_decay=0.3))
    optimizer_state = optimizer.init(params)

    @functools.partial(jax.jit, compiler_options=QUICKLY)
    def step(params, optimizer_state):
        value, gradients = jax.value_and_grad(loss)(params)
        updates, optimizer_state = optimizer.update(gradients, optimizer_state, params)
        return optax.apply_updates(params, updates), optimizer_state, value, optax.tree.norm(gradients)

    for _ in range(6):
        params, optimizer_state, value, norm = step(params, optimizer_state)
        assert norm > 0.05  # else nothing is clipped
        state, metrics = update(learner, state, batch, KEY)
        np.testing.assert_allclose(metrics["actor/loss"], value, rtol=1e-3)
        np.testing.assert_allclose(flat(state.policy.params), flat(params), rtol=1e-3, atol=2e-5)


def test_heads_divide_the_width():
    with pytest.raises(UserError, match=r"^num_heads must divide embed_dim, 8, and not be 3$"):
        make("dt", num_heads=3)


def test_the_return_asked_for_is_the_datas_highest_or_the_one_given():
    batch = fitting(make_plain(), make_batch())
    for target, expected in ((np.inf, 5.0), (-7.0, -7.0), (0.0, 0.0)):
        learner = make_plain(target_return=target)
        state, _ = update(learner, init(learner, batch), batch, KEY)
        memory = learner.begin(learner.actor(state), jnp.zeros((2, 3)))
        np.testing.assert_array_equal(memory.return_to_go, expected)


def test_the_memory_is_the_window_that_training_would_have_made():
    """Windows of 4 steps of an episode of 7; after large steps on noise the actions vary."""
    generator = np.random.default_rng(0)
    observations = generator.normal(size=(7, 1, 3)).astype(np.float32)
    rewards = generator.integers(-3, 4, (7, 1)).astype(np.float32)
    learner = make("dt", actor_lr=0.1, return_scale=2.0, target_return=float(rewards.sum()))
    batch = fitting(learner, make_batch())
    state = init(learner, batch)
    for step in range(5):
        state, _ = update(learner, state, batch, jax.random.key(step))

    actor, actions, memories = learner.actor(state), [], []
    remember = jax.jit(learner.act_remembering, compiler_options=QUICKLY)
    memory = learner.begin(actor, observations[0])
    for t in range(7):
        action, memory = remember(actor, memory, observations[t], rewards[t - 1] if t else np.zeros(1))
        actions.append(action)
        memories.append(memory)
    actions = np.stack(actions)
    assert np.abs(np.diff(actions[:, 0], axis=0)).max() > 1e-3
    arrays = observations[:, 0], actions[:, 0], rewards[:, 0], np.ones(7, np.float32), observations[:, 0]
    # Rows of another trajectory on either side are not to be mixed in.
    batch = Batch(*(np.concatenate([array[:2] + 50, array, array[:1] - 50]) for array in arrays))
    ends = np.isin(np.arange(10), [1, 8, 9])
    rows = view_for(learner, Dataset(batch, ends, "episode")).batch
    for t in range(7):
        # At step t there is no later one yet.
        left = np.where(np.arange(10) >= 2, np.minimum(rows.left, t + 1 - rows.timesteps), rows.left)
        start = np.array([2 + max(0, t - learner.context_length + 1)])
        expected = dataclasses.replace(rows, left=left).windows(start)
        window = memories[t].window
        assert expected.known.sum() == min(t + 1, 4)
        for name in ("observations", "actions", "returns_to_go", "timesteps", "known"):
            np.testing.assert_array_equal(getattr(window, name), getattr(expected, name), f"{name}, {t}")
        scaled = expected._replace(returns_to_go=expected.returns_to_go / 2)
        alone = forward(state.policy, scaled)[:, -1]
        np.testing.assert_allclose(actions[t], alone, rtol=1e-4, atol=1e-5)
