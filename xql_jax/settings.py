"""Settings: each is declared once, by its default, its domain and its meaning, in the dataclass that uses it.

Learners and commands declare theirs alike. A learner has parts with fields of their own, but names are flat:
`beta` is the field of whichever part holds it. `settings_of`, `values_of` and `with_values` walk a class or a
tree of parts. From the declarations come flags, their help, keywords in Python, checks, and the lines of
`--print_config`.
"""

import dataclasses
import inspect
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import jax
import numpy as np

from xql_jax.errors import UserError, advice

T = TypeVar("T")
Number = TypeVar("Number", bound=float)  # bool, int or float
Function = TypeVar("Function", bound=Callable)
MOST = 2**31 - 1  # steps and seeds are counted in 32 bits
GIVEN = (str, Path, int, float, np.generic, tuple, list, dict, type(None))  # types that users write


class Domain(NamedTuple):
    """The valid values of a setting: in words, and as a test of a value of its type."""

    text: str
    holds: Callable[[Any], bool] = lambda value: True
    infinite: bool = False  # whether inf is valid: it switches something off
    value_type: type | None = None  # of the values; None: the default's type


def within(least: float, most: float) -> Domain:
    # A number is tested as float32, so 1e-6 is not below itself.
    low, high = (float(np.float32(bound)) if isinstance(bound, float) else bound for bound in (least, most))
    return Domain(f"at least {least:,}, at most {most:,}", lambda x: low <= x <= high)


def one_of(*names: str) -> Domain:
    return Domain(f"one of {', '.join(names)}", lambda name: name in names)


def some_of(*names: str) -> Domain:
    return Domain(f"one of {', '.join(names)}", lambda some: some and {*some} <= {*names}, value_type=list)


POSITIVE = Domain("positive", lambda x: x > 0)
POSITIVE_OR_OFF = Domain("positive, or inf", lambda x: x > 0, infinite=True)
NOT_NEGATIVE = Domain("at least 0", lambda x: x >= 0)
AT_LEAST_ONE = Domain("at least 1", lambda x: x >= 1)
COUNT, COUNT_OR_NONE = (within(least, MOST)._replace(value_type=int) for least in (1, 0))
UNIT_INTERVAL = Domain("within [0, 1]", lambda x: 0 <= x <= 1)
ABOVE_ZERO = Domain("within (0, 1]", lambda x: 0 < x <= 1)
BELOW_ONE = Domain("within [0, 1)", lambda x: 0 <= x < 1)
OPEN_UNIT_INTERVAL = Domain("within (0, 1)", lambda x: 0 < x < 1)
EITHER = Domain("true or false")
TEXT = Domain("text, not empty", lambda text: text != "", value_type=str)
SEVERAL = Domain("text, not empty", lambda texts: "" not in texts, value_type=list)
NAMED = SEVERAL._replace(
    text="NAME=VALUE, each name once",
    holds=lambda texts: len({text.partition("=")[0] for text in texts}) == len(texts),
)
WIDTHS = Domain("positive whole numbers", lambda widths: all(width >= 1 for width in widths))
ANY = Domain("")


@dataclasses.dataclass(frozen=True)
class Setting:
    """A setting as it is declared."""

    default: Any  # None: it may be None
    domain: Domain
    meaning: str  # empty: the meaning of the base class's field of the same name
    value_type: (
        type  # int, float, bool, str; tuple: widths; list: several texts; object: a function by its name
    )
    traced: bool = False  # a learner's number that sweeps within one program
    recorded: bool = False  # of a run's: part of its identity, as all of a learner's are
    neutral: Any = None  # with this value numbers are as without the setting, and runs do not record it
    functions: Mapping[str, Callable] = dataclasses.field(default_factory=dict)
    by_config: bool = False  # a method or a config file may choose its default
    of_checkpoint: bool = False  # in fine-tuning it has the value of --checkpoint's run
    finds: str = ""  # the learner's number that this setting finds in training, unless it is 0
    of_start: bool = False  # whether it is a learner's number that only the first state depends on
    by_commas: bool = False  # how several texts are typed; else by a flag each
    positional: bool = False  # without a flag, by its position; it is required

    @property
    def valid(self) -> str:
        """The valid values, in words."""
        number = "a number" if self.domain.infinite else "a finite number"
        word = {int: "a whole number", float: number}.get(self.value_type, "")
        return ", ".join(filter(None, (word, self.domain.text))) or "text"

    def checked(self, name: str, value: Any) -> Any:
        """Returns the value, of the setting's type, which text may give, too; UserError if it is invalid."""
        if value is None and self.default is None:
            return None
        try:
            made = self._converted(value)
            with np.errstate(over="ignore"):
                tested = float(np.float32(made)) if self.value_type is float else made
            if not self.domain.holds(tested) or (tested == np.inf and not self.domain.infinite):
                raise ValueError
        except (ValueError, TypeError, KeyError, OverflowError):
            raise UserError(f"{name}={as_typed(value) or value}: must be {self.valid}") from None
        return made

    def _converted(self, value: Any) -> Any:
        if self.value_type is list:
            texts = (value,) if isinstance(value, str) else tuple(value)
            return tuple(map(str.strip, ",".join(texts).split(","))) if self.by_commas and texts else texts
        if self.value_type is object:
            return value if value in self.functions.values() else self.functions[value]
        if self.value_type is tuple:
            if isinstance(value, str):  # () is a tuple without an entry, and no text is none
                text = value.strip("()[] ").replace("/", ",").removesuffix(",")
                value = text.split(",") if text or not value.strip() else ()
            return tuple(as_number(part, int) for part in (value if np.ndim(value) else [value]))
        if self.value_type is bool:
            return {"true": True, "false": False}[as_typed(value).lower()]
        if self.value_type is not str:
            return as_number(value, self.value_type)
        if not isinstance(value, str | Path):
            raise TypeError
        return str(value)

    def as_plain(self, value: Any) -> Any:
        """Returns a value as config files and config.json have it: functions by their names."""
        if self.value_type is object:
            return next(name for name, function in self.functions.items() if function is value)
        # float32's shortest decimal: 0.005, not 0.004999999888241291
        return float(str(np.float32(value))) if isinstance(value, np.floating | jax.Array) else value


class Checked:
    """Base class of settings and of learners' parts, frozen dataclasses: checks its settings when it is made.

    Traced numbers become float32 once, because Python floats would be weakly typed leaves and cause a second
    trace.
    """

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):  # type: ignore[arg-type]  # subclasses are dataclasses
            setting, value = field.metadata.get("setting"), getattr(self, field.name)
            # A copy's numbers are float32, which were checked before; JAX puts arrays and tracers there.
            is_made = type(value) is np.float32 or not isinstance(value, GIVEN)
            if setting and not (setting.traced and is_made):
                made = setting.checked(field.name, value)
                object.__setattr__(self, field.name, np.float32(made) if setting.traced else made)


def as_number(value: Any, kind: type[Number] = float) -> Number:  # type: ignore[assignment]
    """Returns the number of a text, or of a number of Python, NumPy or JAX; ValueError if there is none."""
    is_printed = isinstance(value, str) or hasattr(value, "dtype")  # so that a float32 of 0.7 is 0.7
    number = float(str(np.asarray(value)[()])) if is_printed else value
    if isinstance(number, bool) or np.isnan(number) or kind(number) != number:
        raise ValueError
    return kind(number)


def as_typed(value: object) -> str:
    """Returns a value as a user types it: 0.5, true or 256,256; "" if there is none."""
    if isinstance(value, list | tuple):
        return ",".join(map(str, value))
    if isinstance(value, bool):
        return str(value).lower()
    return "" if value is None else f"{value:g}" if isinstance(value, float | np.floating) else str(value)


def setting(
    default: Any, domain: Domain, meaning: str, *, value_type: type | None = None, **more: Any
) -> Any:
    """Declares a setting; `more` are further fields of its `Setting`."""
    declared = Setting(default, domain, meaning, value_type or domain.value_type or type(default), **more)
    return dataclasses.field(default=default, metadata={"setting": declared, "pytree_node": declared.traced})


def recorded(default: Any, domain: Domain, meaning: str, **more: Any) -> Any:
    """Declares a setting that a run's numbers depend on: it is part of the run's identity."""
    return setting(default, domain, meaning, recorded=True, **more)


def by_config(default: Any, domain: Domain, meaning: str, **more: Any) -> Any:
    """Declares a recorded setting whose default a method or a config file may choose."""
    return recorded(default, domain, meaning, by_config=True, **more)


def traced(default: float, domain: Domain, meaning: str = "", **more: Any) -> float:
    """Declares a learner's number that sweeps within one program."""
    return setting(default, domain, meaning, value_type=float, traced=True, **more)


def static(default: T, domain: Domain, meaning: str = "", **more: Any) -> T:
    """Declares what shapes a learner's program, a number, a switch or widths: another value compiles anew."""
    return setting(default, domain, meaning, **more)


def choice(meaning: str = "", /, **functions: Function) -> Function:
    """Declares a choice among functions, set by name or by the function itself; the first is the default."""
    first, domain = next(iter(functions.values())), Domain(f"one of {', '.join(functions)}")
    return setting(first, domain, meaning, value_type=object, functions=functions)


def part(make: Callable[[], T]) -> T:
    """Declares a part that has settings of its own."""
    return dataclasses.field(default_factory=make, metadata={"part": True})


def internal(default: T, *, leaf: bool = False) -> T:
    """Declares a field that a method or a run sets and users do not: it is no setting."""
    return dataclasses.field(default=default, metadata={"internal": True, "pytree_node": leaf})


class Command:
    """Decorator for a function whose keyword arguments are declared as settings, which each call checks."""

    def __init__(self, function: Callable[..., Any]):
        arguments = inspect.signature(function).parameters.values()
        fields = [(argument.name, Any, argument.default) for argument in arguments]
        self.function, self.__doc__ = function, function.__doc__
        self.settings: type[Checked] = dataclasses.make_dataclass(
            function.__name__, fields, bases=(Checked,), frozen=True, kw_only=True
        )

    def __call__(self, **values: Any) -> Any:
        return self.function(**vars(self.settings(**values)))


def parts_of(tree: Any) -> list[tuple[str, Any]]:
    """Returns the parts of a learner or of a part, by the names of their fields."""
    return [(f.name, getattr(tree, f.name)) for f in dataclasses.fields(tree) if "part" in f.metadata]


def declared(tree: Any) -> Iterator[tuple[Any, str, Setting]]:
    """Yields each setting's holder, name and declaration: the tree's own settings first, then its parts'."""
    for field in dataclasses.fields(tree):
        if "setting" in field.metadata:
            yield tree, field.name, field.metadata["setting"]
    for _, inner in parts_of(tree):
        yield from declared(inner)


def settings_of(tree: Any) -> dict[str, Setting]:
    """Returns the settings of a class or a tree by name, with the values there as their defaults.

    A setting without a meaning has the meaning of the nearest base class that gives it.
    """
    unit, settings = f"{getattr(tree, 'unit', 'update')}s", {}
    for owner, name, setting in declared(tree):
        bases = (owner if isinstance(owner, type) else type(owner)).__mro__
        fields = (vars(base).get("__dataclass_fields__", {}).get(name) for base in bases)
        same = (field.metadata["setting"] for field in fields if field and "setting" in field.metadata)
        explained = next((each for each in same if each.meaning), setting)
        meaning = explained.meaning.replace("{steps}", unit).replace("{Steps}", unit.capitalize())
        settings[name] = dataclasses.replace(setting, meaning=meaning, default=getattr(owner, name))
    return settings


def values_of(tree: Any) -> dict[str, Any]:
    """Returns all values by their flat names, as a config has them."""
    return {name: setting.as_plain(getattr(owner, name)) for owner, name, setting in declared(tree)}


def recorded_values(tree: Any) -> dict[str, Any]:
    """Returns the values of `values_of` that are not neutral."""
    known = settings_of(tree)
    return {
        name: value
        for name, value in values_of(tree).items()
        if known[name].neutral is None or value != known[name].neutral
    }


def neutral_values(tree: Any) -> dict[str, Any]:
    """Returns the values that are not recorded, by their names."""
    settings = settings_of(tree).items()
    return {name: setting.neutral for name, setting in settings if setting.neutral is not None}


def with_values(tree: T, values: Mapping[str, object]) -> T:
    """Replaces settings, whichever part holds them; UserError if a setting is unknown or impossible."""
    if not values:
        return tree
    known = settings_of(tree)
    for name in values:
        if name not in known:
            raise UserError(f"{name}: unknown setting; {advice(name, known)}")
    return replaced(tree, {name: _as_python(value) for name, value in values.items()})


def replaced(tree: T, values: Mapping[str, object]) -> T:
    """Returns the tree with these values. Names that none has are ignored.

    A part is a `Checked`, so a part that is made anew here checks its values, and converts them.
    """
    changes = {f.name: values[f.name] for f in dataclasses.fields(tree) if f.name in values}  # type: ignore[arg-type]
    inner = {name: replaced(part, values) for name, part in parts_of(tree)}
    return dataclasses.replace(tree, **changes, **inner)  # type: ignore[type-var]


def _as_python(value: Any) -> Any:
    """Returns a number of NumPy or JAX as Python's, which is checked; others as they are."""
    if isinstance(value, jax.core.Tracer) or not isinstance(value, np.generic | np.ndarray | jax.Array):
        return value
    is_number = not value.ndim and value.dtype.kind in "iuf"
    return float(str(np.asarray(value)[()])) if is_number else value
