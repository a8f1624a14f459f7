"""Hyperparameters that change during online training."""

import dataclasses
from collections.abc import Collection, Sequence
from typing import Any

import jax.numpy as jnp

from xql_jax.errors import UserError, nearest
from xql_jax.learners.fields import check_value, traced_names, with_hyperparameters
from xql_jax.training.members import fields_given


@dataclasses.dataclass(frozen=True)
class Ramp:
    """A hyperparameter that changes linearly from one value to another, and then stays constant."""

    name: str
    first: float
    last: float
    steps: int  # until `last` is reached

    def at(self, step: int) -> float:
        return self.first + (self.last - self.first) * min(step / self.steps, 1.0)


def parse_ramps(text: str, learner: Any, steps: int, taken: Collection[str] = ()) -> list[Ramp]:
    """Parses text such as 'beta=1:0.2 awr_temperature=3'.

    In the example beta goes from 1 to 0.2 in `steps` steps, and awr_temperature is 3 from the first step on.

    Args:
        steps: the length of each ramp.
        taken: names of the fields that a sweep varies, which a ramp cannot change.
    Raises:
        UserError: if the text has another form, or if a field is unknown, not traced, varied by a sweep, or
            has an impossible value.
    """
    ramps: dict[str, Ramp] = {}
    known = traced_names(learner)
    for name, values in fields_given(text):
        given = f"{name}={values}"
        if name not in known:
            raise UserError(
                f"--online cannot change {name!r}; nearest of what it can: {nearest(name, known)}"
            )
        if name in ramps:
            raise UserError(f"--online gives {name} twice")
        if name in taken:
            raise UserError(f"--online={given}: --sweep varies {name}, whose members would become alike")
        try:
            first, *rest = map(float, values.split(":"))
            [last] = rest or [first]
        except ValueError:
            raise UserError(f"--online wants FIELD=NUMBER or FIELD=NUMBER:NUMBER, not {given!r}") from None
        for value in (first, last):
            check_value(learner, f"--online: {name}", name, value)
        ramps[name] = Ramp(name, first, last, steps)
    return list(ramps.values())


def ramped(learner: Any, ramps: Sequence[Ramp], step: int, count: int | None = None) -> Any:
    """Returns the learner, or `count` stacked learners, with the ramps' values at `step`."""
    values = {ramp.name: ramp.at(step) for ramp in ramps}
    stacked = {name: jnp.full(count, value, jnp.float32) for name, value in values.items() if count}
    return with_hyperparameters(learner, stacked or values) if ramps else learner
