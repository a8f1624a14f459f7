"""Declarations of settings: a dataclass's fields, each with a default, valid values and a meaning."""

import contextlib
import dataclasses
import types
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, get_args, get_type_hints

import numpy as np

from xql_jax.errors import UserError

MOST = 2**31 - 1  # steps and seeds are counted in 32 bits


class Setting(NamedTuple):
    """A setting: its name, which is also its flag's, its valid values and its meaning."""

    name: str
    kind: type  # int, float, bool, str, or Sequence: several texts
    default: Any  # None: it may be None
    meaning: str
    usual: object = None  # the default where a method or a config file may choose one, see `LearningSettings`
    least: float | None = None
    most: float | None = None
    choices: Sequence[str] = ()
    empty: bool = False  # text that may be empty
    alias: str = ""  # another name for the flag
    by_commas: bool = False  # how several texts are typed; else by a flag each
    recorded: bool = False  # part of a run's identity, see `recorded`
    neutral: object = None  # the value with which a run is as without the setting, and which is not recorded
    positional: bool = False  # given without a flag, by its position; with a meaning it must be given

    def check(self, value: Any) -> Any:
        """Returns the value, 1e5 and "1e5" as an int if the setting is one; UserError if it is invalid."""
        if value is None and self.default is None:
            return value
        if self.kind in (int, float) and isinstance(value, str):
            with contextlib.suppress(ValueError):
                number = float(value)
                value = int(number) if number.is_integer() else number
        if self.kind is Sequence:
            fits = not self.choices or (len(value) > 0 and set(value) <= set(self.choices))
        elif self.kind in (int, float):
            is_number = isinstance(value, int | float | np.number) and not isinstance(value, bool)
            fits = is_number and np.isfinite(value) and (self.kind is float or value == value // 1)
            fits = fits and (self.least is None or value >= self.least)
            fits = fits and (self.most is None or value <= self.most)
            value = self.kind(value) if fits else value
        elif self.kind is bool:
            fits = isinstance(value, bool)
        else:
            fits = isinstance(value, str | Path) and (str(value) != "" or self.empty or self.default == "")
            fits = fits and (not self.choices or value in self.choices)
        if not fits:
            given = as_typed(value) if self.kind is Sequence else repr(value)
            raise UserError(f"{self.name}={given}: must be {self.valid}")
        return value

    def is_recorded(self, value: object) -> bool:
        """Whether the value is part of a run's identity."""
        return self.recorded and (self.neutral is None or value != self.neutral)

    @property
    def valid(self) -> str:
        """The valid values, in words."""
        if self.choices:
            return f"one of {', '.join(self.choices)}"
        words = {int: "a whole number", float: "a finite number", bool: "true or false"}
        bounds = [] if self.least is None else [f"at least {self.least:,}"]
        bounds += [] if self.most is None else [f"at most {self.most:,}"]
        return ", ".join([words.get(self.kind, "text, not empty"), *bounds])


def as_typed(value: object) -> str:
    """Returns a value as a user types it: 0.5, true or 256,256; "" if there is none."""
    if isinstance(value, list | tuple):
        return ",".join(map(str, value))
    if isinstance(value, bool):
        return str(value).lower()
    return "" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def setting(default: Any, meaning: str, **valid: Any) -> Any:
    """Declares a field that is a setting; `valid` are further fields of its `Setting`."""
    return dataclasses.field(default=default, metadata={"meaning": meaning, **valid})


def recorded(default: Any, meaning: str, **valid: Any) -> Any:
    """Declares a setting that a run's numbers depend on: it is part of the run's identity."""
    return setting(default, meaning, recorded=True, **valid)


def settings_of(kind: type) -> Mapping[str, Setting]:
    """Returns the settings of a class, by name. In their meanings, {steps} and {Steps} stand for its unit."""
    hints = get_type_hints(kind)
    found = {}
    for field in dataclasses.fields(kind):
        if "meaning" not in field.metadata:
            continue
        hint = hints[field.name]
        kinds = get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
        kind_of: Any = next((one for one in (int, float, bool, str) if one in kinds), Sequence)
        unit = getattr(kind, "unit", "update") + "s"
        meaning = field.metadata["meaning"].replace("{Steps}", unit.capitalize()).replace("{steps}", unit)
        bounds = {"least": 0, "most": MOST} if kind_of is int else {}
        metadata: Any = {**bounds, **field.metadata, "meaning": meaning}
        found[field.name] = Setting(field.name, kind_of, field.default, **metadata)
    return found


class Settings:
    """Base class of settings: checks every value when it is made."""

    def __post_init__(self) -> None:
        for name, one in settings_of(type(self)).items():
            object.__setattr__(self, name, one.check(getattr(self, name)))
