"""Distributions over actions, and the Gaussian and mixture policies of the in-sample methods."""

from typing import NamedTuple, Protocol

import flax.linen as nn
import jax
import jax.numpy as jnp

from xql_jax.networks.mlp import MLP, iql_init
from xql_jax.types import Array, PRNGKey

LOG_STD_RANGE = (-5.0, 2.0)
NARROW_LOG_STD_RANGE = (-5.0, 0.0)  # davidbrandfonbrener/onestep-rl, policy_network.py, line 18
small_init = nn.initializers.orthogonal(0.01)  # of the outputs that do not depend on the state at first


class Draws(NamedTuple):
    """Actions that stand for a distribution: sum_k weights[k] * f(actions[k]) estimates E f(a) without bias.

    Gradients flow through all three fields, so that the estimate can be maximised.
    """

    actions: Array  # f32[K, ..., A]
    log_probs: Array  # f32[K, ...], of the whole distribution
    weights: Array  # f32[K, ...], sum 1 over K

    def mean(self, values: Array) -> Array:
        """Estimates E f(a), f32[...]: the weighted sum of f's values f32[K, ...] at `actions`."""
        return (self.weights * values).sum(0)


class Distribution(Protocol):
    """A distribution over actions f32[..., A], which a policy gives for a state."""

    def log_prob(self, actions: Array) -> Array:
        """Log density, nats: f32[..., A] -> f32[...]."""
        ...

    def central_action(self) -> Array:
        """The deterministic action f32[..., A] of the distribution."""
        ...

    def sample(self, key: PRNGKey) -> Array: ...

    def draws(self, key: PRNGKey) -> Draws: ...


class DiagonalGaussian(NamedTuple):
    """A normal distribution with independent components."""

    mean: Array  # f32[..., A]
    std: Array  # f32[A] or f32[..., A]

    def log_prob(self, actions: Array) -> Array:
        """Log density, nats: f32[..., A] -> f32[...]."""
        return jax.scipy.stats.norm.logpdf(actions, self.mean, self.std).sum(-1)

    def central_action(self) -> Array:
        return self.mean

    def sample(self, key: PRNGKey) -> Array:
        return self.mean + self.std * jax.random.normal(key, self.mean.shape)

    def draws(self, key: PRNGKey) -> Draws:
        """One action, f32[1, ..., A]."""
        actions = self.sample(key)
        log_probs = self.log_prob(actions)
        return Draws(actions[None], log_probs[None], jnp.ones_like(log_probs)[None])


class GaussianMixture(NamedTuple):
    """Mixture of K normal distributions with independent components."""

    logits: Array  # f32[..., K]
    mean: Array  # f32[..., K, A]
    std: Array  # f32[..., K, A]

    def log_prob(self, actions: Array) -> Array:
        """Log density, nats: f32[..., A] -> f32[...]."""
        components = jax.scipy.stats.norm.logpdf(actions[..., None, :], self.mean, self.std).sum(-1)
        return jax.nn.logsumexp(jax.nn.log_softmax(self.logits) + components, axis=-1)

    def central_action(self) -> Array:
        """The mean of the most probable component."""
        return _of_component(self.mean, self.logits.argmax(-1))

    def sample(self, key: PRNGKey) -> Array:
        key_component, key_noise = jax.random.split(key)
        component = jax.random.categorical(key_component, self.logits)
        mean, std = _of_component(self.mean, component), _of_component(self.std, component)
        return mean + std * jax.random.normal(key_noise, mean.shape)

    def draws(self, key: PRNGKey) -> Draws:
        """One action per normal of the mixture, weighted by its probability: sampling one has no gradient."""
        actions = self.mean + self.std * jax.random.normal(key, self.mean.shape)
        actions = jnp.moveaxis(actions, -2, 0)
        return Draws(actions, self.log_prob(actions), jnp.moveaxis(jax.nn.softmax(self.logits), -1, 0))


class GaussianPolicy(nn.Module):
    """Policy f32[B, O] -> Gaussian over f32[B, A].

    The mean is tanh(MLP(s)), without a squash correction. The log-std does not depend on the state, as in the
    authors' code. It begins at 0 and is clipped to [-5, 2].
    """

    action_dim: int
    hidden_dims: tuple[int, ...]
    dropout_rate: float = 0.0

    @nn.compact
    def __call__(self, observations: Array, training: bool = False) -> DiagonalGaussian:
        x = MLP(self.hidden_dims, dropout_rate=self.dropout_rate)(observations, training)
        mean = jnp.tanh(nn.Dense(self.action_dim, kernel_init=iql_init)(x))
        return DiagonalGaussian(mean, jnp.exp(self.log_std(x)))

    def log_std(self, x: Array) -> Array:
        """Returns f32[A], or f32[B, A] if it depends on the last hidden layer f32[B, H]."""
        log_std = self.param("log_std", nn.initializers.zeros, (self.action_dim,))
        return jnp.clip(log_std, *LOG_STD_RANGE)


class StateGaussianPolicy(GaussianPolicy):
    """A Gaussian policy whose log-std is another output of the MLP, clipped to [-5, 2]; it begins near 0."""

    def log_std(self, x: Array) -> Array:
        return jnp.clip(nn.Dense(self.action_dim, kernel_init=small_init)(x), *LOG_STD_RANGE)


class NarrowGaussianPolicy(GaussianPolicy):
    """A Gaussian policy whose log-std is a tanh of another output of the MLP, scaled to [-5, 0].

    So the standard deviation begins near exp(-2.5) = 0.08 and stays below 1, half of the range of actions.
    """

    def log_std(self, x: Array) -> Array:
        return softly_bounded(nn.Dense(self.action_dim, kernel_init=small_init)(x), *NARROW_LOG_STD_RANGE)


class MixturePolicy(nn.Module):
    """Policy f32[B, O] -> mixture of Gaussians over f32[B, A].

    Means and log-stds are as `StateGaussianPolicy`'s.
    """

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


def softly_bounded(x: Array, low: float, high: float) -> Array:
    """Brings any x into [low, high] by a tanh, and 0 to the middle; unlike a clip, with a gradient."""
    return low + 0.5 * (high - low) * (jnp.tanh(x) + 1.0)


def _of_component(values: Array, component: Array) -> Array:
    """Selects component i32[...] from values f32[..., K, A]; returns f32[..., A]."""
    return jnp.take_along_axis(values, component[..., None, None], axis=-2).squeeze(-2)
