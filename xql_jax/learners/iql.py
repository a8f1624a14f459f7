"""Implicit Q-learning (Kostrikov et al. 2021): XQL but for how V is fitted."""

from xql_jax.learners.critics import TemporalDifference
from xql_jax.learners.in_sample import InSample
from xql_jax.learners.methods import Method
from xql_jax.learners.policy_objectives import ForwardKL
from xql_jax.learners.value_fits import Expectile

IQL = Method(InSample, value=Expectile, policy=ForwardKL, critic=TemporalDifference)
