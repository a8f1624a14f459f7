"""Gumbel regression as a scikit-learn estimator, with two other regressors for comparison.

`GumbelRegressor` fits L^beta(Y|x) (Garg et al. 2023, Eq. 7 and Section 3.2), `ExpectileRegressor` the
expectile of IQL and `MeanRegressor` the mean. All use stochastic gradients and differ only in the loss, whose
parameter (beta, the expectile) the code calls its shape. Only this module needs scikit-learn.
"""

import dataclasses
import functools
import warnings
from collections.abc import Callable, Sequence
from typing import ClassVar, NamedTuple, Self

import jax
import jax.numpy as jnp
import numpy as np
import optax
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from xql_jax.errors import needing
from xql_jax.losses.asymmetric import expectile_loss
from xql_jax.losses.gumbel import gumbel_loss
from xql_jax.losses.regression import mse_loss
from xql_jax.networks.mlp import Value, iql_init
from xql_jax.theory import arguments
from xql_jax.theory.log_partition import log_partition
from xql_jax.types import Array, Params, PRNGKey

with needing("xql_jax.theory.regression", "theory"):
    from sklearn.base import BaseEstimator, RegressorMixin
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.preprocessing import StandardScaler
    from sklearn.utils import check_consistent_length, check_random_state, column_or_1d
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

# (values f32[B], targets f32[B], shape f32[], N) -> f32[B], for targets of variance 1; N: of all samples.
DescendedLoss = Callable[[Array, Array, Array, int], Array]
Models = tuple[Params, optax.OptState]  # of K models, stacked


class Loss(NamedTuple):
    """The loss of an estimator: for the descent in float32 and for its score in float64."""

    descended: DescendedLoss
    exact: Callable[[np.ndarray, float], np.ndarray]  # (y - values f64[N], shape) -> f64[N]
    constant: Callable[[np.ndarray, float], float]  # (y f64[N], shape) -> the best constant, in units of y


def initial_kernels(key: PRNGKey, *shape_and_dtype: object) -> Array:
    """`iql_init` as a function of a module: a fitted model, which holds it, can be pickled."""
    return iql_init(key, *shape_and_dtype)


@functools.partial(jax.jit, static_argnames=("loss", "network", "num_batches", "num_epochs"))
def descend(
    loss: DescendedLoss,
    network: Value,
    params: Params,
    inputs: Array,
    targets: Array,
    shapes: Array,
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
        loss: per example; its slopes are of the order of 1.
        params: of K models, stacked.
        inputs: f32[N, D]. targets: f32[N], of variance 1. shapes: f32[K], of the loss.
    """
    count = targets.size
    batch_size = count // num_batches
    optimiser = optax.adam(optax.cosine_decay_schedule(learning_rate, num_epochs * num_batches))

    def update(params: Params, state: optax.OptState, shape: Array, indices: Array) -> Models:
        values, pull_back = jax.vjp(lambda p: network.apply(p, inputs[indices]), params)
        slopes = jax.grad(lambda values: loss(values, targets[indices], shape, count).sum())(values)
        # This has no effect at the optimum, so the limit is not biased. On the way there it keeps huge
        # gradients out of Adam's second moment, where they would last for long.
        slopes *= jnp.minimum(1.0, STEEPEST * count / jnp.maximum(jnp.abs(slopes).sum(), 1.0))
        (gradient,) = pull_back(slopes / batch_size)
        change, state = optimiser.update(gradient, state)
        return optax.apply_updates(params, change), state

    def minibatch(models: Models, indices: Array) -> tuple[Models, None]:
        return jax.vmap(update, in_axes=(0, 0, 0, None))(*models, shapes, indices), None

    def epoch(models: Models, key: PRNGKey) -> tuple[Models, None]:
        # A random permutation that compiles in half the time of `jax.random.permutation`.
        order = jnp.argsort(jax.random.bits(key, (count,)))[: num_batches * batch_size]
        return jax.lax.scan(minibatch, models, order.reshape(num_batches, batch_size))

    models = params, jax.vmap(optimiser.init)(params)
    (fitted, _), _ = jax.lax.scan(epoch, models, jax.random.split(key, num_epochs))
    return fitted


@dataclasses.dataclass(eq=False, repr=False, kw_only=True)
class StochasticRegressor(RegressorMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """Base estimator: a linear model or an MLP, fitted by Adam for several shapes of the loss at once."""

    _loss: ClassVar[Loss]

    hidden_dims: Sequence[int] = ()
    learning_rate: float = 0.02
    batch_size: int = 256
    num_updates: int = 10_000
    random_state: int | np.random.RandomState | None = None

    def _shapes(self, scale: float) -> tuple[np.ndarray, np.ndarray]:
        """Returns the shapes of the loss, f64[] or f64[K], and those for targets divided by `scale`."""
        return np.zeros(()), np.zeros(())  # a loss without parameter

    def fit(self, X: ArrayLike, y: ArrayLike) -> Self:
        """Fits the model to inputs f64[N, D] in any units and targets f64[N] in reward units."""
        inputs, targets = validate_data(self, X, y, dtype=np.float64, y_numeric=True)
        for name in ("learning_rate", "batch_size", "num_updates"):
            arguments.positive(name, getattr(self, name))
        self.input_scaler_ = StandardScaler().fit(inputs)
        self.target_scaler_ = StandardScaler().fit(targets[:, None])
        scale = float(self.target_scaler_.scale_[0])
        self.shapes_, standardised = self._shapes(scale)
        shapes = standardised.ravel()
        # As few minibatches as the size allows, all of one size. An epoch leaves out samples that remain.
        num_batches = -(-len(targets) // self.batch_size)
        self.n_iter_ = -(-self.num_updates // num_batches)
        self.network_ = Value(tuple(self.hidden_dims), kernel_init=initial_kernels)
        seed = check_random_state(self.random_state).randint(np.iinfo(np.int32).max)
        key_init, key_epochs = jax.random.split(jax.random.key(seed))
        scaled = np.asarray(self.input_scaler_.transform(inputs), np.float32)
        # One initialisation for all shapes, because a vmapped orthogonal one can hang in jaxlib.
        start = self.network_.init(key_init, scaled[:1])
        params = descend(
            self._loss.descended,
            self.network_,
            jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (shapes.size, *leaf.shape)), start),
            scaled,
            np.asarray(self.target_scaler_.transform(targets[:, None])[:, 0], np.float32),
            np.asarray(shapes, np.float32),
            float(self.learning_rate),
            key_epochs,
            num_batches=num_batches,
            num_epochs=self.n_iter_,
        )
        self.params_ = jax.tree.map(np.asarray, params)
        self._warn_unless_converged(targets - self._predict(inputs), scale)
        return self

    def _warn_unless_converged(self, residuals: np.ndarray, scale: float) -> None:
        """Warns if the best constant to add to a model's predictions exceeds INTERCEPT_TOLERANCE."""
        shapes = self.shapes_.ravel()
        misses = [self._loss.constant(*model) / scale for model in zip(residuals, shapes, strict=True)]
        worst = int(np.argmax(np.abs(misses)))
        if not abs(misses[worst]) <= INTERCEPT_TOLERANCE:  # NaN has not converged either
            warnings.warn(
                f"{type(self).__name__} has not converged: the intercept of model {worst} of {len(misses)}, "
                f"at {shapes[worst]:g}, lacks {misses[worst]:.3g} standard deviations of y. More "
                "num_updates, a larger batch_size or another learning_rate may help",
                ConvergenceWarning,
                stacklevel=3,
            )

    def _predict(self, X: np.ndarray) -> NDArray[np.float64]:
        """Returns f64[K, N], reward units."""
        inputs = self.input_scaler_.transform(X)
        with jax.enable_x64(True):  # so that a prediction does not depend on the number of rows
            params = jax.tree.map(np.float64, self.params_)
            values = np.asarray(jax.vmap(self.network_.apply, in_axes=(0, None))(params, inputs))
        return np.asarray(self.target_scaler_.mean_[0] + self.target_scaler_.scale_[0] * values)

    def predict(self, X: ArrayLike) -> NDArray[np.float64]:
        """Returns the predictions in reward units: f64[N], or f64[N, K] of K shapes of the loss."""
        check_is_fitted(self)
        values = self._predict(validate_data(self, X, dtype=np.float64, reset=False))
        return values.T if self.shapes_.ndim else values[0]

    def score(self, X: ArrayLike, y: ArrayLike) -> float:
        """Returns D^2 = 1 - mean loss of the predictions / mean loss of the best constant of this y.

        For several shapes of the loss it is the mean over them. If y is constant, it is 1 for the exact
        prediction and 0 otherwise.
        """
        values = self.predict(X)
        targets = arguments.samples("y", column_or_1d(y))
        check_consistent_length(values, targets)
        scores = []
        for row, shape in zip(values.T.reshape(-1, len(targets)), self.shapes_.ravel(), strict=True):
            loss = self._loss.exact(targets - row, shape).mean()
            constant = self._loss.exact(targets - self._loss.constant(targets, shape), shape).mean()
            scores.append(1.0 - loss / constant if constant > 0 else float(loss == 0.0))
        return float(np.mean(scores))


def tangent_gumbel_loss(values: Array, targets: Array, beta: Array, count: int) -> Array:
    """beta * `gumbel_loss`, continued by its tangent above the z at which exp(z) is STEEPEST * count.

    At an optimum over `count` samples the mean of exp(z) is 1, because the output's bias has gradient 0. So
    no exp(z) exceeds `count`, and the minimiser is that of Eq. 7. The loss is convex, and finite in float32
    at any z.

    Args:
        values, targets: f32[B], in the units of beta.
        count: N, of all samples that are fitted.
    """
    steepest = STEEPEST * count
    edge = targets - beta * jnp.log(steepest)
    inner = beta * gumbel_loss(jnp.maximum(values, edge), targets, beta=beta)
    return inner + (steepest - 1.0) * jnp.maximum(edge - values, 0.0)


@dataclasses.dataclass(eq=False, repr=False)
class GumbelRegressor(StochasticRegressor):
    """Gumbel regression: fits L^beta(Y|x) = beta * log E[exp(Y / beta) | x] without computing it.

    It minimises exp(z) - z - 1 with z = (y - f(x)) / beta by stochastic gradients over a linear model or an
    MLP. The result is the mean of Y for a large beta and its largest value for a small one (Lemma 3.1).
    Several betas are fitted by one compiled program, on the same minibatches and from the same start.
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
        params_: the network's parameters in standardised units, f32, stacked along a first axis over beta.
        n_iter_: epochs done.
    """

    _loss = Loss(
        tangent_gumbel_loss,
        lambda residuals, beta: np.expm1(residuals / beta) - residuals / beta,
        lambda y, beta: float(log_partition(y, beta)),
    )

    beta: float | ArrayLike = 1.0

    def _shapes(self, scale: float) -> tuple[np.ndarray, np.ndarray]:
        betas = np.asarray(self.beta, np.float64)
        lowest, highest = BETA_RANGE
        if not (betas.size and (lowest <= betas / scale).all() and (betas / scale <= highest).all()):
            raise ValueError(
                f"beta must be within {lowest:g} and {highest:g} times the standard deviation of y "
                f"({scale:g}) for float32, not {self.beta}"
            )
        return betas, betas / scale


@dataclasses.dataclass(eq=False, repr=False)
class ExpectileRegressor(StochasticRegressor):
    """Expectile regression, as IQL fits its values: the mean at 0.5, towards the maximum near 1.

    Source: Kostrikov et al. 2021 (IQL), Eq. 5.
    Args:
        expectile: asymmetry, in (0, 1), dimensionless; or K of them, f64[K].
        the others and the attributes: as `GumbelRegressor`.
    """

    _loss = Loss(
        lambda values, targets, expectile, count: expectile_loss(values, targets, expectile=expectile),
        lambda residuals, expectile: np.where(residuals > 0, expectile, 1.0 - expectile) * residuals**2,
        lambda y, expectile: float(stats.expectile(y, expectile)),
    )

    expectile: float | ArrayLike = 0.7

    def _shapes(self, scale: float) -> tuple[np.ndarray, np.ndarray]:
        expectiles = np.asarray(self.expectile, np.float64)
        if not (expectiles.size and (expectiles > 0.0).all() and (expectiles < 1.0).all()):
            raise ValueError(f"expectile must be within (0, 1), not {self.expectile}")
        return expectiles, expectiles


class MeanRegressor(StochasticRegressor):
    """Least squares: the limit of the others for a large beta and at the expectile 0.5. Its score is R^2."""

    _loss = Loss(
        lambda values, targets, shape, count: mse_loss(values, targets),
        lambda residuals, shape: residuals**2,
        lambda y, shape: float(y.mean()),
    )
