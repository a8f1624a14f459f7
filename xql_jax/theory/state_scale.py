"""V and beta of every state by one convex loss: the best policy within some nats of the data in each state.

max E_pi[Q] subject to KL(pi || mu) <= nats and pi <= mu * exp(clip), in a state, has the dual

    min over V and beta > 0 of  E_mu[beta * (f((Q - V) / beta) - 1 + nats) + V],

f(z) = exp(z), continued above `clip` as its tangent. The minimiser's weights pi / mu = exp(min(z, clip)) have
the mean 1 and, where the state has as many, exactly `nats`. Rewards times c give c times V and beta.
For a given beta, V alone minimises it: without a clip it is L^beta(Q), the V of Gumbel regression.

Source: the dual is of Peters et al. 2010 (REPS) and Abdolmaleki et al. 2018 (MPO), there with one beta for
all states; docs/theory.md has the proof. q (reward units) and mu are f64[..., A], and broadcast; V and beta
are f64[...], reward units. A beta below 1e-12 of a state's span of Q counts as the limit 0.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from xql_jax.theory import arguments
from xql_jax.theory.conservatism import below_largest
from xql_jax.theory.log_partition import weighted_log_partition
from xql_jax.theory.soft_mdp import SoftMDP

SMALLEST = 1e-12  # the least beta, of Q's span in the state: actions that are closer are equally good
HALVINGS = 60  # of the interval of log beta, some 28 long: to the last digit


class StateScale(NamedTuple):
    """The joint minimiser in each state. Without a clip, v + beta * nats is E_pi[Q]."""

    v: np.ndarray  # f64[...], reward units
    beta: np.ndarray  # f64[...], reward units; 0 where the state's largest divergence is at most `nats`


class WithinNats(NamedTuple):
    """A fixed point of `solve_within`."""

    v: np.ndarray  # f64[S], what Q is backed up from, reward units
    q: np.ndarray  # f64[S, A], r + discount * E[v(s')]
    beta: np.ndarray  # f64[S], reward units
    policy: np.ndarray  # f64[S, A]


def joint_loss(
    q: ArrayLike, mu: ArrayLike, v: ArrayLike, beta: ArrayLike, nats: ArrayLike, clip: float = math.inf
) -> np.ndarray:
    """Returns the loss above in each state, f64[...]: convex in (v, beta), also jointly; beta is positive.

    Its derivatives are 1 - E_mu[w] in v and nats - E_mu[w * log(w) - w + 1] in beta, w = exp(min(z, clip)).
    """
    v, beta, nats = (np.asarray(x, np.float64)[..., None] for x in (v, beta, nats))
    mu = arguments.probabilities("mu", mu)
    z = np.where(mu > 0, (arguments.samples("q", q) - v) / beta, 0.0)
    low = np.minimum(z, clip)
    terms = beta * (np.exp(low) * (1.0 + z - low) - 1.0 + nats) + v
    return (mu * terms).sum(-1)


def state_scale(q: ArrayLike, mu: ArrayLike, nats: ArrayLike, clip: float = math.inf) -> StateScale:
    """Returns the minimiser of `joint_loss` in each state.

    A state's largest divergence is log(1 / mu(best actions)), or less by the clip. From there on no beta
    attains the infimum, which is its limit for beta to 0: beta is 0, and v is max Q over mu's actions or,
    with a clip, the quantile of Q above which the weights are exp(clip).

    Args:
        nats: f64[...] or a number, positive.
    """
    excess, mu = below_largest(arguments.samples("q", q), mu)
    nats = np.broadcast_to(np.asarray(nats, np.float64), excess.shape[:-1])
    if not (nats > 0.0).all():
        raise ValueError(f"nats must be positive, not {nats.min()}")
    span, lowest = _ends(excess)
    # KL <= span^2 / (2 beta^2): E_pi[Q] - E_mu[Q], at least beta * KL, is at most span * sqrt(KL / 2).
    beta = _root(lambda beta: _divergence(excess, mu, beta, clip), nats, lowest, span / np.sqrt(2.0 * nats))
    return StateScale(value(q, mu, beta, clip), beta)


def value(q: ArrayLike, mu: ArrayLike, beta: ArrayLike, clip: float = math.inf) -> np.ndarray:
    """Returns the V at which the weights exp(min((q - V) / beta, clip)) have the mean 1, f64[...]."""
    excess, mu = below_largest(arguments.samples("q", q), mu)
    beta = _at_least(excess, beta)
    largest = np.where(mu > 0, q, -np.inf).max(-1)
    return largest + beta * _tilt(excess / beta[..., None], mu, clip)[1]


def weights(q: ArrayLike, mu: ArrayLike, beta: ArrayLike, clip: float = math.inf) -> np.ndarray:
    """Returns w = exp(min((q - V) / beta, clip)) of the mean 1, f64[..., A]; mu * w is the policy.

    At a small beta and a clip this is a filter: exp(clip) for the share exp(-clip) of the best, 0 for others.
    """
    excess, mu = below_largest(arguments.samples("q", q), mu)
    log_w = _tilt(excess / _at_least(excess, beta)[..., None], mu, clip)[0]
    return np.where(mu > 0, np.exp(log_w), 0.0)


def state_divergence(q: ArrayLike, mu: ArrayLike, beta: ArrayLike, clip: float = math.inf) -> np.ndarray:
    """Returns KL(mu * w || mu) of `weights` in each state, nats, f64[...]; it falls with beta."""
    excess, mu = below_largest(arguments.samples("q", q), mu)
    return _divergence(excess, mu, _at_least(excess, beta), clip)


def scales_within(
    q: ArrayLike,
    mu: ArrayLike,
    *,
    mean_nats: float,
    most_nats: ArrayLike,
    state_weights: ArrayLike,
    clip: float = math.inf,
) -> tuple[float, np.ndarray]:
    """Returns beta and beta(s) of max E_s E_pi[Q] with KL_s <= most_nats, and E_s KL_s <= mean_nats.

    beta(s) = max(beta, cap(s)) with the `state_scale` cap(s) of most_nats, f64[S] or a number, inf for none.
    beta is 0 where the states' own bounds leave the mean below mean_nats.

    Proof: the problem is convex and mu strictly feasible, so the KKT conditions decide. With multipliers beta
    and p(s) * l(s), KL_s has the factor beta(s) = beta + l(s) in the Lagrangian, so pi = mu * exp(z) at
    beta(s). Either l(s) = 0 and KL_s <= most_nats, or KL_s = most_nats, that is beta(s) = cap(s) >= beta. As
    KL_s falls with beta(s), the first holds if beta >= cap(s), else the second.
    """
    q, p = arguments.samples("q", q), arguments.probabilities("state_weights", state_weights)
    excess, mu = below_largest(q, mu)
    cap = state_scale(q, mu, most_nats, clip).beta
    span, lowest = _ends(excess)

    def mean_divergence(beta: np.ndarray) -> np.ndarray:
        return p @ _divergence(excess, mu, np.maximum(np.maximum(beta, cap), lowest), clip)

    nats = arguments.positive("mean_nats", mean_nats)
    beta = float(_root(mean_divergence, nats, lowest.min(), span.max() / math.sqrt(2.0 * nats)))
    return beta, np.maximum(beta, cap)


def solve_within(
    mdp: SoftMDP,
    nats: float,
    *,
    soft: bool = False,
    start: ArrayLike = 0.0,
    tolerance: float = 1e-10,
    clip: float = math.inf,
) -> WithinNats:
    """Solves Q = r + discount * E[v(s')] with the best policy within `nats` in every state; ignores mdp.beta.

    Here v is E_pi[Q], without a clip V + beta * nats: the maximum over the same policies at any Q, so the
    sweeps contract by the discount to one fixed point, the return of the best of these policies. With `soft`,
    v is the minimiser's V, the return of its policy less the discounted sum of beta * nats. Its derivative,
    pi(a) * (1 - nats * beta * (Q(a) - E_pi[Q]) / Var_pi[Q]), can be negative where Q(a) is large, so several
    fixed points are possible: `start`, f64[S], decides.

    Args:
        tolerance: largest change of v in the last sweep, of the largest |v|; below 1.

    Raises:
        ValueError: with `soft`, if the sweeps do not settle.
    """
    v = np.broadcast_to(np.asarray(start, np.float64), mdp.behavior.shape[:-1])
    # The contraction needs so many; where V amplifies a difference, a soft fixed point needs more.
    sweeps = math.ceil(
        math.log(arguments.positive("tolerance", tolerance)) / math.log(max(mdp.discount, 0.5))
    )
    for _ in range(20 * sweeps):
        q, last = mdp.backup(v), v
        scale = state_scale(q, mdp.behavior, nats, clip)
        policy = mdp.behavior * weights(q, mdp.behavior, scale.beta, clip)
        v = scale.v if soft else (policy * q).sum(-1)
        change = np.abs(v - last).max()
        if change <= tolerance * np.abs(v).max():
            return WithinNats(v, q, scale.beta, policy)
    raise ValueError(f"the sweeps have not settled: v still changes by {change:.3g}")


def _ends(excess: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Each state's span of Q, 1 if that is 0, and its smallest beta."""
    span = -excess.min(-1)
    span = np.where(span > 0.0, span, 1.0)
    return span, SMALLEST * span


def _at_least(excess: np.ndarray, beta: ArrayLike) -> np.ndarray:
    beta = np.asarray(beta, np.float64)
    if not (beta >= 0.0).all():
        raise ValueError(f"beta must not be negative, not {beta.min()}")
    return np.maximum(beta, _ends(excess)[1])


def _tilt(x: np.ndarray, mu: np.ndarray, clip: float) -> tuple[np.ndarray, np.ndarray]:
    """log w = min(x - v, clip) with E_mu[w] = 1, and v; the largest x is 0.

    Weights above exp(clip) are set to it and the others grow to restore the mean, until none is above: those
    that were too large stay so, as v only falls.
    """
    arguments.positive("clip", min(clip, 1e9))
    capped = np.zeros(x.shape, bool)
    while True:
        rest = np.where(capped, 0.0, mu)
        share = rest.sum(-1)
        taken = (np.where(capped, math.expm1(min(clip, 700.0)), 0.0) * mu).sum(-1)
        mass = np.maximum(share - taken, 1e-300)  # of mu * w in the rest; by rounding it could be 0
        top = np.where(rest > 0, x, -np.inf).max(-1)
        from_top = np.minimum(x - top[..., None], 0.0)
        rise = weighted_log_partition(from_top, rest / share[..., None], 1.0) - np.log(mass / share)
        log_w = np.where(capped, clip, np.maximum(from_top - rise[..., None], -800.0))  # exp is 0 there
        above = (log_w > clip) & (mu > 0)
        if not above.any():
            return log_w, top + rise
        capped |= above


def _divergence(excess: np.ndarray, mu: np.ndarray, beta: np.ndarray, clip: float) -> np.ndarray:
    log_w = _tilt(excess / np.asarray(beta)[..., None], mu, clip)[0]
    # E_mu[w - 1] is 0; subtracted, it keeps the digits of a w close to 1.
    return (mu * (np.exp(log_w) * log_w - np.expm1(log_w))).sum(-1)


def _root(
    divergence_at: Callable[[np.ndarray], np.ndarray], nats: ArrayLike, lowest: ArrayLike, highest: ArrayLike
) -> np.ndarray:
    """The beta, elementwise, whose divergence is `nats`; 0 where even the lowest beta's is not above."""
    low, high = np.log(lowest), np.log(np.maximum(lowest, highest))
    none = divergence_at(np.asarray(lowest)) <= np.asarray(nats) * (1.0 + 1e-12)
    for _ in range(HALVINGS):
        middle = (low + high) / 2.0
        above = divergence_at(np.exp(middle)) > nats
        low, high = np.where(above, middle, low), np.where(above, high, middle)
    return np.where(none, 0.0, np.exp((low + high) / 2.0))
