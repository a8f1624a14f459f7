"""The result of ranking a run's members by its data: tables by member and by setting.

A member is one seed with one setting. If scores are known, each statistic's agreement with them is added.
"""

import csv
import io
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from xql_jax.evaluation.ranking import Agreement, agreement

Entry = dict[str, Any]  # a member's or a setting's `STATISTICS` and `score`, None if unknown


class Statistic(NamedTuple):
    """A number by which policies are ranked without an environment."""

    title: str
    sign: float  # 1: the highest is best; -1: the lowest


STATISTICS = {
    "fqe_value": Statistic("FQE value", 1.0),
    "initial_v": Statistic("own V", 1.0),
    "initial_q": Statistic("own Q", 1.0),
    "advantage": Statistic("Q - V", 1.0),
    "td_error": Statistic("TD error", -1.0),
    "fqe_error": Statistic("FQE error", -1.0),
}


def best_first(entries: Sequence[Entry]) -> list[Entry]:
    """Returns the entries with the highest value in fitted-Q evaluation first, unknown values last."""
    return [entries[index] for index in np.argsort(-_column(entries, "fqe_value"), kind="stable")]


def by_setting(members: Sequence[Entry], names: Sequence[str]) -> list[Entry]:
    """Returns an entry for each setting of the hyperparameters `names`: means over its seeds, best first.

    Seeds for which a number is unknown are left out of its mean.
    """
    groups: dict[tuple[float, ...], list[Entry]] = {}
    for member in members:
        groups.setdefault(tuple(member[name] for name in names), []).append(member)
    entries = []
    for values, group in groups.items():
        setting = dict(zip(names, values, strict=True))
        label = ", ".join(f"{name}={value:g}" for name, value in setting.items())
        means = {name: _mean(_column(group, name)) for name in (*STATISTICS, "score")}
        entries.append({"setting": label, "seeds": len(group), **setting, **means})
    return best_first(entries)


def agreement_of(entries: Sequence[Entry]) -> dict[str, Any]:
    """Returns how well each statistic ranks the entries; {} if fewer than two have a score.

    `statistics`: by name, an `Agreement` as a dictionary. `regret_by_chance`: the expected regret of an entry
    chosen at random.
    """
    scores = _column(entries, "score")
    if np.isfinite(scores).sum() < 2:
        return {}
    found: dict[str, Agreement] = {
        name: agreement(statistic.sign * _column(entries, name), scores)
        for name, statistic in STATISTICS.items()
        if np.isfinite(_column(entries, name)).any()
    }
    return {
        "statistics": {name: one._asdict() for name, one in found.items()},
        "regret_by_chance": float(np.nanmax(scores) - np.nanmean(scores)),
    }


def as_csv(entries: Sequence[Mapping[str, Any]]) -> str:
    """Returns the entries as CSV with a header; an unknown number is an empty cell."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(entries[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(entries)
    return text.getvalue()


def _column(entries: Sequence[Entry], name: str) -> np.ndarray:
    """Returns one number of all entries, f64[N], NaN where it is unknown."""
    return np.array([math.nan if entry[name] is None else entry[name] for entry in entries])


def _mean(numbers: np.ndarray) -> float | None:
    known = numbers[np.isfinite(numbers)]
    return float(known.mean()) if len(known) else None
