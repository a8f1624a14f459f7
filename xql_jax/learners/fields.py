"""Hyperparameter fields that check their values, the base class of learners and parts, and methods."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Generic, NamedTuple, Self, TypeVar

import flax.struct
import jax
import numpy as np

from xql_jax.errors import UserError, nearest
from xql_jax.pytrees import Distinct

P = TypeVar("P", bound="Part")
T = TypeVar("T")
Number = TypeVar("Number", bound=float)  # bool, int or float
Function = TypeVar("Function", bound=Callable)
GIVEN = (str, int, float, np.generic, tuple, list, dict, type(None))  # types in which users write a number


class Domain(NamedTuple):
    """The valid values of a field: in words, and as a test of the value in float32."""

    text: str
    holds: Callable[[float], bool]
    infinite: bool = False  # whether inf is valid: it switches something off

    def check(self, name: str, value: Any, kind: type[Number]) -> Number:
        """Returns the value as `kind`; raises UserError if its type is wrong or it is outside this domain."""
        known = int | float | np.floating if kind is float else kind
        if not isinstance(value, known) or isinstance(value, bool) != (kind is bool):  # bools are ints
            raise UserError(f"{name} must be {kind.__name__}, not {value!r}")
        with np.errstate(over="ignore"):
            number = float(np.asarray(value, np.float32))
        if np.isinf(number) and number > 0 and not self.infinite:
            raise UserError(f"{name} must be finite in float32, not {value:g}")
        if np.isnan(number) or not self.holds(number):
            raise UserError(f"{name} must be {self.text}, not {value:g}")
        return kind(value)


POSITIVE = Domain("positive", lambda x: x > 0)
POSITIVE_OR_OFF = Domain("positive, or inf", lambda x: x > 0, infinite=True)
NOT_NEGATIVE = Domain("at least 0", lambda x: x >= 0)
AT_LEAST_ONE = Domain("at least 1", lambda x: x >= 1)
UNIT_INTERVAL = Domain("within [0, 1]", lambda x: 0 <= x <= 1)
ABOVE_ZERO = Domain("within (0, 1]", lambda x: 0 < x <= 1)
BELOW_ONE = Domain("within [0, 1)", lambda x: 0 <= x < 1)
OPEN_UNIT_INTERVAL = Domain("within (0, 1)", lambda x: 0 < x < 1)
EITHER = Domain("true or false", lambda x: x in (0, 1))


def traced(default: float, domain: Domain, meaning: str = "", *, neutral: float | None = None) -> float:
    """Declares a number that sweeps within one program; if it has no meaning here, `MEANINGS` has it.

    `neutral`, here and in `static`, is for a field that a later version adds to a released method: with this
    value the method is as without the field. Runs do not record it, so earlier ones are read and resumed.
    """

    def check(name: str, value: object) -> np.float32:
        with np.errstate(over="ignore"):
            return np.float32(domain.check(name, value, float))

    metadata = {"check": check, "domain": domain.text, "meaning": meaning, "neutral": neutral}
    return flax.struct.field(default=default, metadata=metadata)


def static(default: Number, domain: Domain, meaning: str = "", *, neutral: Number | None = None) -> Number:
    """Declares a number or a switch that shapes the program: changing it compiles another one."""
    kind = type(default)

    def check(name: str, value: object) -> Number:
        return domain.check(name, value, kind)

    words = f"whole number, {domain.text}" if kind is int else domain.text
    return _static(default, check, domain=words, meaning=meaning, neutral=neutral)


def widths(*default: int, meaning: str = "") -> tuple[int, ...]:
    """Declares the widths of a network's hidden layers."""

    def check(name: str, value: object) -> tuple[int, ...]:
        if not isinstance(value, tuple | list) or any(type(width) is not int or width < 1 for width in value):
            raise UserError(f"{name} must be positive whole numbers, not {value!r}")
        return tuple(value)

    return _static(default, check, domain="positive whole numbers", meaning=meaning)


def choice(**functions: Function) -> Function:
    """Declares a choice among functions, set by name or by the function itself; the first is the default."""

    def check(name: str, value: object) -> Function:
        for known, function in functions.items():
            if value in (known, function):
                return function
        raise UserError(f"{name} must be one of {', '.join(functions)}, not {value!r}")

    first, domain = next(iter(functions.values())), f"one of {', '.join(functions)}"
    return _static(first, check, names=functions, domain=domain, meaning="")


def part(make: Callable[[], P]) -> P:
    """Declares a part with hyperparameters of its own."""
    return flax.struct.field(default_factory=make, metadata={"part": True})


def internal(default: T, *, leaf: bool = False) -> T:
    """Declares a field that a method or a run sets and users do not: it is not a hyperparameter."""
    return flax.struct.field(default=default, pytree_node=leaf, metadata={"internal": True})


def _static(default: T, check: Callable[[str, object], T], **metadata: object) -> T:
    return flax.struct.field(default=default, pytree_node=False, metadata={"check": check, **metadata})


class Part(Distinct, flax.struct.PyTreeNode):
    """Base class of learners and parts: subclasses are frozen pytree dataclasses that check their fields.

    Numbers become float32 once, because Python floats would be weakly typed leaves and cause a second trace.
    """

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            # JAX may replace leaves by arrays, tracers or placeholders; these are not checked.
            given = isinstance(value, GIVEN) or not field.metadata.get("pytree_node", True)
            if "check" in field.metadata and given:
                object.__setattr__(self, field.name, field.metadata["check"](field.name, value))

    def scheduled(self, steps: float) -> Self:
        """Returns a copy in which the learning rates that decay fall to 0 over this many updates."""
        changes = {name: inner.scheduled(steps) for name, inner in _parts(self)}
        return self.replace(**changes)


def declared(learner: Part) -> Iterator[tuple[Part, dataclasses.Field]]:
    """Yields each hyperparameter's holder and field: a learner's own first, then those of its parts."""
    yield from ((learner, field) for field in dataclasses.fields(learner) if "check" in field.metadata)
    for _, inner in _parts(learner):
        yield from declared(inner)


def hyperparameters(learner: Part) -> dict[str, Any]:
    """Returns all hyperparameters by their flat names as a config has them, functions by their names."""
    return {field.name: _to_config(getattr(owner, field.name), field) for owner, field in declared(learner)}


def neutral_values(learner: Part) -> dict[str, object]:
    """Returns the neutral values of the hyperparameters that have one: a run's config may lack these."""
    neutral = {field.name: field.metadata.get("neutral") for _, field in declared(learner)}
    return {name: value for name, value in neutral.items() if value is not None}


def traced_names(learner: Part) -> list[str]:
    """Returns the names of the hyperparameters that a sweep may vary."""
    traced = [field.name for _, field in declared(learner) if field.metadata.get("pytree_node", True)]
    return list(dict.fromkeys(traced))


def check_value(learner: Part, where: str, name: str, value: object) -> None:
    """Raises UserError, which names `where`, if the learner's hyperparameter cannot have the value."""
    next(field for _, field in declared(learner) if field.name == name).metadata["check"](where, value)


def with_hyperparameters(learner: P, values: Mapping[str, object]) -> P:
    """Replaces hyperparameters, whichever part holds them: XQL's `beta` is that of its part `value`.

    Raises UserError if one is unknown or impossible.
    """
    known = [field.name for _, field in declared(learner)]
    for name in values:
        if name not in known:
            raise UserError(f"unknown hyperparameter {name!r}; nearest known: {nearest(name, known)}")
    return _with(learner, values)


def _with(learner: P, values: Mapping[str, object]) -> P:
    changes = {f.name: values[f.name] for f in dataclasses.fields(learner) if f.name in values}
    changes |= {name: _with(inner, values) for name, inner in _parts(learner)}
    return learner.replace(**changes)


def _parts(learner: Part) -> list[tuple[str, Part]]:
    return [(f.name, getattr(learner, f.name)) for f in dataclasses.fields(learner) if "part" in f.metadata]


def _to_config(value: object, field: dataclasses.Field) -> object:
    if names := field.metadata.get("names"):
        return next(name for name, function in names.items() if function is value)
    # Use float32's shortest decimal: 0.005, not 0.004999999888241291.
    return float(str(np.float32(value))) if isinstance(value, np.floating | jax.Array) else value


class Method(Generic[P]):
    """Makes a learner from hyperparameters by their flat names: `OFFLINE["xql"](beta=0.6, loss="plain")`.

    `learner` is the learner's class, and `parts` are those of its parts.

    Args:
        defaults: the hyperparameters with another default than in the parts' classes.
        settings: those of `FinetuningSettings` with another default than there.
        by_suite: per suite (see `Task.suite`), the hyperparameters and settings that the method's authors
            change there. The files in configs/ start from these and may override them.
    """

    def __init__(
        self,
        learner: Callable[..., P],
        defaults: Mapping[str, object] | None = None,
        *,
        settings: Mapping[str, object] | None = None,
        by_suite: Mapping[str, Mapping[str, object]] | None = None,
        **parts: Callable,
    ):
        self.learner, self.defaults, self.parts = learner, defaults or {}, parts
        self.settings, self.by_suite = settings or {}, by_suite or {}

    def __call__(self, **hyperparameters: object) -> P:
        """Makes the learner; raises UserError if a hyperparameter is unknown or its value is impossible."""
        learner = self.learner(**{name: make() for name, make in self.parts.items()})
        return with_hyperparameters(learner, {**self.defaults, **hyperparameters})
