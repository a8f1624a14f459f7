"""What brings V back, and what moves Q, under the paper's losses and under those of the authors' code.

The scores of the paper's Table 1 were made with z clipped from above alone and Q fitted by Huber's loss; the
paper prints a clip on both sides (D.3) and squared errors (Eq. 14). docs/choosing-beta.md shows what follows.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from xql_jax.learners.xql import TemporalDifference
from xql_jax.losses import gumbel
from xql_jax.losses.regression import huber_loss, mse_loss

BETA, CLIP = 0.5, 7.0
TARGETS = jnp.linspace(-1.0, 1.0, 5)
ABOVE_ALL = 2 * CLIP * BETA + 1.0  # so every z is below -clip


def slope(v: float, rule: gumbel.ClipRule, targets: jax.Array = TARGETS) -> float:
    """The derivative of the mean rescaled loss of one number V, fitted to the targets."""

    def mean_loss(v):
        values = jnp.full(targets.shape, v)
        return gumbel.gumbel_rescaled_loss(values, targets, beta=BETA, clip=CLIP, clip_rule=rule).mean()

    return float(jax.grad(mean_loss)(v))


def test_a_v_above_all_of_its_targets_has_no_gradient_if_the_clip_has_two_sides():
    assert slope(ABOVE_ALL, gumbel.clip_both) == 0.0
    # With the clip from above each example pulls by (1 - exp(z)) / beta, here times e, because m is -1.
    z = (np.array(TARGETS) - ABOVE_ALL) / BETA
    expected = np.e * (1.0 - np.exp(z)).mean() / BETA
    for rule in (gumbel.clip_above, gumbel.saturate):
        assert slope(ABOVE_ALL, rule) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    ("rule", "ends_at"),
    [
        (gumbel.clip_both, ABOVE_ALL),
        (gumbel.clip_above, BETA * np.log(np.exp(np.linspace(-1, 1, 5) / BETA).mean())),
        (gumbel.saturate, BETA * np.log(np.exp(np.linspace(-1, 1, 5) / BETA).mean())),
    ],
)
def test_gradient_descent_from_above_stays_or_returns(rule, ends_at):
    @jax.jit
    def descend(v):
        def mean_loss(v):
            values = jnp.full(TARGETS.shape, v)
            return gumbel.gumbel_rescaled_loss(values, TARGETS, beta=BETA, clip=CLIP, clip_rule=rule).mean()

        return jax.lax.fori_loop(0, 2_000, lambda _, v: v - 0.01 * jax.grad(mean_loss)(v), v)

    assert float(descend(jnp.float32(ABOVE_ALL))) == pytest.approx(ends_at, abs=1e-5)


@pytest.mark.parametrize("rule", [gumbel.clip_both, gumbel.clip_above])
def test_one_target_beyond_the_clip_makes_what_the_others_do_exp_clip_times_weaker(rule):
    # The rescaling divides the whole batch by exp(largest z); the example at the clip itself adds nothing.
    below = jnp.full(4, -1.0)
    alone = slope(0.0, rule, below)
    with_outlier = slope(0.0, rule, jnp.append(below, 100.0 * CLIP * BETA))
    # All four have z = -2, so alone m is -1. One of five examples is the outlier.
    assert with_outlier / alone == pytest.approx(4 / 5 * np.exp(-1.0 - CLIP), rel=1e-5)


COUNT, DISCOUNT, LENGTH = 16, 0.9, 6
DELTA = 20.0  # Huber's


@pytest.mark.parametrize("error", [100.0, 1_000.0])
def test_one_wrong_target_moves_q_along_a_chain_without_bound_by_squared_errors_only(error):
    """A chain of states with one action and no rewards, 16 examples each; one target of the last is wrong.

    Q of the last state is the minimiser over 15 targets of 0 and the wrong one; a state before it has the
    discounted Q of the next as its target, so the error comes to the beginning times discount ** 5.
    """
    targets = jnp.zeros((LENGTH, COUNT)).at[-1, 0].set(error)

    def chain(last: float) -> jax.Array:
        return last * DISCOUNT ** jnp.arange(LENGTH - 1, -1, -1)

    for loss, last in ((mse_loss, error / COUNT), (huber_loss, DELTA / (COUNT - 1))):
        critic = TemporalDifference(critic_loss=loss, num_critics=1)
        q = chain(last)
        after = jnp.append(DISCOUNT * q[1:], 0.0)  # the bootstrapped targets of all states but the last

        def mean_loss(q, critic=critic, after=after):
            goals = jnp.where(jnp.arange(LENGTH)[:, None] < LENGTH - 1, after[:, None], targets)
            return critic.loss_of(jnp.repeat(q, COUNT), goals.ravel()).mean()

        np.testing.assert_allclose(jax.grad(mean_loss)(q), 0.0, atol=1e-5)
        assert float(q[0]) == pytest.approx(last * 0.59049, rel=1e-6)
