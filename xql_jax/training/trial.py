"""Tries a method on shapes before its first update: a mistake in a user's own code becomes one line."""

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from xql_jax.errors import UserError, described, place_of
from xql_jax.learners.method import is_ours, named
from xql_jax.settings import parts_of
from xql_jax.types import Learner, Metrics, Minibatch, PRNGKey, State

NEEDS_A_NUMBER = jax.errors.ConcretizationTypeError, jax.errors.TracerArrayConversionError
UNKNOWN = (
    "a number that is known only when the compiled program runs: use jax.numpy, jnp.where or jax.lax.cond"
)
MOST_TEXT = 300  # characters of somebody else's message


def own_classes(learner: Learner) -> list[str]:
    """Returns the names MODULE.CLASS of the learner and of its parts whose classes are a user's own."""
    own = [] if is_ours(type(learner)) else [named(type(learner))]
    return own + [name for _, part in parts_of(learner) for name in own_classes(part)]


@contextlib.contextmanager
def own_code(learner: Learner, doing: str) -> Iterator[None]:
    """Context manager that turns an error into a UserError if the method is a user's own, in whole or part.

    Errors of the device, such as a lack of memory, pass. `doing` says what failed.
    """
    try:
        yield
    except (UserError, MemoryError, jax.errors.JaxRuntimeError):
        raise
    except Exception as error:
        if not (own := own_classes(learner)):
            raise
        reason = described(error)
        if isinstance(error, NEEDS_A_NUMBER):
            reason = f"a Python `if`, float() or NumPy asks for {UNKNOWN}{place_of(error)}"
        elif isinstance(error, jax.errors.NonConcreteBooleanIndexError):
            reason = f"the shape of a selection x[condition] depends on {UNKNOWN}{place_of(error)}"
        elif len(reason) > MOST_TEXT:
            place = place_of(error)
            reason = f"{reason[:MOST_TEXT].removesuffix(place)} ...{place}"
        raise UserError(f"{', '.join(own)}: {doing} fails: {reason}") from error


def tried(learner: Learner, state: State, minibatch: Minibatch, key: PRNGKey) -> Metrics:
    """Returns the shapes of an update's metrics; UserError if the method breaks its contract.

    An update keeps the structure, shapes and types of the state, and its metrics are single numbers. The
    learner acts for a row of observations by actions f32[1, A].
    """
    what = ", ".join(own_classes(learner))
    with own_code(learner, "update"):
        after, metrics = jax.eval_shape(learner.update, state, minibatch, key)
        if change := _changes(state, after):
            raise UserError(f"{what}: update changes the state, which keeps its shapes and types: {change}")
        is_named = isinstance(metrics, Mapping)
        wrong = (
            [name for name, metric in metrics.items() if metric.shape] if is_named else ["no dict of numbers"]
        )
        if wrong:
            raise UserError(f"{what}: update's metrics are single numbers by name, not {', '.join(wrong)}")
    if not hasattr(learner, "act_remembering"):
        row = jnp.zeros((1, *minibatch.observations.shape[1:]))

        def act(state: State) -> Any:
            return learner.act(learner.actor(state), row, key, True)

        with own_code(learner, "act"):
            actions, wanted = jax.eval_shape(act, state), (1, *minibatch.actions.shape[1:])
            if actions.shape != wanted:
                raise UserError(f"{what}: act returns actions {_typed(actions)}, not float32{[*wanted]}")
    return metrics


def _changes(before: State, after: State) -> str:
    """Returns what of a state changes, or "" if nothing does."""
    old, new = (str(jax.tree.structure(state)) for state in (before, after))
    if old != new:
        return f"its parts are {old}, then {new}"
    pairs = zip(jax.tree.leaves_with_path(before), jax.tree.leaves(after), strict=True)
    changes = (
        f"{jax.tree_util.keystr(path).lstrip('.') or 'it'} is {_typed(first)}, then {_typed(then)}"
        for (path, first), then in pairs
        if (first.shape, first.dtype) != (then.shape, then.dtype)
    )
    return next(changes, "")


def _typed(leaf: jax.ShapeDtypeStruct) -> str:
    return f"{leaf.dtype}{[*leaf.shape]}"
