"""The looks of a picture's lines: their order in the legend, short names, colours and dashes."""

import dataclasses
import re
import textwrap
from collections.abc import Iterable, Mapping

from xql_jax.reports.palette import DASHES, LINES, scale
from xql_jax.reports.style import legend_height

WIDEST = 50  # characters per line of a legend
MOST_LINES = 12  # largest number of lines in a panel; the best are shown
_BETWEEN = re.compile(r" (?=[\w.]+=)")  # the space before a setting, as in `xql beta=0.5 loss="plain"`


@dataclasses.dataclass(frozen=True)
class Look:
    """A line's label in the legend, its colour and its dashes."""

    label: str
    color: str
    linestyle: str


@dataclasses.dataclass(frozen=True)
class Looks:
    """A look for each name, in the legend's order."""

    title: str  # what all names share; the labels leave it out
    by_name: Mapping[str, Look]

    @property
    def columns(self) -> int:
        """Number of columns that fit into the legend of a panel."""
        return 4 if max(len(look.label) for look in self.by_name.values()) < 8 else 1

    @property
    def height(self) -> float:
        """Height of the legend in inches."""
        lines = sum(1 + look.label.count("\n") for look in self.by_name.values())
        return legend_height(lines, self.columns, self.title)


def looks_of(names: Iterable[str]) -> Looks:
    """Returns the looks of lines with these names.

    Settings are ordered by their values, numbers as numbers. If the names differ in one numeric setting,
    their colours go from dark to light. Other lines get distinct colours if there are enough; if not, colours
    from dark to light with dashes that change from line to line. No two lines look the same.

    Args:
        names: each `ALGORITHM`, `ALGORITHM field=value ...`, or settings only.
    """
    parsed = {name: _parsed(name) for name in dict.fromkeys(names)}
    ordered = sorted(parsed, key=lambda name: _order(*parsed[name]))
    heads = {head for head, _ in parsed.values()}
    fields = {tuple(settings) for _, settings in parsed.values()}
    head, several = next(iter(heads), ""), len(parsed) > 1
    is_one_field = several and len(heads) == 1 and len(fields) == 1 and len(next(iter(fields))) == 1
    if is_one_field:
        title = " ".join(filter(None, (head, *next(iter(fields)))))
        labels = {name: next(iter(settings.values())) for name, (_, settings) in parsed.items()}
    else:
        title = head if several and len(heads) == 1 else ""
        labels = {name: _label("" if title else head, settings) for name, (head, settings) in parsed.items()}
    has_order = (
        is_one_field and len(parsed) > 2 and all(_number(label) is not None for label in labels.values())
    )
    count = len(ordered)
    colors = scale(count) if has_order or count > len(LINES) else LINES
    is_dashed = count > len(LINES)
    return Looks(
        title,
        {
            name: Look(labels[name], colors[number], DASHES[number % len(DASHES)] if is_dashed else "-")
            for number, name in enumerate(ordered)
        },
    )


def _parsed(name: str) -> tuple[str, dict[str, str]]:
    """Splits a name into the algorithm ("" if there is none) and the settings."""
    head, *settings = _BETWEEN.split(f" {name}")
    parts = (setting.partition("=") for setting in settings)
    return head.strip(), {field: value.strip('"') for field, _, value in parts}


def _order(head: str, settings: Mapping[str, str]) -> tuple:
    return head, [(field, *_value_order(value)) for field, value in settings.items()]


def _value_order(value: str) -> tuple[bool, float, str]:
    number = _number(value)
    return (True, 0.0, value) if number is None else (False, number, value)


def _number(value: str) -> float | None:
    try:
        return float(value)
    except ValueError:
        return None


def _label(head: str, settings: Mapping[str, str]) -> str:
    label = " ".join(filter(None, (head, *(f"{field}={value}" for field, value in settings.items()))))
    return textwrap.fill(label or "as configured", WIDEST, break_on_hyphens=False)
