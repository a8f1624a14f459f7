"""On a small MDP, with tabular networks, the learners reach the values that theory gives for the dataset."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tabular_runs as runs
from learner_runs import init, make, make_batch, update
from scipy import optimize
from tabular_runs import DISCOUNT, STATES, close, empirical_mdp, learnt_q, learnt_v, soft_optimum, train

from xql_jax.learners.qql import LOWER, UPPER

pytestmark = pytest.mark.slow

S, A, R, NEXT, _ = DATA = runs.transitions(2)
BATCH = runs.one_hot_batch(*DATA)
DETERMINISTIC = runs.transitions(1)


# At beta 0.5 some z lie below -7 at the optimum. The paper's clip would take their gradient away and raise V;
# a clip of 30 leaves them alone, as does the authors' one-sided clip at any width.
@pytest.mark.parametrize(
    ("name", "beta", "options"),
    [
        ("xql", 4.0, {"loss": "plain"}),
        ("xql", 0.5, {"loss": "rescaled"}),
        ("xql", 0.5, {"loss": "log"}),
        ("xql", 0.5, {"clip_rule": "above", "clip": 7.0}),
        # In deterministic dynamics also Eq. 36 with 37 (V alone) and Eq. 41 with 42, Lemma C.1 (Q alone).
        ("value_iteration", 0.5, {}),
        ("q_iteration", 0.5, {}),
        ("q_iteration", 4.0, {}),
    ],
)
def test_xql_reaches_the_soft_optimum(name, beta, options):
    data = DATA if name == "xql" else DETERMINISTIC
    batch = runs.one_hot_batch(*data)
    v, q, policy = soft_optimum(data, beta)
    config = {"clip": 30.0, "beta": beta, "awr_temperature": 1 / beta, "max_weight": float("inf"), **options}
    learner, state = train(name, batch, **config)
    close(learnt_v(state), v[:STATES])
    if state.critic is not None:
        close(learnt_q(state, batch), q[data[0], data[1]])
    np.testing.assert_allclose(runs.learnt_policy(learner, state), policy[:STATES], atol=0.01)


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


def expectile_of(x):
    return root(lambda v: (np.where(x > v, 0.9, 0.1) * (x - v)).mean(), x)


def quantile_of(x):
    return np.quantile(x, 0.74, method="inverted_cdf")  # (2 lambda - 1) / lambda


# Where the losses differ from XQL's, with what their V is, exactly, of the Q of a state's transitions.
FIXED_POINTS = [
    ("iql", {"expectile": 0.9}, expectile_of),
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
    mdp, v = empirical_mdp(DATA), np.zeros(STATES + 1)
    for _ in range(200):
        q = mdp.backup(v)[S, A]
        v = np.array([*(value_of(q[s == S]) for s in range(STATES)), 0.0])
    _, state = train(name, BATCH, **config)
    close(learnt_v(state), v[:STATES])
    close(learnt_q(state, BATCH), q)


def test_qql_reaches_its_fixed_point():
    """V and the upper quantile of Q, Q itself fitted to r - w beta(s) + discount * upper(s')."""
    mdp, lower, upper = empirical_mdp(DATA), np.zeros(STATES + 1), np.zeros(STATES + 1)
    for _ in range(300):
        q = mdp.backup(upper)[S, A] - (upper - lower)[S]
        of_states = [q[s == S] for s in range(STATES)]
        lower, upper = (
            np.array([*(np.quantile(x, share, method="inverted_cdf") for x in of_states), 0.0])
            for share in (LOWER, UPPER)
        )
    # The slopes of a pinball loss do not fall near its minimum, so that Adam needs longer.
    _, state = train("qql", BATCH, ((3e-2, 2000), (3e-3, 4000), (1e-3, 3000), (3e-4, 2000)))
    close(learnt_v(state), lower[:STATES])
    atol = 0.01 * np.ptp(lower[:STATES])
    np.testing.assert_allclose(state.value.upper(jnp.eye(STATES)), upper[:STATES], atol=atol)
    close(learnt_q(state, BATCH), q)


@pytest.mark.parametrize("share", [0.5, 2.0])
def test_the_scale_of_the_bellman_errors_is_the_beta_that_it_makes(share):
    """Beta and the errors that Q has at the soft optimum of that beta, at once."""

    def scale(beta):
        v, q, _ = soft_optimum(DATA, beta)
        errors = R + DISCOUNT * v[NEXT] - q[S, A]
        return math.sqrt(6 * (errors**2).mean()) / math.pi

    beta = optimize.brentq(lambda beta: share * scale(beta) - beta, 0.05, 50.0, xtol=1e-4)
    _, state = train("xql_bellman", BATCH, errors_share=share, beta_rate=0.01)
    assert float(jnp.exp(state.value.log_beta)) == pytest.approx(beta, rel=0.02)
    v, q, _ = soft_optimum(DATA, beta)
    close(learnt_v(state), v[:STATES])
    close(learnt_q(state, BATCH), q[S, A])


@pytest.mark.parametrize(("name", "network"), [("value_iteration", "value"), ("q_iteration", "critic")])
def test_they_bootstrap_from_the_target_network(name, network):
    # At the fixed points above a target network is like its network, so they do not tell which one is used.
    learner, batch = make(name, ()), make_batch()
    state = init(learner, batch)
    before = getattr(state, network)
    target = jax.tree.map(lambda leaf: leaf + 1.0, before.target)
    starts = state, state.replace(**{network: before.replace(target=target)})
    losses = [update(learner, start, batch, jax.random.key(0))[1][f"{network}/loss"] for start in starts]
    assert abs(losses[0] - losses[1]) > 1e-3
