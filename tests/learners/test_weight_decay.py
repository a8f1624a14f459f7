"""--critic_weight_decay: optax's AdamW on the critics' kernels, in both forms of an update; 0 is Adam."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from learner_runs import flat, make_batch

from xql_jax.learners.parts import Critic, NetworkState
from xql_jax.training.accelerator import in_few_kernels, in_usual_form

RATE, DECAY = 0.01, 0.5


def test_one_step_by_hand():
    """Adam's first step is the rate against the gradient's sign: 2 - 0.1; the kernel loses 0.1 * 0.5 * 2."""
    start = NetworkState.create(None, {"kernel": jnp.float32(2.0), "bias": jnp.float32(2.0)})
    part = Critic(critic_weight_decay=0.5)
    after, _ = part.minimize(start, lambda x: (3.0 * x["kernel"] + 5.0 * x["bias"], {}), 0.1)
    np.testing.assert_allclose((after.params["kernel"], after.params["bias"]), (1.8, 1.9), rtol=1e-6)
    multiplier, _ = part.minimize(NetworkState.create(None, jnp.float32(2.0)), lambda x: (3.0 * x, {}), 0.1)
    np.testing.assert_allclose(multiplier.params, 1.9, rtol=1e-6)  # a number alone is no kernel


@pytest.mark.parametrize("decay", [0.0, DECAY])
@pytest.mark.parametrize("form", [lambda state: state, in_few_kernels], ids=["cpu", "accelerator"])
def test_steps_are_those_of_optax_on_all_kernels_and_on_no_bias_or_layer_norm(decay, form):
    batch = make_batch()
    part = Critic(
        critic_lr=RATE, critic_weight_decay=decay, critic_hidden_dims=(32, 32), critic_layer_norm=True
    )
    inputs = batch.observations, batch.actions
    critic = part.init(jax.random.split(jax.random.key(0)), *inputs)
    expected, usual = critic.params, critic.apply
    is_kernel = jax.tree_util.tree_map_with_path(lambda path, _: path[-1].key == "kernel", expected)
    assert sum(jax.tree.leaves(is_kernel)) == 2 * 3
    adamw = optax.adamw(RATE, weight_decay=decay, mask=is_kernel)
    moments, critic = adamw.init(expected), form(critic)

    def loss(params):
        return sum(((usual(own, *inputs) - batch.rewards) ** 2).mean() for own in params)

    for _ in range(3):
        steps, moments = adamw.update(jax.grad(loss)(expected), moments, expected)
        expected = optax.apply_updates(expected, steps)
        critic, _ = part.fit(critic, batch, batch.rewards)
    np.testing.assert_allclose(flat(in_usual_form(critic).params), flat(expected), rtol=1e-4, atol=1e-6)
