"""Distributions over actions and policies other than XQL's: SAC's tanh of a Gaussian, TD3's, mixtures."""

import math
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from xql_jax.networks.mlp import (
    LOG_STD_RANGE,
    MLP,
    DiagonalGaussian,
    GaussianPolicy,
    Initializer,
    iql_init,
    sum_of_known,
)
from xql_jax.types import Array, PRNGKey

NARROW_LOG_STD_RANGE = (-5.0, 0.0)  # davidbrandfonbrener/onestep-rl, policy_network.py, line 18
LARGEST_ACTION = 1.0 - 1e-5  # D4RL's data are clipped to this, too; arctanh is finite here
small_init = nn.initializers.orthogonal(0.01)  # of the outputs that do not depend on the state at first
sac_init: Initializer = nn.initializers.orthogonal(1.0)  # of Yarats & Kostrikov (2020)
# PyTorch's, which Fujimoto et al. (2018) use: uniform within 1 / sqrt(inputs).
td3_init: Initializer = nn.initializers.variance_scaling(1.0 / 3.0, "fan_in", "uniform")


class GaussianMixture(NamedTuple):
    """Mixture of K normal distributions with independent components."""

    logits: Array  # f32[..., K]
    mean: Array  # f32[..., K, A]
    std: Array  # f32[..., K, A]

    def log_prob(self, actions: Array, known: Array | None = None) -> Array:
        """Log density, nats: f32[..., A] -> f32[...]; of the entries that are `known` alone."""
        entries = None if known is None else known[..., None, :]
        components = jax.scipy.stats.norm.logpdf(actions[..., None, :], self.mean, self.std)
        components = sum_of_known(components, entries)
        return jax.nn.logsumexp(jax.nn.log_softmax(self.logits) + components, axis=-1)

    def central_action(self) -> Array:
        """The mean of the most probable component."""
        return _of_component(self.mean, self.logits.argmax(-1))

    def sample(self, key: PRNGKey) -> Array:
        key_component, key_noise = jax.random.split(key)
        component = jax.random.categorical(key_component, self.logits)
        mean, std = _of_component(self.mean, component), _of_component(self.std, component)
        return mean + std * jax.random.normal(key_noise, mean.shape)


class TanhGaussian(NamedTuple):
    """The distribution of tanh(u), component by component, for a Gaussian u."""

    gaussian: DiagonalGaussian  # of u

    def central_action(self) -> Array:
        """The tanh of the mean of u, f32[..., A]: the median of every component."""
        return jnp.tanh(self.gaussian.mean)

    def sample(self, key: PRNGKey) -> Array:
        return jnp.tanh(self.gaussian.sample(key))

    def log_prob(self, actions: Array, known: Array | None = None) -> Array:
        """Log density, nats: f32[..., A] -> f32[...]; of the entries that are `known` alone.

        Actions at the bounds count as just within them.
        """
        return self.log_prob_at(jnp.arctanh(jnp.clip(actions, -LARGEST_ACTION, LARGEST_ACTION)), known)

    def sample_and_log_prob(self, key: PRNGKey) -> tuple[Array, Array]:
        """One action f32[..., A] and its log density f32[...]; gradients flow through both."""
        u = self.gaussian.sample(key)
        return jnp.tanh(u), self.log_prob_at(u)

    def log_prob_at(self, u: Array, known: Array | None = None) -> Array:
        """Log density of the action tanh(u), nats: f32[..., A] -> f32[...].

        It takes u instead of the action, because tanh(u) is 1 in float32 from u = 9 on. For the same reason
        log(1 - tanh(u)^2) is written in a form without cancellation.
        """
        log_slope = 2.0 * (math.log(2.0) - u - jax.nn.softplus(-2.0 * u))
        return self.gaussian.log_prob(u, known) - sum_of_known(log_slope, known)


# Over actions f32[..., A], which a policy gives for a state; `central_action` is the deterministic action.
Distribution = DiagonalGaussian | GaussianMixture | TanhGaussian


class Draws(NamedTuple):
    """Actions that stand for a distribution: sum_k weights[k] * f(actions[k]) estimates E f(a) without bias.

    Gradients flow through all fields, so that the estimate can be maximised.
    """

    actions: Array  # f32[K, ..., A]
    log_probs: Array  # f32[K, ...], of the whole distribution
    weights: Array  # f32[K, ...], sum 1 over K
    before_tanh: Array | None = None  # f32[K, ..., A], of a `TanhGaussian`

    def log_probs_of(self, other: Distribution) -> Array:
        """The actions' log density f32[K, ...] by another distribution of the kind, at the bounds, too."""
        if isinstance(other, TanhGaussian) and self.before_tanh is not None:
            return other.log_prob_at(self.before_tanh)
        return other.log_prob(self.actions)


def draws(distribution: Distribution, key: PRNGKey) -> Draws:
    """One action; of a mixture one per normal, weighted by its probability: sampling has no gradient."""
    if isinstance(distribution, GaussianMixture):
        logits, mean, std = distribution
        actions = jnp.moveaxis(mean + std * jax.random.normal(key, mean.shape), -2, 0)
        return Draws(actions, distribution.log_prob(actions), jnp.moveaxis(jax.nn.softmax(logits), -1, 0))
    if isinstance(distribution, TanhGaussian):
        u = distribution.gaussian.sample(key)
        log_probs = distribution.log_prob_at(u)
        return Draws(jnp.tanh(u)[None], log_probs[None], jnp.ones_like(log_probs)[None], u[None])
    actions = distribution.sample(key)
    log_probs = distribution.log_prob(actions)
    return Draws(actions[None], log_probs[None], jnp.ones_like(log_probs)[None])


class StateGaussianPolicy(GaussianPolicy):
    """A Gaussian policy whose log-std is another output of the MLP, clipped to [-5, 2]; it begins near 0."""

    def log_std(self, x: Array) -> Array:
        return jnp.clip(nn.Dense(self.action_dim, kernel_init=small_init)(x), *LOG_STD_RANGE)


class NarrowGaussianPolicy(GaussianPolicy):
    """A Gaussian policy whose std, of another output of the MLP, begins near 0.08 and stays below 1."""

    def log_std(self, x: Array) -> Array:
        return softly_bounded(nn.Dense(self.action_dim, kernel_init=small_init)(x), *NARROW_LOG_STD_RANGE)


class MixturePolicy(nn.Module):
    """Policy f32[B, O] -> mixture of Gaussians over f32[B, A]; means and stds as `StateGaussianPolicy`'s."""

    action_dim: int
    hidden_dims: tuple[int, ...]
    num_components: int
    dropout_rate: float = 0.0

    @nn.compact
    def __call__(self, observations: Array, training: bool = False) -> GaussianMixture:
        x = MLP(self.hidden_dims, dropout_rate=self.dropout_rate)(observations, training)
        shape = (*x.shape[:-1], self.num_components, self.action_dim)
        size = self.num_components * self.action_dim
        logits = nn.Dense(self.num_components, kernel_init=small_init)(x)
        mean = jnp.tanh(nn.Dense(size, kernel_init=iql_init)(x)).reshape(shape)
        log_std = nn.Dense(size, kernel_init=small_init)(x).reshape(shape)
        return GaussianMixture(logits, mean, jnp.exp(jnp.clip(log_std, *LOG_STD_RANGE)))


class TanhGaussianPolicy(nn.Module):
    """SAC's policy: f32[B, O] -> distribution over f32[B, A] within [-1, 1].

    A tanh brings log-std into [-5, 2], as in pytorch_sac and the authors' code.
    """

    action_dim: int
    hidden_dims: tuple[int, ...]
    dropout_rate: float = 0.0

    @nn.compact
    def __call__(self, observations: Array, training: bool = False) -> TanhGaussian:
        mlp = MLP(self.hidden_dims, dropout_rate=self.dropout_rate, kernel_init=sac_init)
        x = nn.Dense(2 * self.action_dim, kernel_init=sac_init)(mlp(observations, training))
        mean, x = jnp.split(x, 2, axis=-1)
        return TanhGaussian(DiagonalGaussian(mean, jnp.exp(softly_bounded(x, *LOG_STD_RANGE))))


class DeterministicPolicy(nn.Module):
    """TD3's policy: f32[B, O] -> f32[B, A] within [-1, 1]."""

    action_dim: int
    hidden_dims: tuple[int, ...]
    kernel_init: Initializer = td3_init

    @nn.compact
    def __call__(self, observations: Array) -> Array:
        x = MLP(self.hidden_dims, kernel_init=self.kernel_init)(observations)
        return jnp.tanh(nn.Dense(self.action_dim, kernel_init=self.kernel_init)(x))


def softly_bounded(x: Array, low: float, high: float) -> Array:
    """Brings any x into [low, high] by a tanh, and 0 to the middle; unlike a clip, with a gradient."""
    return low + 0.5 * (high - low) * (jnp.tanh(x) + 1.0)


def _of_component(values: Array, component: Array) -> Array:
    """Selects component i32[...] from values f32[..., K, A]; returns f32[..., A]."""
    return jnp.take_along_axis(values, component[..., None, None], axis=-2).squeeze(-2)
