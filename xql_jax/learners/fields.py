"""A learner's fields, which are settings; the base class of learners and parts; and methods."""

from collections.abc import Callable, Mapping
from typing import Generic, Self, TypeVar

import flax.struct

from xql_jax.pytrees import Distinct
from xql_jax.settings import ABOVE_ZERO as ABOVE_ZERO
from xql_jax.settings import AT_LEAST_ONE as AT_LEAST_ONE
from xql_jax.settings import BELOW_ONE as BELOW_ONE
from xql_jax.settings import EITHER as EITHER
from xql_jax.settings import NOT_NEGATIVE as NOT_NEGATIVE
from xql_jax.settings import OPEN_UNIT_INTERVAL as OPEN_UNIT_INTERVAL
from xql_jax.settings import POSITIVE as POSITIVE
from xql_jax.settings import POSITIVE_OR_OFF as POSITIVE_OR_OFF
from xql_jax.settings import UNIT_INTERVAL as UNIT_INTERVAL
from xql_jax.settings import Checked, parts_of, settings_of, with_values
from xql_jax.settings import Domain as Domain
from xql_jax.settings import choice as choice
from xql_jax.settings import declared as declared
from xql_jax.settings import internal as internal
from xql_jax.settings import part as part
from xql_jax.settings import static as static
from xql_jax.settings import traced as traced
from xql_jax.settings import values_of as values_of
from xql_jax.settings import widths as widths

P = TypeVar("P", bound="Part")
# The names that these functions had here.
hyperparameters, with_hyperparameters = values_of, with_values


class Part(Checked, Distinct, flax.struct.PyTreeNode):
    """Base class of learners and parts: subclasses are frozen pytree dataclasses that check their fields."""

    def scheduled(self, steps: float) -> Self:
        """Returns a copy in which the learning rates that decay fall to 0 over this many updates."""
        changes = {name: inner.scheduled(steps) for name, inner in parts_of(self)}
        return self.replace(**changes)


# Fields that learners of several families declare.


def discount() -> float:
    return traced(0.99, UNIT_INTERVAL, "Discount of rewards, per step.", theirs="gamma")


def polyak_rate() -> float:
    return traced(
        0.005,
        ABOVE_ZERO,
        "Polyak rate: the share by which targets move to the trained networks, per update of the targets.",
        theirs="polyak target_update_rate soft_target_update_rate",
    )


def learning_rate(default: float, of: str) -> float:
    """Declares the learning rate of Adam; `of` says what it trains."""
    return traced(default, POSITIVE, f"Learning rate of {of}.", theirs="lr learning_rate")


def awr_temperature() -> float:
    return traced(
        3.0,
        NOT_NEGATIVE,
        "Multiplies the advantage in the policy's objective, in 1 / reward units: 0 clones the data, a large "
        "value follows only the best actions.",
        theirs="beta temperature temp inverse_temperature",
    )


def traced_names(learner: Part) -> list[str]:
    """Returns the names of the hyperparameters that a sweep may vary."""
    return [name for name, one in settings_of(learner).items() if one.traced]


def check_value(learner: Part, where: str, name: str, value: object) -> None:
    """Raises UserError, which names `where`, if the learner's hyperparameter cannot have the value."""
    settings_of(learner)[name].checked(where, value)


class Method(Generic[P]):
    """Makes a learner from hyperparameters by their flat names: `OFFLINE["xql"](beta=0.6, loss="plain")`.

    `learner` is the learner's class, and `parts` are those of its parts.

    Args:
        defaults: the hyperparameters with another default than in the parts' classes.
        settings: those of `FinetuningSettings` with another default than there. A suite's values for the
            method are rows of the files in configs/.
    """

    def __init__(
        self,
        learner: Callable[..., P],
        defaults: Mapping[str, object] | None = None,
        *,
        settings: Mapping[str, object] | None = None,
        **parts: Callable,
    ):
        self.learner, self.defaults, self.parts = learner, defaults or {}, parts
        self.settings = settings or {}

    def __call__(self, **hyperparameters: object) -> P:
        """Makes the learner; raises UserError if a hyperparameter is unknown or its value is impossible."""
        learner = self.learner(**{name: make() for name, make in self.parts.items()})
        return with_values(learner, {**self.defaults, **hyperparameters})
