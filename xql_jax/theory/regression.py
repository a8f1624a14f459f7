"""Gumbel regression as a scikit-learn estimator: L^beta(Y|x) (Garg et al. 2023, Eq. 7 and Section 3.2).

Only this module needs scikit-learn.
"""

import dataclasses
import functools
import warnings
from collections.abc import Sequence
from typing import Self

import jax
import jax.numpy as jnp
import numpy as np
import optax
from numpy.typing import ArrayLike, NDArray

from xql_jax.errors import needing
from xql_jax.losses.gumbel import gumbel_loss
from xql_jax.networks.mlp import Value, iql_init
from xql_jax.theory import arguments
from xql_jax.theory.log_partition import log_partition
from xql_jax.types import Array, Params, PRNGKey

with needing("xql_jax.theory.regression", "theory"):
    from sklearn.base import BaseEstimator, RegressorMixin
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.preprocessing import StandardScaler
    from sklearn.utils import check_random_state
    from sklearn.utils.validation import check_is_fitted, validate_data

# Range of beta, in standard deviations of y, with errors below 1% of that deviation; measured without inputs.
# Above, z is so small that float32 loses exp(z) - 1: the error is 0.5% at 3e6 and up to 5% at 1e7.
# Below, z of the lower samples passes `losses.gumbel.LOWEST_Z`, where the loss is flat: from 1e-19 on the
# error is 1% to 30%, at 1e-30 it is some deviations. In float32 L^beta is the maximum long before.
BETA_RANGE = (1e-15, 1e6)
INTERCEPT_TOLERANCE = 0.01  # of the intercept, in standard deviations of y; beyond it a fit warns
# The steepest slope, in multiples of N: of one sample, and of all samples of a minibatch together. At an
# optimum no batch has more than 2N. With a smaller bound, one outlier could be in balance with all others.
STEEPEST = 4.0

Models = tuple[Params, optax.OptState]  # of K models, stacked


def tangent_gumbel_loss(values: Array, targets: Array, beta: Array, count: int) -> Array:
    """beta * `gumbel_loss`, continued by its tangent above the z at which exp(z) is STEEPEST * count.

    At an optimum over all `count` samples the mean of exp(z) is 1, because the output's bias has gradient 0.
    So no exp(z) exceeds `count`, and the minimiser is that of Eq. 7. The loss is convex, and finite in
    float32 at any z.
    """
    steepest = STEEPEST * count
    edge = targets - beta * jnp.log(steepest)
    inner = beta * gumbel_loss(jnp.maximum(values, edge), targets, beta=beta)
    return inner + (steepest - 1.0) * jnp.maximum(edge - values, 0.0)


@functools.partial(jax.jit, static_argnames=("network", "num_batches", "num_epochs"))
def descend(
    network: Value,
    params: Params,
    inputs: Array,
    targets: Array,
    betas: Array,
    learning_rate: float,
    key: PRNGKey,
    *,
    num_batches: int,
    num_epochs: int,
) -> Params:
    """Returns the parameters, stacked, of K models that Adam fits side by side.

    All see the same minibatches, drawn without replacement. The learning rate falls to 0 along a cosine. Adam
    keeps its long second moment (b2 = 0.999). With a short one, a rare batch with a large gradient is divided
    by itself, and the frequent small gradients dominate.

    Args:
        params: of K models, stacked.
        inputs: f32[N, D]. targets: f32[N], of variance 1. betas: f32[K], in the units of these targets.
    """
    count = targets.size
    batch_size = count // num_batches
    optimiser = optax.adam(optax.cosine_decay_schedule(learning_rate, num_epochs * num_batches))

    def update(params: Params, state: optax.OptState, beta: Array, indices: Array) -> Models:
        def total_loss(values: Array) -> Array:
            return tangent_gumbel_loss(values, targets[indices], beta, count).sum()

        values, pull_back = jax.vjp(lambda p: network.apply(p, inputs[indices]), params)
        slopes = jax.grad(total_loss)(values)
        # This has no effect at the optimum, so the limit is not biased. On the way there it keeps huge
        # gradients out of Adam's second moment, where they would last for long.
        slopes *= jnp.minimum(1.0, STEEPEST * count / jnp.maximum(jnp.abs(slopes).sum(), 1.0))
        (gradient,) = pull_back(slopes / batch_size)
        change, state = optimiser.update(gradient, state)
        return optax.apply_updates(params, change), state

    def minibatch(models: Models, indices: Array) -> tuple[Models, None]:
        return jax.vmap(update, in_axes=(0, 0, 0, None))(*models, betas, indices), None

    def epoch(models: Models, key: PRNGKey) -> tuple[Models, None]:
        # A random permutation that compiles in half the time of `jax.random.permutation`.
        order = jnp.argsort(jax.random.bits(key, (count,)))[: num_batches * batch_size]
        return jax.lax.scan(minibatch, models, order.reshape(num_batches, batch_size))

    models = params, jax.vmap(optimiser.init)(params)
    (fitted, _), _ = jax.lax.scan(epoch, models, jax.random.split(key, num_epochs))
    return fitted


@dataclasses.dataclass(eq=False, repr=False)
class GumbelRegressor(RegressorMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """Gumbel regression: fits L^beta(Y|x) = beta * log E[exp(Y / beta) | x] without computing it.

    It minimises exp(z) - z - 1 with z = (y - f(x)) / beta by stochastic gradients over a linear model or an
    MLP. The result is the mean of Y for a large beta and its largest value for a small one (Lemma 3.1).
    The plain loss is used, because minibatches do not change its minimiser (Lemma 3.2). `fit` scales X and y
    to mean 0 and variance 1, and beta with them, so a Pipeline needs no scaler. It refuses a beta beyond
    `BETA_RANGE`, and warns if too few updates leave a constant error above 1%.

    Source: Garg et al. 2023, Eq. 7, Section 3.2 and Lemma 3.2.
    Args:
        beta: Gumbel scale, positive, in the units of y; or K of them, f64[K].
        hidden_dims: widths of the hidden layers, with ReLU; () is the linear model.
        learning_rate: Adam's at the start, in standardised units; it falls to 0 along a cosine.
        batch_size: upper bound; all data if there are fewer.
        num_updates: gradient steps, rounded up to whole epochs.
        random_state: int, RandomState or None; it seeds the initialisation and the order of the samples.
    Attributes:
        betas_: f64[] or f64[K].
        params_: the network's parameters in standardised units, f32, stacked along a first axis over beta.
        n_iter_: epochs done.
    """

    beta: float | ArrayLike = 1.0
    _: dataclasses.KW_ONLY
    hidden_dims: Sequence[int] = ()
    learning_rate: float = 0.02
    batch_size: int = 256
    num_updates: int = 10_000
    random_state: int | np.random.RandomState | None = None

    def fit(self, X: ArrayLike, y: ArrayLike) -> Self:
        inputs, targets = validate_data(self, X, y, dtype=np.float64, y_numeric=True)
        self.input_scaler_ = StandardScaler().fit(inputs)
        self.target_scaler_ = StandardScaler().fit(targets[:, None])
        self.betas_ = np.asarray(self.beta, np.float64)
        for name in ("learning_rate", "batch_size", "num_updates"):
            arguments.positive(name, getattr(self, name))
        scale = float(self.target_scaler_.scale_[0])
        betas, (lowest, highest) = self.betas_.ravel() / scale, BETA_RANGE
        if not (betas.size and (lowest <= betas).all() and (betas <= highest).all()):
            raise ValueError(
                f"beta must be within {lowest:g} and {highest:g} times the standard deviation of y "
                f"({scale:g}) for float32, not {self.beta}"
            )
        # As few minibatches as the size allows, all of one size. An epoch leaves out samples that remain.
        num_batches = -(-len(targets) // self.batch_size)
        self.n_iter_ = -(-self.num_updates // num_batches)
        network = Value(tuple(self.hidden_dims), kernel_init=iql_init)
        seed = check_random_state(self.random_state).randint(np.iinfo(np.int32).max)
        key_init, key_epochs = jax.random.split(jax.random.key(seed))
        scaled = np.asarray(self.input_scaler_.transform(inputs), np.float32)
        # One initialisation for all betas, because a vmapped orthogonal one can hang in jaxlib.
        start = network.init(key_init, scaled[:1])
        params = descend(
            network,
            jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (betas.size, *leaf.shape)), start),
            scaled,
            np.asarray(self.target_scaler_.transform(targets[:, None])[:, 0], np.float32),
            np.asarray(betas, np.float32),
            float(self.learning_rate),
            key_epochs,
            num_batches=num_batches,
            num_epochs=self.n_iter_,
        )
        self.params_ = jax.tree.map(np.asarray, params)
        self._warn_unless_converged(targets - self._predict(inputs))
        return self

    def _warn_unless_converged(self, residuals: np.ndarray) -> None:
        """Warns if the best constant to add to a model's predictions exceeds INTERCEPT_TOLERANCE."""
        betas, scale = self.betas_.ravel(), float(self.target_scaler_.scale_[0])
        misses = [float(log_partition(*model)) / scale for model in zip(residuals, betas, strict=True)]
        worst = int(np.argmax(np.abs(misses)))
        if not abs(misses[worst]) <= INTERCEPT_TOLERANCE:  # NaN has not converged either
            warnings.warn(
                f"GumbelRegressor has not converged: the intercept of model {worst} of {len(misses)}, at "
                f"beta {betas[worst]:g}, lacks {misses[worst]:.3g} standard deviations of y. More "
                "num_updates, a larger batch_size or another learning_rate may help",
                ConvergenceWarning,
                stacklevel=3,
            )

    def _predict(self, X: np.ndarray) -> NDArray[np.float64]:
        inputs = self.input_scaler_.transform(X)
        network = Value(tuple(self.hidden_dims))
        with jax.enable_x64(True):  # so that a prediction does not depend on the number of rows
            params = jax.tree.map(np.float64, self.params_)
            values = np.asarray(jax.vmap(network.apply, in_axes=(0, None))(params, inputs))
        return np.asarray(self.target_scaler_.mean_[0] + self.target_scaler_.scale_[0] * values)

    def predict(self, X: ArrayLike) -> NDArray[np.float64]:
        """Returns f64[N], or f64[N, K] of K betas."""
        check_is_fitted(self)
        values = self._predict(validate_data(self, X, dtype=np.float64, reset=False))
        return values.T if self.betas_.ndim else values[0]

    def score(self, X: ArrayLike, y: ArrayLike) -> float:
        """Returns D^2 = 1 - mean loss of the predictions / mean loss of the best constant, L^beta of this y.

        For several betas it is the mean over them. It is at most 1, and not defined if y is constant.
        """
        targets = arguments.samples("y", y)
        values = self.predict(X).T.reshape(-1, *targets.shape)

        def mean_loss(values: ArrayLike, beta: float) -> float:
            z = (targets - values) / beta
            return float((np.expm1(z) - z).mean())

        models = zip(values, self.betas_.ravel(), strict=True)
        ratios = [mean_loss(row, b) / mean_loss(log_partition(targets, b), b) for row, b in models]
        return float(np.mean([1.0 - ratio for ratio in ratios]))
