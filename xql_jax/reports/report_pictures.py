"""The pictures of a report: learning curves, sensitivity to settings, tuning budgets, profiles."""

import functools
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from xql_jax.reports import style
from xql_jax.reports.method_scores import (
    NO_METHOD,
    MethodScore,
    RunFacts,
    RunMember,
    comparable,
    setting_text,
)
from xql_jax.reports.run_summary import OFFLINE_TRAINING, by_seed_and_step, grouped, varying_names
from xql_jax.reports.statistics import Statistics, TuningCurve

NOT_DRAWN = ("max_steps", "evaluation_seed")  # settings without a picture of the sensitivity


class Picture(NamedTuple):
    """A picture with its heading and notes."""

    heading: str
    figure: Figure
    notes: Sequence[str]


@style.styled()
def learning_curves(scores: Sequence[MethodScore]) -> list[Picture]:
    """Returns a picture per dataset and phase, and of what can be compared there, see `draw_curves`."""
    pictures, every = [], style.looks_of(score.method for score in scores)
    for apart, group in comparable(scores):
        best = sorted(group, key=lambda score: -np.nan_to_num(score.mean, nan=-np.inf))[: style.MOST_LINES]
        # A method looks the same in all pictures, unless there are too many to be told apart.
        known = every if len(every) <= style.MOST_LINES else style.looks_of(score.method for score in best)
        looks, curves = {}, {}
        for score in best:
            mark = f" ({score.diverged} of {len(score.members)} diverged)" if score.diverged else ""
            looks[score.method] = known[score.method] | {"label": style.wrapped(score.method + mark)}
            curves[score.method] = by_seed_and_step(
                (member.seed, step, value)
                for member in score.members
                for step, value in zip(member.steps, member.values, strict=True)
            )
        run = best[0].facts
        handovers = {run.handover for score in best for run in score.runs}
        handover = run.handover if len(handovers) == 1 else None
        figure, axes = style.single_axes(look["label"] for look in looks.values())
        style.draw_curves(axes, curves, looks, len(best) <= style.MOST_WITH_SEEDS, handover)
        axes.set(xlabel=f"updates, then {run.unit}s" if run.handover else f"{run.unit}s", ylabel=_unit(run))
        notes = [f"The {len(best)} best of {len(group)} methods."] if len(best) < len(group) else []
        pictures.append(Picture(_place(run, apart), figure, notes))
    return pictures


@style.styled()
def sensitivity(scores: Sequence[MethodScore]) -> list[Picture]:
    """Returns a picture per dataset, algorithm and varied field: last scores, as crosses if diverged."""
    pictures = []
    groups = [
        (f"{algorithm} on {_place(of_algorithm[0].facts, apart)}", of_algorithm)
        for apart, group in comparable(scores)
        for algorithm, of_algorithm in grouped(group, lambda score: score.facts.algorithm).items()
    ]
    for place, group in groups:
        members = [member for score in group for member in score.members]
        varying = [name for name in varying_names([m.settings for m in members]) if name not in NO_METHOD]
        for field in varying:
            others = [name for name in varying if name != field]
            by_rest = grouped(members, functools.partial(setting_text, names=others))
            varied = {
                rest: alike
                for rest, alike in by_rest.items()
                if len({member.settings.get(field) for member in alike}) > 1
            }
            if field not in NOT_DRAWN and varied:
                pictures.append(_sensitivity(place, field, varied))
    return pictures


def _sensitivity(where: str, field: str, by_rest: Mapping[str, Sequence[RunMember]]) -> Picture:
    """Draws the scores against a field: a line for each combination of the other settings, a little apart."""
    name = field.removeprefix("config.")
    every = [member for alike in by_rest.values() for member in alike]
    with_value = grouped(every, lambda member: member.settings.get(field, "-"))
    values = sorted(with_value, key=style.number_order)
    best = sorted(by_rest, key=lambda rest: -np.nanmax([-np.inf, *(member.last for member in by_rest[rest])]))
    looks = style.looks_of(best[: style.MOST_LINES])
    figure, axes = style.single_axes(looks)
    for number, (rest, look) in enumerate(looks.items()):
        shift = 0.5 * ((number + 0.5) / len(looks) - 0.5)
        by_value = grouped(by_rest[rest], lambda member: values.index(member.settings.get(field, "-")))
        means = [(x + shift, np.mean([m.last for m in by_value[x]])) for x in sorted(by_value)]
        axes.plot(*zip(*means, strict=True), **look)
        for x, of_value in by_value.items():
            for member in of_value:
                axes.plot(x + shift, member.last, "x" if member.has_diverged else ".", color=look["color"])
    axes.set(xlabel=name, ylabel=_unit(every[0].run), xticks=range(len(values)))
    axes.set_xticklabels([value if len(value) < 12 else f"{value[:10]}…" for value in values])
    if any(looks):  # without other settings, the only line has no name
        style.legend_below(axes)
    counts = {value: sum(member.has_diverged for member in with_value[value]) for value in values}
    diverged = [f"{value}: {count} of {len(with_value[value])}" for value, count in counts.items() if count]
    notes = [f"Diverged (crosses), by {name}: {'; '.join(diverged)}." if diverged else "None diverged."]
    if unfinished := sum(not member.is_finished for member in every):
        notes.append(f"{unfinished} of {len(every)} members were not trained to the end.")
    if len(looks) < len(by_rest):
        notes.append(f"The {len(looks)} best of {len(by_rest)} combinations of the other settings.")
    return Picture(f"{where}: {name}", figure, notes)


@style.styled()
def profiles(statistics: Statistics) -> Picture:
    """Returns the picture of each method's share of seeds and datasets above each score."""
    figure, axes = _with_bands(statistics.thresholds, statistics.profiles)
    axes.set(xlabel="score", ylabel="share above it", ylim=(-0.02, 1.02))
    shown = len(statistics.profiles)
    notes = [f"The {shown} best methods."] if shown < len(statistics.aggregates) else []
    return Picture("Performance profiles", figure, notes)


@style.styled()
def tuning(curves: Sequence[TuningCurve]) -> list[Picture]:
    """Returns a picture per group of `comparable`: the best policy found against evaluation episodes."""
    pictures = []
    places = grouped(curves, lambda curve: (_place(curve.run, curve.apart), curve.run.is_normalised))
    for (place, _), group in places.items():
        episodes = np.arange(1, group[0].found.shape[1] + 1)
        figure, axes = _with_bands(episodes, {curve.run.algorithm: curve.found for curve in group})
        axes.set(xlabel="evaluation episodes", ylabel=_unit(group[0].run))
        of_curve = (f"{c.run.algorithm} {c.policies} ({c.settings} settings)" for c in group)
        pictures.append(Picture(place, figure, [f"Policies: {', '.join(of_curve)}."]))
    return pictures


def _with_bands(x: np.ndarray, curves: Mapping[str, np.ndarray]) -> tuple[Figure, Axes]:
    """Draws lines with a legend; by name f64[3, N], the values f64[N] and the two ends of the band."""
    looks = style.looks_of(curves)
    figure, axes = style.single_axes(looks)
    for name, (values, low, high) in curves.items():
        axes.plot(x, values, **looks[name])
        axes.fill_between(x, low, high, color=looks[name]["color"], alpha=0.12)
    style.legend_below(axes)
    return figure, axes


def _place(run: RunFacts, apart: str) -> str:
    place = run.dataset if run.phase == OFFLINE_TRAINING else f"{run.dataset}, {run.phase}"
    return f"{place} {apart}".rstrip()


def _unit(run: RunFacts) -> str:
    return "normalised score" if run.is_normalised else "return"
