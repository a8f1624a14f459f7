"""Tabular soft MDP, solved by soft value iteration (Garg et al. 2023, Section 2.1 and Appendix C.1)."""

import dataclasses
import math
from typing import Self

import numpy as np


@dataclasses.dataclass(frozen=True, eq=False)
class SoftMDP:
    """A finite MDP regularised towards the behaviour policy mu by beta * KL(pi, mu); all arrays float64.

    Raises:
        ValueError: if shapes disagree, a number is not finite, a row of probabilities does not sum to 1, beta
            is not positive or the discount is outside [0, 1).
    """

    transitions: np.ndarray  # f64[S, A, S], P(s'|s, a)
    rewards: np.ndarray  # f64[S, A], reward units
    behavior: np.ndarray  # f64[S, A], mu(a|s)
    discount: float
    beta: float  # Gumbel scale, reward units

    def __post_init__(self):
        for name in ("transitions", "rewards", "behavior"):
            array = np.asarray(getattr(self, name), np.float64)
            object.__setattr__(self, name, array)
            if not np.isfinite(array).all():
                raise ValueError(f"{name} must be finite")
        num_states, num_actions = self.behavior.shape
        if self.rewards.shape != self.behavior.shape:
            raise ValueError(f"rewards has shape {self.rewards.shape}, behavior {self.behavior.shape}")
        if self.transitions.shape != (num_states, num_actions, num_states):
            raise ValueError(
                f"transitions has shape {self.transitions.shape}, behavior {self.behavior.shape}"
            )
        for name, rows in (("transitions", self.transitions), ("behavior", self.behavior)):
            if (rows < 0).any() or not np.allclose(rows.sum(-1), 1.0, rtol=0.0, atol=1e-9):
                raise ValueError(f"every row of {name} must be probabilities that sum to 1")
        if not (0.0 < self.beta < math.inf):
            raise ValueError(f"beta must be positive and finite, not {self.beta}")
        if not 0.0 <= self.discount < 1.0:
            raise ValueError(f"discount must be within [0, 1), not {self.discount}")

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

        A state without data is absorbing with reward 0, so its value is 0: it can stand for a terminal state.
        In other states an action without data stays where it is, with reward 0; mu gives it no weight.
        Args:
            states, actions, next_states: int[N], indices.
            rewards: f64[N], reward units; a pair's reward is their mean.
        Raises:
            ValueError: if an index is out of range.
        """
        shape = (num_states, num_actions, num_states)
        triples = np.ravel_multi_index((states, actions, next_states), shape)
        counts = np.bincount(triples, minlength=math.prod(shape)).reshape(shape)
        reward_sums = np.bincount(triples, rewards, math.prod(shape)).reshape(shape).sum(-1)
        visits = counts.sum(-1)
        stay = np.broadcast_to(np.eye(num_states)[:, None, :], counts.shape)
        state_visits = visits.sum(-1, keepdims=True)
        return cls(
            transitions=np.where(visits[..., None] > 0, counts / np.maximum(visits, 1.0)[..., None], stay),
            rewards=reward_sums / np.maximum(visits, 1.0),
            behavior=np.where(state_visits > 0, visits / np.maximum(state_visits, 1.0), 1.0 / num_actions),
            discount=discount,
            beta=beta,
        )

    def backup(self, v: np.ndarray) -> np.ndarray:
        """Returns Q = r + discount * E[V(s')], f64[S, A] (Eq. 33, which prints V(s) for V(s'))."""
        return self.rewards + self.discount * self.transitions @ v

    def soft_value(self, q: np.ndarray) -> np.ndarray:
        """Returns V = L^beta_mu(Q) = beta * log E_mu[exp(Q / beta)], f64[S] (Eq. 1 and 34)."""
        largest = np.where(self.behavior > 0, q, -np.inf).max(-1, keepdims=True)
        # Outside mu's support Q may exceed `largest`: there the exponential could overflow to inf * 0.
        weights = self.behavior * np.exp(np.minimum(q - largest, 0.0) / self.beta)
        return largest[:, 0] + self.beta * np.log(weights.sum(-1))

    def solve(self, tolerance: float) -> tuple[np.ndarray, np.ndarray]:
        """Returns the soft-optimal (V f64[S], Q f64[S, A]) within `tolerance` reward units, up to rounding.

        Soft value iteration from V = 0 (Eq. 35, with V(s') under the expectation). It is a contraction of
        modulus `discount`, so the first change tells the number of steps.
        Raises:
            ValueError: if the tolerance is not positive.
        """
        if not tolerance > 0:
            raise ValueError(f"tolerance must be positive, not {tolerance}")
        v = self.soft_value(self.backup(np.zeros(len(self.behavior))))
        error = np.abs(v).max() / (1.0 - self.discount)  # of V = 0, at most
        steps = 0
        if self.discount > 0 and error > tolerance:
            steps = math.ceil(math.log(tolerance / error) / math.log(self.discount))
        for _ in range(steps):
            v = self.soft_value(self.backup(v))
        return v, self.backup(v)

    def policy(self, q: np.ndarray, v: np.ndarray) -> np.ndarray:
        """Returns pi(a|s) = mu(a|s) exp((Q - V) / beta), f64[S, A] (Eq. 2).

        Its rows sum to 1 if V is the soft value of Q.
        """
        advantages = np.where(self.behavior > 0, q - v[:, None], 0.0)
        return self.behavior * np.exp(advantages / self.beta)
