"""On a small MDP, with tabular networks, the learners reach the values that theory gives for the dataset."""

import math

import jax.numpy as jnp
import numpy as np
import pytest
from scipy import optimize
from tabular_runs import DISCOUNT, learnt_policy, learnt_q, learnt_v, one_hot_batch, train

from xql_jax.learners.value_fits.qql import LOWER, UPPER
from xql_jax.theory.soft_mdp import SoftMDP, value_iteration

pytestmark = pytest.mark.slow

STATES, ACTIONS = 6, 3
SHAPE = {"num_states": STATES + 1, "num_actions": ACTIONS}  # the last state is the terminal one


def make_dataset():
    """Transitions (s, a, r, s') of a stochastic MDP, actions unequally often, one of them never."""
    generator = np.random.default_rng(0)
    dynamics = generator.dirichlet(np.full(STATES + 1, 0.4), (STATES, ACTIONS))
    rewards = generator.uniform(-1.0, 3.0, (STATES, ACTIONS))
    counts = generator.integers(1, 6, (STATES, ACTIONS))
    counts[2, 1], rewards[2, 1] = 0, 100.0
    states, actions = (np.repeat(index.ravel(), counts.ravel()) for index in np.indices(counts.shape))
    next_states = [
        generator.choice(STATES + 1, p=dynamics[pair]) for pair in zip(states, actions, strict=True)
    ]
    return states, actions, rewards[states, actions], np.array(next_states)


S, A, R, NEXT = make_dataset()
BATCH = one_hot_batch(S, A, R, NEXT, num_states=STATES, num_actions=ACTIONS)


def soft_optimum(beta):
    mdp = SoftMDP.from_transitions(S, A, R, NEXT, **SHAPE, discount=DISCOUNT, beta=beta)
    solution = value_iteration(mdp, 1e-9)
    return mdp, solution.v, solution.q


# At beta 0.5 some z lie below -7 at the optimum. The paper's clip would take their gradient away and raise V;
# a clip of 30 leaves them alone, as does the authors' one-sided clip at any width.
@pytest.mark.parametrize(
    ("loss", "beta", "clip_rule", "clip"),
    [
        *((loss, beta, "both", 30.0) for loss in ("plain", "rescaled", "log") for beta in (0.5, 4.0)),
        ("rescaled", 0.5, "above", 7.0),
    ],
)
def test_xql_reaches_the_soft_optimum(loss, beta, clip_rule, clip):
    mdp, v, q = soft_optimum(beta)
    actor = {"awr_temperature": 1 / beta, "max_weight": float("inf")}
    learner, state = train("xql", BATCH, loss=loss, beta=beta, clip=clip, clip_rule=clip_rule, **actor)
    np.testing.assert_allclose(learnt_v(state), v[:STATES], atol=0.01 * np.ptp(v[:STATES]))
    np.testing.assert_allclose(learnt_q(state, BATCH), q[S, A], atol=0.01 * np.ptp(q[S, A]))
    policy = mdp.policy(q, v)[:STATES]
    np.testing.assert_allclose(learnt_policy(learner, state, ACTIONS), policy, atol=0.01)


def test_the_two_betas_and_the_mean_are_told_apart():
    # Otherwise the test above would pass with a wrong beta.
    small, large, mean = (soft_optimum(beta)[1][:STATES] for beta in (0.5, 4.0, 1e6))
    assert np.abs(small - large).max() > 0.2 * np.ptp(small)
    assert np.abs(large - mean).max() > 0.2 * np.ptp(large)


def expectile_of(x, expectile):
    """By bisection: the v where expectile * E[(x - v)+] = (1 - expectile) * E[(v - x)+]."""
    low, high = x.min(), x.max()
    for _ in range(60):
        v = (low + high) / 2
        rises = expectile * np.maximum(x - v, 0).sum() > (1 - expectile) * np.maximum(v - x, 0).sum()
        low, high = (v, high) if rises else (low, v)
    return v


@pytest.mark.parametrize("expectile", [0.5, 0.9])
def test_iql_reaches_the_expectile_fixed_point(expectile):
    mdp = SoftMDP.from_transitions(S, A, R, NEXT, **SHAPE, discount=DISCOUNT, beta=1.0)
    v = np.zeros(STATES + 1)
    for _ in range(150):
        q = mdp.backup(v)[S, A]
        v = np.array([*(expectile_of(q[s == S], expectile) for s in range(STATES)), 0.0])
    _, state = train("iql", BATCH, expectile=expectile)
    np.testing.assert_allclose(learnt_v(state), v[:STATES], atol=0.01 * np.ptp(v[:STATES]))
    np.testing.assert_allclose(learnt_q(state, BATCH), q, atol=0.01 * np.ptp(q))


def root(function, x):
    return optimize.brentq(function, x.min() - 20.0, x.max() + 20.0, xtol=1e-10)


def sparse_of(x):
    return root(lambda v: np.maximum(1 + (x - v) / 2, 0).mean() - 1, x)  # alpha 1


def soft_maximum_of(x):
    return 2.0 * np.log(np.exp((x - x.max()) / 2.0).mean()) + x.max()  # alpha or beta 2


def maclaurin_of(x):
    return root(lambda v: sum(((x - v) / 2) ** j / math.factorial(j) for j in (1, 2, 3)).mean(), x)


def chi_square_of(x):
    return root(lambda v: np.where(x > v, 1 + (x - v) / 2, 0).mean() - 0.25, x)  # lambda 0.8


def quantile_of(x):
    return np.quantile(x, 0.74, method="inverted_cdf")  # (2 lambda - 1) / lambda


# Where the losses differ from XQL's, with what their V is, exactly, of the Q of a state's transitions.
FIXED_POINTS = [
    ("sql", {"alpha": 1.0}, sparse_of),
    ("eql", {"alpha": 2.0}, soft_maximum_of),
    ("mxql", {"beta": 2.0, "order": 4}, maclaurin_of),
    ("dvl_chi2", {"tradeoff": 0.8}, chi_square_of),
    ("dvl_tv", {"tradeoff": 1 / 1.26}, quantile_of),
    ("xql", {"beta": 2.0, "clip": 3.0, "clip_rule": "saturate"}, soft_maximum_of),
]


@pytest.mark.parametrize(
    ("name", "config", "value_of"), FIXED_POINTS, ids=lambda x: x if type(x) is str else ""
)
def test_in_sample_methods_reach_their_own_fixed_points(name, config, value_of):
    mdp = SoftMDP.from_transitions(S, A, R, NEXT, **SHAPE, discount=DISCOUNT, beta=1.0)
    v = np.zeros(STATES + 1)
    for _ in range(200):
        q = mdp.backup(v)[S, A]
        v = np.array([*(value_of(q[s == S]) for s in range(STATES)), 0.0])
    _, state = train(name, BATCH, layer_norm=False, **config)
    np.testing.assert_allclose(learnt_v(state), v[:STATES], atol=0.01 * np.ptp(v[:STATES]))
    np.testing.assert_allclose(learnt_q(state, BATCH), q, atol=0.01 * np.ptp(q))


def test_qql_reaches_its_fixed_point():
    """V and the upper quantile of Q, Q itself fitted to r - w beta(s) + discount * upper(s')."""
    mdp = SoftMDP.from_transitions(S, A, R, NEXT, **SHAPE, discount=DISCOUNT, beta=1.0)
    lower, upper = np.zeros(STATES + 1), np.zeros(STATES + 1)
    for _ in range(300):
        q = mdp.backup(upper)[S, A] - (upper - lower)[S]
        of_states = [q[s == S] for s in range(STATES)]
        lower, upper = (
            np.array([*(np.quantile(x, share, method="inverted_cdf") for x in of_states), 0.0])
            for share in (LOWER, UPPER)
        )
    # The slopes of a pinball loss do not fall near its minimum, so that Adam needs longer.
    stages = ((3e-2, 2000), (3e-3, 4000), (1e-3, 3000), (3e-4, 2000))
    _, state = train("qql", BATCH, stages, layer_norm=False)
    scale = 0.01 * np.ptp(lower[:STATES])
    np.testing.assert_allclose(learnt_v(state), lower[:STATES], atol=scale)
    np.testing.assert_allclose(state.value.upper(jnp.eye(STATES)), upper[:STATES], atol=scale)
    np.testing.assert_allclose(learnt_q(state, BATCH), q, atol=0.01 * np.ptp(q))


@pytest.mark.parametrize("share", [0.5, 2.0])
def test_the_scale_of_the_bellman_errors_is_the_beta_that_it_makes(share):
    """Beta and the errors that Q has at the soft optimum of that beta, at once."""

    def scale(beta):
        _, v, q = soft_optimum(beta)
        errors = R + DISCOUNT * v[NEXT] - q[S, A]
        return math.sqrt(6 * (errors**2).mean()) / math.pi

    beta = optimize.brentq(lambda beta: share * scale(beta) - beta, 0.05, 50.0, xtol=1e-4)
    _, state = train("xql_bellman", BATCH, layer_norm=False, errors_share=share, beta_rate=0.01)
    assert float(jnp.exp(state.value.log_beta)) == pytest.approx(beta, rel=0.02)
    _, v, q = soft_optimum(beta)
    np.testing.assert_allclose(learnt_v(state), v[:STATES], atol=0.01 * np.ptp(v[:STATES]))
    np.testing.assert_allclose(learnt_q(state, BATCH), q[S, A], atol=0.01 * np.ptp(q[S, A]))
