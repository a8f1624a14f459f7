"""Extreme Q-learning (Garg et al. 2023): Algorithm 1 with these parts."""

from xql_jax.learners.critics import TemporalDifference
from xql_jax.learners.in_sample import InSample
from xql_jax.learners.methods import Method
from xql_jax.learners.policy_objectives import ForwardKL
from xql_jax.learners.value_fits import Gumbel

XQL = Method(
    InSample,
    value=Gumbel,  # Eq. 11: V to beta * log E[exp(Q / beta)] over the data's actions, by Gumbel regression
    policy=ForwardKL,  # Eq. 12: pi by log-likelihood, weighted by exp(awr_temperature * (Q - V))
    critic=TemporalDifference,  # Eq. 14: Q to r + discount * V(s'), by least squares
)
