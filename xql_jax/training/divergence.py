"""Divergence: a member whose numbers stop being finite is frozen at its last finite state, and reported.

The compiled program returns whether all numbers of a call were finite. `Population.train` runs the updates of
a call that was not finite again, by bisection. It costs nothing while all is well. To choose between two
states in every update would take a CPU about a tenth of its speed.

`freeze_in_program` makes that choice in the program, once each time that all environments have acted. Members
that act inside the program need it: their updates cannot be run again, because their experience has changed.
"""

import dataclasses
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np

from xql_jax.training.members import MemberState
from xql_jax.training.program import STATE
from xql_jax.types import Array, Metrics


@dataclasses.dataclass(frozen=True)
class Divergence:
    """The first step after which a member's metrics, state or actions were found not to be all finite."""

    # Offline, the update, counted from 1 as in the logs. Online, the environment step that ends the round; if
    # actions were not finite, the step that they were for.
    step: int
    quantity: str  # the metrics that were not finite, or "state", or "actions"


def not_finite(finite: Mapping[str, np.ndarray]) -> str:
    """Returns the names of what was not finite; the state only if nothing else names the cause."""
    broken = [name for name, was_finite in finite.items() if not was_finite]
    return ", ".join([name for name in broken if name != STATE] or broken)


def freeze_in_program(
    before: MemberState, after: MemberState, was_finite: Metrics, finite: Metrics, at: Array
) -> tuple[MemberState, Metrics]:
    """Returns `after`, but with the state, sums and metrics of `before` once the member has diverged.

    Args:
        was_finite: by name whether all was finite in the updates between, bool[].
        finite: the same of the updates at which the member diverged; returned unless these are those.
        at: i32[], the step that is reported if they are.
    """
    known = after.running.diverged_at
    is_new = (known < 0) & ~jnp.stack(list(was_finite.values())).all()
    diverged_at = jnp.where(is_new, at, known)
    new = after.state, after.sums, after.metrics
    old = before.state, before.sums, before.metrics
    state, sums, metrics = jax.tree.map(lambda a, b: jnp.where(diverged_at >= 0, a, b), old, new)
    finite = jax.tree.map(lambda a, b: jnp.where(is_new, a, b), was_finite, finite)
    running = after.running.replace(diverged_at=diverged_at)
    return after.replace(state=state, sums=sums, metrics=metrics, running=running), finite
