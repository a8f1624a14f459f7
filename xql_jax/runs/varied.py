"""The text of --sweep, --ramp and --online: hyperparameters that vary among members, or with the step."""

import itertools
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

import numpy as np

from xql_jax.errors import UserError, advice
from xql_jax.settings import Setting
from xql_jax.training.members import Ramp

OF_RUNS = ("hidden_dims", "batch_size", "n_step", "action_chunk")  # which a sweep of programs varies


def fields_of(text: str) -> list[tuple[str, str]]:
    """Splits 'beta=0.6,1,2 tau=0.005' into pairs (FIELD, VALUES); semicolons separate as spaces do."""
    parts = (part.partition("=") for part in text.replace(";", " ").split())
    return [(name, values) for name, _, values in parts]


def joined(fields: Iterable[tuple[str, str]]) -> str:
    """Returns the text that `fields_of` splits."""
    return " ".join(f"{name}={values}" for name, values in fields)


def _numbers_of(
    text: str, known: Mapping[str, Setting], flag: str, verb: str, separator: str
) -> Iterator[tuple[str, list[float], str]]:
    """Parses the flag's text, such as 'beta=0.6,1,2': yields each field, its numbers, and their text.

    `known` are the learner's settings. Only traced settings can vary.
    """
    seen, traced = set(), {name: setting for name, setting in known.items() if setting.traced}
    for name, values in fields_of(text):
        field = f"{name}={values}"
        if name not in traced:
            hint = advice(name, traced)
            if name in known or name in OF_RUNS:
                hint = f"xql-sweep --methods=METHOD:{name}=VALUE,... trains a run for each value"
            raise UserError(f"{flag} cannot {verb} {name!r}; {hint}")
        if name in seen:
            raise UserError(f"{flag} gives {name} twice")
        try:
            numbers = [float(value) for value in values.split(separator)]
        except ValueError:
            raise UserError(f"{flag} wants FIELD=NUMBER{separator}NUMBER..., not {field!r}") from None
        for number in numbers:
            traced[name].checked(f"{flag}: {name}", number)
        seen.add(name)
        yield name, numbers, field


def parse_sweep(text: str, known: Mapping[str, Setting]) -> dict[str, list[float]]:
    """Parses 'beta=0.6,1,2 tau=0.005,0.01' into a grid."""
    grid = {}
    for name, numbers, field in _numbers_of(text, known, "--sweep", "vary", ","):
        if len(np.unique(np.asarray(numbers, np.float32))) < len(numbers):
            raise UserError(f"--sweep gives {name} the same value (in float32) twice: {field!r}")
        grid[name] = [float(f"{number:.9g}") for number in numbers]  # as runs and members are named
    return grid


def parse_ramps(
    text: str, known: Mapping[str, Setting], steps: int, flag: str, taken: Collection[str] = ()
) -> tuple[Ramp, ...]:
    """Parses text such as 'beta=1:0.2 awr_temperature=3'.

    In the example beta goes from 1 to 0.2 in `steps` steps, and awr_temperature is 3 from the first step on.
    With 'beta=2:0.5@0.3:2' it goes to 0.5 in the first 0.3 of the steps, and then back. `taken` are the
    fields that a sweep varies, which a ramp cannot change. Values are float32, as a learner's. Last values
    that change nothing are left out.
    """
    ramps, places = [], dict(fields_of(text))
    plain = joined((name, re.sub("@[^:]*", "", values)) for name, values in fields_of(text))
    for name, numbers, _ in _numbers_of(plain, known, flag, "change", ":"):
        field = f"{name}={places[name]}"
        if known[name].of_start:
            raise UserError(f"{flag}={field}: {name} is of the first state alone: give --{name} or --sweep")
        if name in taken:
            raise UserError(
                f"{flag}={field}: --sweep, if only of --checkpoint's run, gives members their {name}"
            )
        if len(numbers) > 1 and not np.isfinite(numbers).all():
            raise UserError(f"{flag}={field}: nothing goes linearly to or from inf")
        shares = [place.partition("@")[2] for place in places[name].split(":")]
        if len(shares) > 1:
            shares[-1] = shares[-1] or "1"
        try:
            reached = [0.0, *(float(f"{float(share):.9g}") for share in shares[1:])]
        except ValueError:
            reached = []
        if shares[0] or not reached or not all(a < b <= 1 for a, b in itertools.pairwise(reached)):
            raise UserError(
                f"{flag} wants FIELD=NUMBER, FIELD=NUMBER:NUMBER or FIELD=NUMBER:NUMBER@SHARE:NUMBER with "
                f"ascending shares of the steps between 0 and 1, not {field!r}"
            )
        values = [float(str(np.float32(number))) for number in numbers]
        while len(values) > 1 and values[-1] == values[-2]:
            del values[-1], reached[-1]
        ramps.append(
            Ramp(name, tuple(values), tuple(x * steps for x in reached), _typed(name, values, reached))
        )
    return tuple(ramps)


def _typed(name: str, values: Sequence[float], shares: Sequence[float]) -> str:
    """Returns a ramp as it is shortest to type, such as beta=2:0.5@0.3:2."""
    shown = [f"@{share:.9g}" if 0 < share < 1 else "" for share in shares]
    places = (f"{value:.9g}{share}" for value, share in zip(values, shown, strict=True))
    return f"{name}={':'.join(places)}"


def as_recorded(ramps: Sequence[Ramp]) -> str:
    """Returns the text of ramps as runs record it: equal numbers have equal texts."""
    return " ".join(sorted(ramp.text for ramp in ramps))
