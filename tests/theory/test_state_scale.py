"""V and beta of every state: the joint loss, its constraints, its limits, and whole MDPs."""

import dataclasses
import itertools

import numpy as np
import pytest
from cases import evaluated, random_mdp, seeds
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from scipy.special import rel_entr, softmax

from xql_jax.theory.conservatism import soft_policy
from xql_jax.theory.log_partition import log_partition
from xql_jax.theory.soft_mdp import SoftMDP
from xql_jax.theory.state_scale import (
    joint_loss,
    scales_within,
    solve_within,
    state_divergence,
    state_scale,
    value,
    weights,
)
from xql_jax.theory.trust_region import beta_at, divergence, sample_divergence

some = settings(max_examples=30)
few = settings(max_examples=4)
shares = st.integers(5, 95).map(lambda percent: percent / 100)
clips = st.sampled_from([np.inf, 3.0, 1.0, 0.3])
NODES, NORMAL = np.polynomial.hermite_e.hermegauss(60)
NORMAL = NORMAL / NORMAL.sum()
GRID = np.linspace(-12.0, 12.0, 1_201)
ON_GRID = np.exp(-(GRID**2) / 2.0) / np.exp(-(GRID**2) / 2.0).sum()


def instance(seed):
    """q and mu of four states with four actions; mu leaves out an action whose Q is the largest by far."""
    generator = np.random.default_rng(seed)
    q = generator.normal(size=(4, 4)) * generator.choice([0.01, 1.0, 30.0], (4, 1))
    mu = 0.9 * generator.dirichlet(np.ones(4), 4) + 0.025
    q[0, 0], mu[0] = 500.0, [0.0, 0.3, 0.3, 0.4]
    return q, mu


def best_within(q, mu, *constraints):
    """The largest E_s E_pi[Q], the states alike, by SciPy; constraints map pi f64[S, A] to what is >= 0."""
    shape = q.shape
    every = [lambda pi: pi.sum(-1) - 1.0, *constraints]
    found = minimize(
        lambda pi: -(pi.reshape(shape) * q).sum() / shape[0],
        mu.ravel(),
        bounds=[(1e-12, 1.0)] * q.size,
        constraints=[
            {"type": "ineq" if i else "eq", "fun": lambda pi, rule=rule: rule(pi.reshape(shape))}
            for i, rule in enumerate(every)
        ],
        options={"ftol": 1e-12, "maxiter": 500},
    )
    assert found.success, found.message
    return found.x.reshape(shape), -found.fun


def kl_of(mu):
    return lambda pi: rel_entr(pi, mu).sum(-1)


@some
@given(seeds, shares)
def test_the_joint_minimiser_has_the_nats_and_the_best_value(seed, share):
    q, mu = instance(seed)
    nats = share * state_divergence(q, mu, 0.0)  # of the most that each state has
    v, beta = state_scale(q, mu, nats)
    z = np.where(mu > 0, (q - v[:, None]) / beta[:, None], 0.0)
    pi = mu * np.exp(z)
    np.testing.assert_allclose(pi.sum(-1), 1.0, rtol=1e-10)
    np.testing.assert_allclose(rel_entr(pi, mu).sum(-1), nats, rtol=1e-8)
    for row in range(4):
        np.testing.assert_allclose(v[row], log_partition(q[row], beta[row], mu[row]), rtol=1e-12)
        np.testing.assert_allclose(beta[row], beta_at(q[row : row + 1], mu[row : row + 1], nats[row], [1.0]))
    np.testing.assert_allclose(v + beta * nats, (pi * q).sum(-1), rtol=1e-9)
    np.testing.assert_allclose(joint_loss(q, mu, v, beta, nats), (pi * q).sum(-1))


@few
@given(seeds, st.sampled_from([np.inf, 0.7]))
def test_no_policy_within_the_nats_and_the_clip_has_more(seed, clip):
    """The clip bounds pi / mu by exp(clip): the dual of a problem with one constraint more."""
    generator = np.random.default_rng(seed)
    q, mu = generator.normal(size=(1, 3)), 0.7 * generator.dirichlet(np.ones(3), 1) + 0.1
    nats = 0.6 * state_divergence(q, mu, 0.0, clip)
    bound = [lambda pi: np.exp(clip) - (pi / mu).ravel()] if np.isfinite(clip) else []
    pi, best = best_within(q, mu, lambda pi: nats - kl_of(mu)(pi), *bound)
    v, beta = state_scale(q, mu, nats, clip)
    found = mu * weights(q, mu, beta, clip)
    np.testing.assert_allclose(found, pi, atol=1e-4)
    np.testing.assert_allclose((found * q).sum(), best, atol=1e-6)
    np.testing.assert_allclose(joint_loss(q, mu, v, beta, nats, clip), best, atol=1e-6)
    np.testing.assert_allclose(kl_of(mu)(found), nats, rtol=1e-8)
    np.testing.assert_allclose(found.sum(), 1.0, rtol=1e-12)


@some
@given(seeds, clips)
def test_the_loss_is_jointly_convex_with_its_least_at_the_minimiser(seed, clip):
    q, mu = instance(seed)
    q[0, 0] = q[0, 1]
    generator, spread = np.random.default_rng(seed + 1), np.ptp(q, axis=-1)
    nats = 0.5 * state_divergence(q, mu, 0.0, clip)

    def loss(v, beta):
        return joint_loss(q, mu, v, beta, nats, clip)

    least = loss(*state_scale(q, mu, nats, clip))
    (v, other_v), (b, other_b) = generator.normal(size=(2, 2, 4)) * spread
    b, other_b = np.abs(b) + 0.05 * spread, np.abs(other_b) + 0.05 * spread
    ends = np.array([loss(v, b), loss(other_v, other_b)])
    assert (loss((v + other_v) / 2, (b + other_b) / 2) <= ends.mean(0) * (1 + 1e-12)).all()
    assert (least <= ends + 1e-12 * spread).all()
    # Its slopes, as the docstring has them.
    w, step = np.exp(np.minimum((q - v[:, None]) / b[:, None], clip)), 1e-5 * b
    slope = (loss(v + step, b) - loss(v - step, b)) / (2 * step)
    scale = 1.0 + (mu * w * np.abs(np.log(w))).sum(-1) + np.abs(v) / b
    np.testing.assert_allclose((slope - (1.0 - (mu * w).sum(-1))) / scale, 0.0, atol=1e-4)
    slope = (loss(v, b + step) - loss(v, b - step)) / (2 * step)
    expected = nats - (mu * (w * np.log(w) - w + 1.0)).sum(-1)
    np.testing.assert_allclose((slope - expected) / scale, 0.0, atol=1e-4)


@some
@given(seeds, shares, clips, st.sampled_from([1e-6, 1e6]))
def test_rewards_times_c_and_a_constant(seed, share, clip, factor):
    q, mu = instance(seed)
    nats = share * state_divergence(q, mu, 0.0, clip)
    v, beta = state_scale(q, mu, nats, clip)
    scaled = state_scale(factor * q, mu, nats, clip)
    np.testing.assert_allclose(scaled.beta, factor * beta, rtol=1e-9)
    np.testing.assert_allclose(scaled.v, factor * v, rtol=1e-9)
    np.testing.assert_allclose(weights(factor * q, mu, scaled.beta, clip), weights(q, mu, beta, clip))
    moved = state_scale(q + 7.0, mu, nats, clip)
    np.testing.assert_allclose(moved.beta, beta, rtol=1e-6)
    np.testing.assert_allclose(moved.v, v + 7.0, atol=1e-9)


@some
@given(seeds)
def test_few_nats_are_worth_the_standard_deviation_times_their_root(seed):
    q, mu = instance(seed)
    mean = (mu * q).sum(-1)
    sigma = np.sqrt((mu * (q - mean[:, None]) ** 2).sum(-1))
    v, beta = state_scale(q, mu, 1e-10)
    np.testing.assert_allclose(beta, sigma / np.sqrt(2e-10), rtol=1e-3)
    np.testing.assert_allclose((v + beta * 1e-10 - mean) / sigma, np.sqrt(2e-10), rtol=1e-3)
    np.testing.assert_allclose((v - mean) / sigma, np.sqrt(0.5e-10), rtol=1e-3)


@some
@given(seeds, st.sampled_from([1.0, 1.001, 5.0, np.inf]))
def test_more_nats_than_the_state_has_give_beta_0_and_the_maximum(seed, factor):
    q, mu = instance(seed)
    q[1, [0, 2]] = q[1].max()  # two best actions
    best = np.where(mu > 0, q, -np.inf).max(-1)
    most = -np.log(np.where(q == best[:, None], mu, 0.0).sum(-1))
    np.testing.assert_allclose(state_divergence(q, mu, 0.0), most, rtol=1e-12)
    v, beta = state_scale(q, mu, factor * most)
    np.testing.assert_array_equal(beta, 0.0)
    np.testing.assert_allclose(v, best, atol=1e-9)
    pi = mu * weights(q, mu, 0.0)
    np.testing.assert_allclose(pi, np.where(q == best[:, None], mu, 0.0) * np.exp(most)[:, None], atol=1e-12)
    # Not attained: the loss at V(beta) is above it at every beta, and falls to it.
    spans = np.ptp(np.where(mu > 0, q, best[:, None]), axis=-1)
    losses = [
        joint_loss(q, mu, value(q, mu, scale * spans), scale * spans, 1.1 * most) - best
        for scale in (1.0, 0.1, 0.01)
    ]
    assert (np.diff(losses, axis=0) < 0).all()
    assert (losses[-1] > 0).all()
    assert (losses[-1] < 0.03 * spans * np.maximum(most, 1.0)).all()
    # A little less, and it is attained.
    assert (state_scale(q, mu, 0.99 * most).beta > 0).all()


def test_a_state_of_one_action_or_of_equal_ones_has_beta_0():
    assert state_scale([3.0], [1.0], 0.5) == (3.0, 0.0)
    assert state_scale([3.0, 3.0, 9.0], [0.4, 0.6, 0.0], 0.5) == (3.0, 0.0)
    np.testing.assert_array_equal(weights([3.0, 3.0, 9.0], [0.4, 0.6, 0.0], 0.0), [1.0, 1.0, 0.0])
    np.testing.assert_array_equal(state_divergence([3.0, 3.0, 9.0], [0.4, 0.6, 0.0], [0.0, 5.0]), 0.0)


def test_a_clip_makes_a_filter_of_the_best():
    # Four actions alike, weights of at most 3: Q = 3 takes 3/4 of the policy, Q = 2 the last 1/4.
    q, mu, clip = [0.0, 1.0, 2.0, 3.0], [0.25] * 4, np.log(3.0)
    np.testing.assert_allclose(weights(q, mu, 0.0, clip), [0.0, 0.0, 1.0, 3.0], atol=1e-12)
    np.testing.assert_allclose(state_divergence(q, mu, 0.0, clip), 0.75 * np.log(3.0), rtol=1e-12)
    v, beta = state_scale(q, mu, 1.0, clip)  # as many nats there are not
    np.testing.assert_allclose(v, 2.0, atol=1e-10)
    assert beta == 0.0
    # The best half, twice as often; a clip that nothing reaches changes nothing.
    np.testing.assert_allclose(weights(q, mu, 0.0, np.log(2.0)), [0.0, 0.0, 2.0, 2.0], atol=1e-12)
    np.testing.assert_array_equal(weights(q, mu, 1.0, 2.0), weights(q, mu, 1.0))


@pytest.mark.parametrize("sigma", [0.01, 8.0])
@pytest.mark.parametrize("nats", [0.02, 0.3, 1.0])
def test_one_action_with_normal_noise_of_q(sigma, nats):
    """Spread is spread: beta is noise / sqrt(2 nats), V is half as much too high as V + beta * nats."""
    v, beta = state_scale(5.0 + sigma * NODES, NORMAL, nats)
    np.testing.assert_allclose(beta, sigma / np.sqrt(2.0 * nats), rtol=1e-7)
    np.testing.assert_allclose(v - 5.0, sigma**2 / (2.0 * beta), rtol=1e-7)
    np.testing.assert_allclose(v + beta * nats - 5.0, sigma * np.sqrt(2.0 * nats), rtol=1e-7)


def test_one_beta_spends_nats_by_variance():
    """Normal Q, spreads 8 and 1, 1 nat on average: 128/65 and 2/65 nats; 1 each has less E_pi[Q]."""
    q, mu = np.outer([8.0, 1.0], NODES), np.stack([NORMAL, NORMAL])
    beta = beta_at(q, mu, 1.0, [0.5, 0.5])
    np.testing.assert_allclose(beta, np.sqrt(65.0 / 4.0), rtol=1e-5)
    np.testing.assert_allclose(state_divergence(q, mu, beta), [128.0 / 65.0, 2.0 / 65.0], rtol=1e-4)
    gains = [(soft_policy(q, mu, beta) * q).sum(-1).mean(), (mu * weights(q, mu, beta) * q).sum(-1).mean()]
    np.testing.assert_allclose(gains, np.sqrt(65.0), rtol=1e-4)
    equal = mu * weights(q, mu, state_scale(q, mu, 1.0).beta)
    np.testing.assert_allclose((equal * q).sum(-1), np.sqrt(2.0) * np.array([8.0, 1.0]), rtol=1e-5)


@few
@given(seeds)
def test_average_and_cap_together_are_solved_by_the_larger_beta(seed):
    """beta(s) = beta + lambda(s): lambda(s) > 0 only where KL_s is at its bound."""
    generator = np.random.default_rng(seed)
    q = generator.normal(size=(3, 3)) * np.array([[4.0], [1.0], [0.3]])
    mu = 0.7 * generator.dirichlet(np.ones(3), 3) + 0.1
    p, mean_nats, most = np.full(3, 1 / 3), 0.15, 0.25
    kl = kl_of(mu)
    pi, best = best_within(q, mu, lambda pi: most - kl(pi), lambda pi: mean_nats - kl(pi).mean())
    beta, scales = scales_within(q, mu, mean_nats=mean_nats, most_nats=most, state_weights=p)
    found = mu * weights(q, mu, scales)
    np.testing.assert_allclose((found * q).sum() / 3, best, atol=1e-6)
    np.testing.assert_allclose(found, pi, atol=2e-3)
    np.testing.assert_allclose(p @ kl(found), mean_nats, rtol=1e-8)
    assert (kl(found) < most * (1 + 1e-9)).all()
    raised = scales - beta
    np.testing.assert_allclose(raised * (kl(found) - most), 0.0, atol=1e-9)
    assert raised.max() > 0.0
    assert raised.min() == 0.0
    # The dual: its value at the two multipliers is the primal's, and its slopes in them are both slacks.
    v = value(q, mu, scales)
    np.testing.assert_allclose(p @ (v + raised * most) + beta * mean_nats, best, atol=1e-6)
    each = (beta * mean_nats + raised * most) / scales
    np.testing.assert_allclose(p @ joint_loss(q, mu, v, scales, each), best, atol=1e-6)


@some
@given(seeds, clips)
def test_average_alone_and_cap_alone(seed, clip):
    q, mu = instance(seed)
    p = np.random.default_rng(seed).dirichlet(np.ones(4))
    most = state_divergence(q, mu, 0.0, clip)
    assert (most <= clip).all()
    mean_nats = 0.4 * float(p @ most)
    beta, scales = scales_within(q, mu, mean_nats=mean_nats, most_nats=np.inf, state_weights=p, clip=clip)
    np.testing.assert_array_equal(scales, beta)
    np.testing.assert_allclose(p @ state_divergence(q, mu, beta, clip), mean_nats, rtol=1e-8)
    if clip == np.inf:
        np.testing.assert_allclose(beta, beta_at(q, mu, mean_nats, p), rtol=1e-8)
    # By the envelope theorem: with V at its best, the slope in the one beta is the slack of the mean.
    ends = [
        p @ joint_loss(q, mu, value(q, mu, b, clip), b, mean_nats, clip)
        for b in 3.0 * beta * np.array([1 - 1e-4, 1 + 1e-4])
    ]
    slope = (ends[1] - ends[0]) / (6e-4 * beta)
    np.testing.assert_allclose(slope, mean_nats - p @ state_divergence(q, mu, 3.0 * beta, clip), atol=1e-5)
    # Where the caps alone hold the mean below, the one beta is 0.
    beta, scales = scales_within(
        q, mu, mean_nats=mean_nats, most_nats=0.3 * mean_nats, state_weights=p, clip=clip
    )
    assert beta == 0.0
    np.testing.assert_array_equal(scales, state_scale(q, mu, 0.3 * mean_nats, clip).beta)


def mdp_of(seed):
    mdp = random_mdp(seed, discount=0.6)
    behavior = 0.7 * np.random.default_rng(seed + 1).dirichlet(np.ones(3), 4) + 0.1
    return dataclasses.replace(mdp, behavior=behavior), behavior


@few
@given(seeds, st.sampled_from([np.inf, 0.5]))
def test_the_best_within_nats_in_every_state_of_an_mdp(seed, clip):
    """V + beta * nats: a contraction, whose fixed point is the return of the best of the policies."""
    mdp, mu = mdp_of(seed)
    nats = 0.2
    best = solve_within(mdp, nats, clip=clip)
    np.testing.assert_allclose(best.v, evaluated(mdp, best.policy, mdp.rewards), atol=1e-8)
    assert (kl_of(mu)(best.policy) <= nats * (1 + 1e-8)).all()
    if clip == np.inf:
        scale = state_scale(best.q, mu, nats)
        np.testing.assert_allclose(best.v, scale.v + nats * scale.beta, atol=1e-8)
    # Every step of policy improvement ends there, too: no policy within the nats has more in any state.
    generator = np.random.default_rng(seed)
    for _ in range(50):
        direction = generator.normal(size=mu.shape)
        other = mu * weights(direction, mu, state_scale(direction, mu, nats, clip).beta, clip)
        assert (evaluated(mdp, other, mdp.rewards) <= best.v + 1e-8).all()

    def backup(v):
        q = mdp.backup(v)
        return (mu * weights(q, mu, state_scale(q, mu, nats, clip).beta, clip) * q).sum(-1)

    v, other = 3.0 * generator.normal(size=(2, 4))
    assert np.abs(backup(v) - backup(other)).max() <= mdp.discount * np.abs(v - other).max() + 1e-9


@few
@given(seeds)
def test_the_soft_fixed_point_pays_for_its_nats_along_its_way(seed):
    mdp, mu = mdp_of(seed)
    nats = 0.2
    soft, best = solve_within(mdp, nats, soft=True), solve_within(mdp, nats)
    paid = np.broadcast_to(nats * soft.beta[:, None], mu.shape)
    returns = evaluated(mdp, soft.policy, mdp.rewards)
    np.testing.assert_allclose(soft.v, returns - evaluated(mdp, soft.policy, paid), atol=1e-8)
    np.testing.assert_allclose(soft.v, state_scale(soft.q, mu, nats).v, atol=1e-8)
    assert (soft.v < returns).all()
    assert (returns <= best.v + 1e-8).all()
    assert (evaluated(mdp, mu, mdp.rewards) < soft.v).all()


def test_v_can_fall_where_the_best_q_rises_so_v_alone_has_several_fixed_points():
    """dV/dQ(a) = pi(a) * (1 - nats * beta * (Q(a) - E_pi[Q]) / Var_pi[Q]), which can be negative.

    Two actions lead back to the state, the best one ends it. A higher V there raises the Q of the two, and so
    V by more than the discount. Sweeps from below and from above end apart; with V + beta * nats, together.
    """
    q, mu, nats, discount = np.array([0.0, 1.0, 1.11]), np.array([0.9, 0.08, 0.02]), 2.25, 0.9
    v, beta = state_scale(q, mu, nats)
    pi = mu * weights(q, mu, beta)
    centred = q - pi @ q
    slopes = pi * (1.0 - nats * beta * centred / (pi @ centred**2))
    numeric = [
        (state_scale(q + h, mu, nats).v - state_scale(q - h, mu, nats).v) / 2e-6 for h in 1e-6 * np.eye(3)
    ]
    np.testing.assert_allclose(numeric, slopes, atol=1e-5)
    np.testing.assert_allclose(slopes.sum(), 1.0)
    assert slopes[2] < -0.25
    transitions = np.zeros((2, 3, 2))
    transitions[0, [0, 1, 2], [0, 0, 1]] = transitions[1, :, 1] = 1.0
    rewards = np.stack([q - discount * v * np.array([1.0, 1.0, 0.0]), np.zeros(3)])
    mdp = SoftMDP.dense(transitions, rewards, np.stack([mu, mu]), discount=discount, beta=1.0)
    ends = [solve_within(mdp, nats, soft=True, start=[start, 0.0]).v[0] for start in (v - 1e-3, v + 1e-3)]
    assert ends[0] < v - 0.01 < v + 0.01 < ends[1]
    both = [solve_within(mdp, nats, start=[start, 0.0]).v[0] for start in (v - 1.0, v + 1.0)]
    np.testing.assert_allclose(*both, atol=1e-8)


def test_a_minibatchs_d_is_low_but_the_joint_loss_is_right_on_average():
    """Over every minibatch of three rows: D's mean is below the KL, the loss's mean is the loss."""
    q, mu = np.array([0.0, 0.5, 2.0]), np.array([0.5, 0.3, 0.2])
    v, beta = state_scale(q, mu, 0.5)
    batches = list(itertools.product(range(3), repeat=3))
    p = np.array([mu[list(rows)].prod() for rows in batches])
    rows = np.full((1, 3), 1 / 3)
    mean_d = p @ [sample_divergence((q[list(batch)] - v) / beta) for batch in batches]
    assert mean_d < 0.6 * 0.5
    for at_v, at_beta in [(v, beta), (0.0, 1.0)]:
        losses = [joint_loss(q[list(batch)][None], rows, at_v, at_beta, 0.5)[0] for batch in batches]
        np.testing.assert_allclose(p @ losses, joint_loss(q, mu, at_v, at_beta, 0.5), rtol=1e-12)


def test_how_low_a_minibatchs_d_is():
    """256 rows: 3.0 nats of 4.6 where Q is normal; 0.69 of 1 where it has an exponential tail.

    With rate r of pi the tail has log r + 1/r - 1 nats, at beta 1 / (1 - r): D holds 1.29, not 1.47.
    """
    generator = np.random.default_rng(0)

    def mean_d(z):
        p = softmax(z, axis=-1)
        return (np.log(z.shape[-1]) + np.where(p > 0, p * np.log(np.maximum(p, 1e-300)), 0.0).sum(-1)).mean()

    np.testing.assert_allclose(mean_d(np.sqrt(9.2) * generator.normal(size=(2_000, 256))), 3.0, atol=0.05)
    tail = generator.exponential(size=(8_000, 256))
    rates = 1.0 - 1.0 / np.array([1.4659, 1.285])
    np.testing.assert_allclose(np.log(rates) + 1.0 / rates - 1.0, [1.0, 2.0], atol=0.01)
    np.testing.assert_allclose([mean_d(tail / 1.4659), mean_d(tail / 1.285)], [0.69, 1.0], atol=0.03)


@pytest.mark.parametrize(("eps", "nats"), [(0.1, 1.64), (0.25, 1.64), (1.0, 1.82)])
def test_a_cap_at_100_and_a_sharpness_of_6_hide_eps(eps, nats):
    """Normal z with E[exp(z)] = 1 and eps nats; the policy's weights are min(exp(6 z), 100)."""
    z = np.sqrt(2.0 * eps) * GRID - eps
    np.testing.assert_allclose(divergence([z], [ON_GRID], 1.0, [1.0]), eps, rtol=1e-6)
    capped = np.minimum(6.0 * z, np.log(100.0))
    np.testing.assert_allclose(divergence([capped], [ON_GRID], 1.0, [1.0]), nats, atol=0.005)


def test_from_a_tilt_to_a_filter_at_the_same_nats():
    """1 nat of a normal Q: the tilt gains 1.41 deviations with 14% of the rows, the filter 1.02 with 37%."""
    rows, gains = [], []
    for clip in (np.inf, 3.0, 1.5, 1.001):
        w = weights(GRID, ON_GRID, state_scale(GRID, ON_GRID, 0.99, clip).beta, clip)
        np.testing.assert_allclose([ON_GRID @ w, ON_GRID @ rel_entr(w, 1.0)], [1.0, 0.99], rtol=1e-6)
        rows.append(1.0 / (ON_GRID @ w**2))  # the share of rows that as many alike would be
        gains.append(ON_GRID @ (w * GRID))
    np.testing.assert_allclose(rows, [np.exp(-1.98), 0.185, 0.295, np.exp(-1.0)], atol=0.005)
    np.testing.assert_allclose(gains, [np.sqrt(2.0), 1.40, 1.25, 1.024], atol=0.01)
