"""The compiled loop of updates that all populations share, and the sums of its metrics."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Self

import jax
import jax.numpy as jnp

from xql_jax.training.minibatches import update_keys
from xql_jax.types import Array, Learner, Metrics, Minibatch, PRNGKey, State


class Sums(NamedTuple):
    """The sums of metrics over successive updates, such as those since the last row of the log.

    They are added up inside the compiled program, one update after the other. So they do not depend on how
    the updates are split into calls, and a checkpoint holds them.
    """

    updates: Array  # i32[], their number
    totals: Metrics

    @classmethod
    def none(cls, learner: Learner, state: State, minibatch: Any) -> Self:
        """Returns the sums over no update, for minibatches of these shapes."""
        metrics = jax.eval_shape(learner.update, state, minibatch, jax.random.key(0))[1]
        return cls(jnp.int32(0), {name: jnp.zeros(of.shape, of.dtype) for name, of in metrics.items()})

    def plus(self, metrics: Metrics) -> Self:
        totals = {name: total + metrics[name] for name, total in self.totals.items()}
        return self._replace(updates=self.updates + 1, totals=totals)

    def means(self) -> Metrics:
        """Returns the means by their names in the logs; NaN if there was no update."""
        return {f"{name}_mean": total / self.updates for name, total in self.totals.items()}

    def saved(self) -> dict[str, Any]:
        """Returns one member's sums for JSON; `restored` undoes it exactly."""
        totals = {name: float(total) for name, total in self.totals.items()}
        return {"updates": int(self.updates), "totals": totals}

    @classmethod
    def restored(cls, saved: Mapping[str, Any]) -> Self:
        totals = {name: jnp.float32(total) for name, total in saved["totals"].items()}
        return cls(jnp.int32(saved["updates"]), totals)


class Updated(NamedTuple):
    """A learner after some updates. The leaves have the leading axes, if any, of its state and metrics."""

    state: State
    sums: Sums  # with these updates added
    metrics: Metrics  # the last update's
    finite: Metrics  # per metric bool[]: whether it was finite in all updates


def train(
    learner: Learner,
    state: State,
    sums: Sums,
    key: PRNGKey,
    data: Any,
    start: Array,
    stop: Array,
    batch: Callable[[Any, PRNGKey, Array], Minibatch],
    keys: Callable[[PRNGKey, Array], tuple[PRNGKey, PRNGKey]] = update_keys,
) -> Updated:
    """Runs updates start, ..., stop - 1 of one learner, each on the minibatch that `batch` makes of the data.

    Args:
        sums: of the updates before.
        keys: returns an update's two keys: one draws the minibatch, the other is passed to the learner.
    """

    def update(step: Array, carry: Updated) -> Updated:
        key_batch, key_update = keys(key, step)
        state, metrics = learner.update(carry.state, batch(data, key_batch, step), key_update)
        finite = {name: carry.finite[name] & jnp.isfinite(metrics[name]) for name in metrics}
        return Updated(state, carry.sums.plus(metrics), metrics, finite)

    finite = {name: jnp.ones(total.shape, bool) for name, total in sums.totals.items()}
    begun = Updated(state, sums, jax.tree.map(jnp.zeros_like, sums.totals), finite)
    return jax.lax.fori_loop(start, stop, update, begun)
