"""Methods: how a name's learner is made; the base class of learners and parts; settings that many have."""

from collections.abc import Callable, Mapping
from typing import Any, Generic, Self, TypeVar

import flax.struct

from xql_jax.numerics.pytrees import Distinct
from xql_jax.settings import (
    ABOVE_ZERO,
    NOT_NEGATIVE,
    POSITIVE,
    UNIT_INTERVAL,
    Checked,
    parts_of,
    traced,
    with_values,
)

P = TypeVar("P", bound="Part")


class Part(Checked, Distinct, flax.struct.PyTreeNode):
    """Base class of learners and parts: frozen pytree dataclasses, which check their settings."""

    def scheduled(self, steps: float) -> Self:
        """Returns a copy in which the learning rates that decay fall to 0 over this many updates."""
        changes = {name: inner.scheduled(steps) for name, inner in parts_of(self)}
        return self.replace(**changes)


def is_ours(thing: Any) -> bool:
    """Whether a class or a function, partly applied or not, is the package's own, and not a user's."""
    return getattr(thing, "func", thing).__module__.startswith("xql_jax.")


def named(thing: Any) -> str:
    """Returns MODULE.NAME of a class or a function."""
    thing = getattr(thing, "func", thing)
    return f"{thing.__module__}.{getattr(thing, '__qualname__', type(thing).__qualname__)}"


def discount_setting() -> float:
    return traced(0.99, UNIT_INTERVAL, "Discount of rewards, per step.")


def tau_setting() -> float:
    return traced(
        0.005,
        ABOVE_ZERO,
        "Polyak rate: the share by which targets move to the trained networks, per update of the targets.",
    )


def rate_setting(default: float, of: str) -> float:
    """Declares the learning rate of Adam; `of` says what it trains."""
    return traced(default, POSITIVE, f"Learning rate of {of}.")


def temperature_setting() -> float:
    return traced(
        3.0,
        NOT_NEGATIVE,
        "Multiplies the advantage in the policy's objective, in 1 / reward units: 0 clones the data, a large "
        "value follows only the best actions.",
    )


class Method(Generic[P]):
    """Makes a learner from hyperparameters by their flat names: `OFFLINE["xql"](beta=0.6, loss="plain")`.

    `learner` is the learner's class, and `parts` are those of its parts.

    Args:
        defaults: the hyperparameters with another default than in the parts' classes.
        settings: the settings of a run with another default than a run's own. A suite's values for the
            method are rows of its file in suites/.
        like: a method whose rows there are for this one, too, as far as it has their hyperparameters.
    """

    def __init__(
        self,
        learner: Callable[..., P],
        defaults: Mapping[str, object] | None = None,
        *,
        settings: Mapping[str, object] | None = None,
        like: str = "",
        **parts: Callable,
    ):
        self.learner, self.defaults, self.parts = learner, defaults or {}, parts
        self.settings, self.like = settings or {}, like

    def __call__(self, **hyperparameters: object) -> P:
        """Makes the learner; raises UserError if a hyperparameter is unknown or its value is impossible."""
        return with_values(self.assembled(), {**self.defaults, **hyperparameters})

    def assembled(self) -> P:
        """Returns the learner of these parts, with the hyperparameters of their classes."""
        return self.learner(**{name: make() for name, make in self.parts.items()})
