"""Hyperparameters that know what values they may have, and the learners and parts that hold them."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Self, TypeVar

import flax.struct
import jax
import numpy as np

from xql_jax.errors import UserError, nearest
from xql_jax.pytrees import Distinct

P = TypeVar("P", bound="Part")
GIVEN = (str, int, float, np.generic, tuple, list, dict, type(None))  # types in which users write a number


@dataclasses.dataclass(frozen=True)
class Domain:
    """The numbers that a field may have: in words, and as a test of the float32 that they become."""

    text: str
    holds: Callable[[float], bool]
    infinite: bool = False  # whether inf is one of them: it switches something off

    def check(self, name: str, value: Any, kind: type = float) -> Any:
        """Returns the value as `kind`; raises UserError if it is none, or not of this domain."""
        known = int | float | np.floating if kind is float else kind
        if not isinstance(value, known) or isinstance(value, bool) != (kind is bool):  # bools are ints
            raise UserError(f"{name} must be {kind.__name__}, not {value!r}")
        with np.errstate(over="ignore", under="ignore"):
            number = float(np.asarray(value, np.float32))
        if np.isinf(number) and number > 0 and not self.infinite:
            raise UserError(f"{name} must be finite in float32, not {value:g}")
        if np.isnan(number) or not self.holds(number):
            raise UserError(f"{name} must be {self.text}, not {value:g}")
        return kind(value)


POSITIVE = Domain("positive", lambda x: x > 0)
POSITIVE_OR_OFF = Domain("positive", lambda x: x > 0, infinite=True)
NOT_NEGATIVE = Domain("at least 0", lambda x: x >= 0)
AT_LEAST_ONE = Domain("at least 1", lambda x: x >= 1)
UNIT_INTERVAL = Domain("within [0, 1]", lambda x: 0 <= x <= 1)
ABOVE_ZERO = Domain("within (0, 1]", lambda x: 0 < x <= 1)
BELOW_ONE = Domain("within [0, 1)", lambda x: 0 <= x < 1)
OPEN_UNIT_INTERVAL = Domain("within (0, 1)", lambda x: 0 < x < 1)
EITHER = Domain("true or false", lambda x: x in (0, 1))


def traced(default: float, domain: Domain) -> Any:
    """A number that is a leaf: sweeping it never recompiles."""

    def check(name: str, value: Any) -> Any:
        if isinstance(value, jax.Array):
            return value
        with np.errstate(over="ignore", under="ignore"):
            return np.float32(domain.check(name, value))

    return flax.struct.field(default=default, metadata={"check": check})


def static(default: Any, domain: Domain) -> Any:
    """A number or a switch that shapes the program: changing it compiles another one."""
    return _static(default, lambda name, value: domain.check(name, value, type(default)))


def widths(*default: int) -> Any:
    """The widths of a network's hidden layers."""

    def check(name: str, value: Any) -> tuple[int, ...]:
        if not isinstance(value, tuple | list) or any(type(width) is not int or width < 1 for width in value):
            raise UserError(f"{name} must be positive whole numbers, not {value!r}")
        return tuple(value)

    return _static(default, check)


def choice(**functions: Callable) -> Any:
    """One of several functions, given by its name or itself; the first is the default."""

    def check(name: str, value: Any) -> Callable:
        if value in functions.values():
            return value
        if not isinstance(value, str) or value not in functions:
            raise UserError(f"{name} must be one of {', '.join(functions)}, not {value!r}")
        return functions[value]

    return _static(next(iter(functions.values())), check, names=functions)


def part(make: Callable[[], "Part"]) -> Any:
    """A part with hyperparameters of its own."""
    return flax.struct.field(default_factory=make, metadata={"part": True})


def internal(default: Any, *, leaf: bool = False) -> Any:
    """What a method or a run decides, and no user: no hyperparameter."""
    return flax.struct.field(default=default, pytree_node=leaf, metadata={"internal": True})


def _static(default: Any, check: Callable[[str, Any], Any], **metadata: Any) -> Any:
    return flax.struct.field(default=default, pytree_node=False, metadata={"check": check, **metadata})


class Part(Distinct):
    """A learner, or part of one: a frozen pytree dataclass that checks its fields when it is made.

    Numbers become float32 once, as Python's would be weakly typed leaves and cost a second trace.
    """

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):  # type: ignore[arg-type]  # every subclass is one
            value = getattr(self, field.name)
            # In place of a leaf JAX puts what it likes: arrays, tracers, placeholders.
            given = isinstance(value, GIVEN) or not field.metadata.get("pytree_node", True)
            if "check" in field.metadata and given:
                object.__setattr__(self, field.name, field.metadata["check"](field.name, value))

    def scheduled(self, steps: int) -> Self:
        """Returns it with the learning rates that decay falling to 0 over so many updates."""
        changes = {name: inner.scheduled(steps) for name, inner in _parts(self)}
        return dataclasses.replace(self, **changes)  # type: ignore[type-var]


def hyperparameters(learner: Part) -> dict[str, Any]:
    """Returns all hyperparameters by their flat names as a config has them, functions by their names."""
    return {field.name: _to_config(getattr(owner, field.name), field) for owner, field in _walk(learner)}


def traced_names(learner: Part) -> list[str]:
    """Returns the names of those that a sweep may vary."""
    return [field.name for _, field in _walk(learner) if field.metadata.get("pytree_node", True)]


def check_value(learner: Part, where: str, name: str, value: Any) -> None:
    """Raises UserError, with `where` for the name, if the learner's hyperparameter cannot have the value."""
    next(field for _, field in _walk(learner) if field.name == name).metadata["check"](where, value)


def with_hyperparameters(learner: P, values: Mapping[str, Any]) -> P:
    """Returns the learner with hyperparameters replaced, whichever part holds them.

    Raises:
        UserError: if one is unknown, or a value impossible.
    """
    known = [field.name for _, field in _walk(learner)]
    for name in values:
        if name not in known:
            raise UserError(f"unknown hyperparameter {name!r}; nearest known: {nearest(name, known)}")
    return _with(learner, values)


def _with(learner: Any, values: Mapping[str, Any]) -> Any:
    own = {field.name: values[field.name] for field in dataclasses.fields(learner) if field.name in values}
    return dataclasses.replace(learner, **own, **{name: _with(x, values) for name, x in _parts(learner)})


def _walk(learner: Any) -> Iterator[tuple[Any, dataclasses.Field]]:
    """Each hyperparameter's field and who holds it, a learner's own before those of its parts."""
    yield from ((learner, field) for field in dataclasses.fields(learner) if "check" in field.metadata)
    for _, inner in _parts(learner):
        yield from _walk(inner)


def _parts(learner: Any) -> list[tuple[str, Any]]:
    return [(f.name, getattr(learner, f.name)) for f in dataclasses.fields(learner) if "part" in f.metadata]


def _to_config(value: Any, field: dataclasses.Field) -> Any:
    if names := field.metadata.get("names"):
        return next(name for name, function in names.items() if function is value)
    # By float32's shortest decimal: 0.005, not 0.004999999888241291.
    return float(str(np.float32(value))) if isinstance(value, np.floating | jax.Array) else value
