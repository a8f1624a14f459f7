"""Tabular soft MDPs, solved by soft value iteration (Garg et al. 2023, Sec. 2.1, Appendix C.1)."""

import dataclasses
import math
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import ArrayLike
from scipy import sparse
from scipy.sparse.linalg import spsolve

from xql_jax.theory import arguments
from xql_jax.theory.conservatism import soft_policy
from xql_jax.theory.log_partition import weighted_log_partition


@dataclasses.dataclass(eq=False)
class SoftMDP:
    """A finite MDP regularised towards a reference policy mu by beta * KL(pi, mu).

    Transitions are lists of K successors per state-action pair, smaller than a dense matrix.
    Source: Garg et al. 2023, Sec. 2.1.
    """

    next_states: np.ndarray  # i32[S, A, K], in any order; duplicates are allowed
    probabilities: np.ndarray  # f64[S, A, K], of those successors; they sum to 1
    rewards: np.ndarray  # f64[S, A], reward units
    behavior: np.ndarray  # f64[S, A], mu(a|s)
    discount: float  # within [0, 1)
    beta: float  # Gumbel scale, positive, reward units

    def __post_init__(self):
        self.next_states = np.asarray(self.next_states, np.int32)
        self.probabilities = arguments.probabilities("probabilities", self.probabilities)
        self.rewards = arguments.samples("rewards", self.rewards)
        self.behavior = arguments.probabilities("behavior", self.behavior)
        shape = self.next_states.shape
        shapes = self.probabilities.shape, self.rewards.shape, self.behavior.shape
        if shapes != (shape, shape[:-1], shape[:-1]):
            raise ValueError(f"the shapes of the four tables do not fit: {shape}, {shapes}")
        if self.next_states.min() < 0 or self.next_states.max() >= shape[0]:
            raise ValueError(f"next_states must be states, 0 to {shape[0] - 1}")
        arguments.positive("beta", self.beta)
        if not 0.0 <= self.discount < 1.0:
            raise ValueError(f"discount must be within [0, 1), not {self.discount}")

    @classmethod
    def dense(
        cls, transitions: ArrayLike, rewards: ArrayLike, behavior: ArrayLike, *, discount: float, beta: float
    ) -> Self:
        """Builds the MDP from transitions f64[S, A, S], P(s'|s, a)."""
        matrix = np.asarray(transitions, np.float64)
        largest_first = np.argsort(-matrix, axis=-1, kind="stable")[..., : (matrix > 0).sum(-1).max()]
        probabilities = np.take_along_axis(matrix, largest_first, axis=-1)
        return cls(largest_first, probabilities, np.asarray(rewards), np.asarray(behavior), discount, beta)

    @classmethod
    def random(
        cls,
        generator: np.random.Generator,
        *,
        num_states: int,
        num_actions: int,
        num_successors: int = 4,
        discount: float = 0.99,
        beta: float = 1.0,
    ) -> Self:
        """Draws normal rewards, and uniform mu, successors and their probabilities."""
        shape = (num_states, num_actions)
        return cls(
            next_states=generator.integers(num_states, size=(*shape, num_successors)),
            probabilities=generator.dirichlet(np.ones(num_successors), shape),
            rewards=generator.normal(size=shape),
            behavior=generator.dirichlet(np.ones(num_actions), num_states),
            discount=discount,
            beta=beta,
        )

    @classmethod
    def from_transitions(
        cls,
        states: np.ndarray,
        actions: np.ndarray,
        rewards: np.ndarray,
        next_states: np.ndarray,
        *,
        num_states: int,
        num_actions: int,
        discount: float,
        beta: float,
    ) -> Self:
        """Builds the empirical MDP of counted transitions: what a learner can know from a dataset.

        A state without data is absorbing with reward 0, so its value is 0: it can represent a terminal state.
        In other states an action without data leads back to the same state with reward 0; mu gives it no
        weight. A pair's reward is the mean of its rewards f64[N].
        """
        shape = (num_states, num_actions, num_states)
        triples = np.ravel_multi_index((states, actions, next_states), shape)
        counts = np.bincount(triples, minlength=math.prod(shape)).reshape(shape)
        reward_sums = np.bincount(triples, rewards, math.prod(shape)).reshape(shape).sum(-1)
        visits = counts.sum(-1)
        stay = np.broadcast_to(np.eye(num_states)[:, None, :], counts.shape)
        state_visits = visits.sum(-1, keepdims=True)
        return cls.dense(
            np.where(visits[..., None] > 0, counts / np.maximum(visits, 1.0)[..., None], stay),
            rewards=reward_sums / np.maximum(visits, 1.0),
            behavior=np.where(state_visits > 0, visits / np.maximum(state_visits, 1.0), 1.0 / num_actions),
            discount=discount,
            beta=beta,
        )

    def backup(self, v: ArrayLike) -> np.ndarray:
        """Returns Q = r + discount * E[V(s')], f64[S, A] (Eq. 10 and 33, which prints V(s) for V(s'))."""
        return self.rewards + self.discount * (self.probabilities * np.asarray(v)[self.next_states]).sum(-1)

    def soft_value(self, q: ArrayLike) -> np.ndarray:
        """Returns V = L^beta_mu(Q) = beta * log E_mu[exp(Q / beta)], f64[S] (Eq. 1, 34)."""
        return weighted_log_partition(np.asarray(q, np.float64), self.behavior, self.beta)

    def expected_returns(self, policy: ArrayLike) -> np.ndarray:
        """Returns the expected discounted return of a policy from every state, f64[S], reward units.

        No KL cost is subtracted, so neither mu nor beta plays a part; for Eq. 2's policy this is not V. It
        solves (I - discount * P_pi) v = r_pi by a sparse factorisation.
        Source: Garg et al. 2023, Sec. 2.1, the return without regularisation.
        """
        pi = arguments.probabilities("policy", policy)
        states, weights = np.arange(len(pi)), pi[..., None] * self.probabilities
        pairs = np.repeat(states, weights[0].size), self.next_states.ravel()  # weights of a pair add up
        dynamics = sparse.csc_array((weights.ravel(), pairs), (len(pi), len(pi)))
        system = sparse.eye_array(len(pi), format="csc") - self.discount * dynamics
        return spsolve(system, (pi * self.rewards).sum(-1))


class Solution(NamedTuple):
    """Soft-optimal values and policy, with a bound on the error of each entry of V and Q, up to rounding."""

    v: np.ndarray  # f64[S], the soft value of q
    q: np.ndarray  # f64[S, A]
    policy: np.ndarray  # f64[S, A], pi(a|s), Eq. 2
    residual: float  # the Bellman residual: largest change in the last sweep, reward units
    error_bound: float  # residual * discount / (1 - discount), by contraction


def value_iteration(mdp: SoftMDP, tolerance: float = 1e-9) -> Solution:
    """Solves by V <- L^beta_mu(r + discount * E[V(s')]) from V = 0, until V changes by at most `tolerance`.

    If rounding makes the tolerance unreachable, the sweeps end when exact arithmetic would have reached it,
    and `residual` is what was reached. 10,000 states with 10 actions take some seconds.
    Source: Garg et al. 2023, Eq. 35, with V(s') under the expectation; the paper prints V(s).
    """
    arguments.positive("tolerance", tolerance)
    v = np.zeros(len(mdp.behavior))
    largest = float(np.abs(mdp.rewards).max())  # bound on the residual in exact arithmetic
    while True:
        last, q = v, mdp.backup(v)
        v = mdp.soft_value(q)
        residual = float(np.abs(v - last).max())
        # The slack of two sweeps is for rounding, which may keep the residual above the tolerance for ever.
        if residual <= tolerance or largest <= tolerance * mdp.discount**2:
            break
        largest *= mdp.discount
    bound = residual * mdp.discount / (1.0 - mdp.discount)
    return Solution(v, q, soft_policy(q, mdp.behavior, mdp.beta), residual, bound)
