"""The pictures of a report: learning curves, sensitivity to each varied setting, performance profiles."""

import collections
import dataclasses
import functools
import math
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import TypeVar

import numpy as np

from xql_jax.evaluation.scores import mean_and_interval
from xql_jax.reports.aggregates import EXPERT, Statistics
from xql_jax.reports.charts import COLOURS, DASHES, Chart, Line, Mark, as_svg
from xql_jax.reports.results import NO_METHOD, OFFLINE, MemberCurve, RunFacts, Score
from xql_jax.reports.style import LEAST_FOR_BAND
from xql_jax.reports.summary import varying_names

MOST_METHODS = 12  # largest number of methods in a picture: the best by their last score
MOST_WITH_BANDS = 6  # with more methods, intervals are not drawn
MOST_WITH_SEEDS = 3  # with more methods, single seeds are not drawn
MOST_MEMBERS = 40  # largest number of members (seeds and settings) in the picture of a run
SCHEDULE = ("max_steps", "eval_interval", "eval_episodes", "evaluation_seed")  # get no sensitivity picture

T = TypeVar("T")
K = TypeVar("K", bound=Hashable)


@dataclasses.dataclass(frozen=True)
class Picture:
    """A chart with its heading, legend and notes."""

    heading: str
    svg: str
    legend: Sequence[tuple[int, str]] = ()  # pairs of style and name
    notes: Sequence[str] = ()


def learning_curves(scores: Sequence[Score]) -> list[Picture]:
    """Returns a picture per dataset and phase: the mean over seeds with its 95% interval (Student's t)."""
    datasets = collections.Counter(score.method for score in scores)
    numbers = {method: number for number, (method, _) in enumerate(datasets.most_common())}
    pictures = []
    for (dataset, phase), group in _grouped(scores, lambda score: (score.dataset, score.phase)).items():
        best = sorted(group, key=lambda score: (-_or_least(score.entry().mean), score.method))[:MOST_METHODS]
        styles = _styles({score.method: numbers[score.method] for score in best})
        run = best[0].runs[0]
        heading = dataset if phase == OFFLINE else f"{dataset}, {phase}"
        handovers = {run.handover for score in best for run in score.runs}
        ends = "; ".join(f"{score.method} ends at {score.entry().cell()}" for score in best)
        chart = Chart(
            title=f"Learning curves on {heading}: {ends}",
            x_label=_steps(run),
            y_label=_unit(run),
            lines=[line for score in best for line in _curve(score, styles[score.method], len(best))],
            divider=handovers.pop() or None if len(handovers) == 1 else None,
        )
        legend = [(styles[score.method], _with_divergence(score)) for score in best]
        pictures.append(Picture(heading, as_svg(chart), legend, _best_of(len(best), len(group))))
    return pictures


def run_picture(run: RunFacts, members: Sequence[MemberCurve]) -> Picture | None:
    """Returns the learning curves of a run's members; None if nothing was evaluated."""
    if not members:
        return None
    varying = varying_names([member.settings for member in members])
    names = [_setting(member, varying) for member in members]
    styles = {name: number for number, name in enumerate(dict.fromkeys(names))}
    shown = list(zip(members, names, strict=True))[:MOST_MEMBERS]
    chart = Chart(
        f"Learning curves of {run.name}, ending at {', '.join(f'{member.last:.1f}' for member, _ in shown)}",
        _steps(run),
        _unit(run),
        [Line(_points(member), styles[name], is_thin=len(shown) > MOST_METHODS) for member, name in shown],
        divider=run.handover or None,
    )
    notes = [f"{MOST_MEMBERS} of {len(members)} members."] if len(members) > MOST_MEMBERS else []
    legend = [(style, name) for name, style in styles.items() if name]
    return Picture(run.name, as_svg(chart), legend[: COLOURS * DASHES], notes)


def sensitivity(scores: Sequence[Score]) -> list[Picture]:
    """Returns a picture per dataset, algorithm and varied field: last scores, as crosses if diverged."""
    pictures = []
    groups = _grouped(scores, lambda score: (score.dataset, score.algorithm, score.phase))
    for (dataset, algorithm, phase), group in groups.items():
        members = [member for score in group for member in score.shown]
        varying = varying_names([member.settings for member in members])
        varying = [name for name in varying if name not in NO_METHOD]
        for field in varying:
            others = [name for name in varying if name != field]
            by_rest = _grouped(members, functools.partial(_setting, names=others))
            varied = {
                rest: alike
                for rest, alike in by_rest.items()
                if len({member.settings.get(field) for member in alike}) > 1
            }
            if field not in SCHEDULE and varied:
                where = dataset if phase == OFFLINE else f"{dataset}, {phase}"
                pictures.append(_sensitivity(f"{algorithm} on {where}", field, varied))
    return pictures


def profiles(statistics: Statistics) -> Picture:
    """Returns the picture of each method's share of seeds and datasets above each score."""
    shown = statistics.profiles
    lines, above = [], []
    for style, profile in enumerate(shown):
        band = list(zip(profile.thresholds, profile.low, profile.high, strict=True))
        band = band if len(shown) <= MOST_WITH_BANDS else []
        points = list(zip(profile.thresholds, profile.shares, strict=True))
        lines.append(Line(points, style, band=band))
        half = np.interp(EXPERT / 2, profile.thresholds, profile.shares)
        above.append(f"{profile.method} {100 * half:.0f}%")
    title = f"Performance profiles; share of scores above {EXPERT / 2:g}: {', '.join(above)}"
    chart = Chart(title, "score", "share above it", lines)
    legend = [(style, profile.method) for style, profile in enumerate(shown)]
    notes = _best_of(len(shown), len(statistics.aggregates))
    return Picture("Performance profiles", as_svg(chart), legend, notes)


def _sensitivity(where: str, field: str, by_rest: Mapping[str, Sequence[MemberCurve]]) -> Picture:
    """Draws the scores against a field: a line for each combination of the other settings, a little apart."""
    name = field.removeprefix("config.")
    every = [member for alike in by_rest.values() for member in alike]
    values = sorted({member.settings.get(field, "-") for member in every}, key=_order)
    best = sorted(by_rest, key=lambda rest: -max(_or_least(member.last) for member in by_rest[rest]))
    shown = [rest for rest in by_rest if rest in best[:MOST_METHODS]]
    lines, marks = [], []
    for style, rest in enumerate(shown):
        alike, shift = by_rest[rest], 0.5 * ((style + 0.5) / len(shown) - 0.5)
        by_value = _grouped(alike, lambda member: member.settings.get(field, "-"))
        places = [(values.index(value) + shift, of_value) for value, of_value in by_value.items()]
        of_line = [(x, float(np.mean([member.last for member in of_value]))) for x, of_value in places]
        lines.append(Line(sorted(of_line), style))
        for x, of_value in places:
            for member in of_value:
                what = " ".join([f"{name}={member.settings.get(field, '-')}", *rest.split()])
                title = f"{what}, seed {member.seed}: {member.last:.1f}, {member.run.name}"
                title += ", diverged" if member.has_diverged else ""
                marks.append(Mark(x, member.last, style, title, member.has_diverged))
    diverged = [
        f"{value}: {count} of {len(of_value)}"
        for value, of_value in _grouped(every, lambda member: member.settings.get(field, "-")).items()
        if (count := sum(member.has_diverged for member in of_value))
    ]
    notes = [f"Diverged (crosses), by {name}: {'; '.join(diverged)}."] if diverged else ["None diverged."]
    if unfinished := sum(not member.is_finished for member in every):
        notes.append(f"{unfinished} of {len(every)} members were not trained to the end.")
    if len(shown) < len(by_rest):
        notes.append(
            f"Of {len(by_rest)} combinations of the other settings those {len(shown)} with the best member."
        )
    means = [y for line in lines for _, y in line.points if math.isfinite(y)]
    between = f"; means from {min(means):.1f} to {max(means):.1f}" if means else ""
    title = f"Last scores of {where} against {name}, which is {', '.join(values)}{between}"
    chart = Chart(title, name, _unit(every[0].run), lines, marks, categories=values)
    legend = [(style, rest or "mean over seeds") for style, rest in enumerate(shown)]
    return Picture(f"{where}: {name}", as_svg(chart), legend, notes)


def _curve(score: Score, style: int, beside: int) -> list[Line]:
    """Returns the mean at the steps that all seeds share; with few methods, also its interval and the seeds.

    Args:
        beside: the number of methods in the picture.
    """
    steps = sorted(set.intersection(*(set(member.steps) for member in score.shown)))
    at = [dict(_points(member)) for member in score.shown]
    values = np.array([[scores[step] for step in steps] for scores in at], np.float64)  # [seeds, steps]
    means, half_widths = mean_and_interval(values.T)
    ends = zip(steps, (means - half_widths).tolist(), (means + half_widths).tolist(), strict=True)
    has_band = beside <= MOST_WITH_BANDS and len(score.shown) >= LEAST_FOR_BAND
    band = list(ends) if has_band else []
    line = Line(list(zip(steps, means.tolist(), strict=True)), style, band=band)
    if beside > MOST_WITH_SEEDS or len(score.shown) == 1:
        return [line]
    return [line, *(Line(_points(member), style, is_thin=True) for member in score.shown)]


def _points(member: MemberCurve) -> list[tuple[float, float]]:
    return list(zip(map(float, member.steps), member.scores, strict=True))


def _setting(member: MemberCurve, names: Iterable[str]) -> str:
    return " ".join(f"{name.removeprefix('config.')}={member.settings.get(name, '-')}" for name in names)


def _with_divergence(score: Score) -> str:
    entry = score.entry()
    return (
        f"{score.method} ({entry.diverged} of {len(entry.last)} diverged)" if entry.diverged else score.method
    )


def _styles(numbers: Mapping[str, int]) -> dict[str, int]:
    """Gives a method the same style in all pictures, unless two methods in one picture would look alike."""
    are_apart = len({number % (COLOURS * DASHES) for number in numbers.values()}) == len(numbers)
    return dict(numbers) if are_apart else {name: number for number, name in enumerate(numbers)}


def _best_of(shown: int, count: int) -> list[str]:
    return [f"The {shown} best of {count} methods."] if shown < count else []


def _steps(run: RunFacts) -> str:
    return f"updates, then {run.unit}s" if run.handover else f"{run.unit}s"


def _unit(run: RunFacts) -> str:
    return "normalised score" if run.is_normalised else "return"


def _or_least(value: float) -> float:
    return -math.inf if math.isnan(value) else value


def _order(value: str) -> tuple[bool, float, str]:
    """Sort key: numbers by their size, before other text."""
    try:
        return False, float(value), value
    except ValueError:
        return True, 0.0, value


def _grouped(items: Iterable[T], key: Callable[[T], K]) -> dict[K, list[T]]:
    groups: dict[K, list[T]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return groups
