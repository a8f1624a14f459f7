"""Writes docs/claims.md from docs/site/claims.md and the evaluations in docs/results/, and draws its picture.

  python docs/site/claims.py

In the text, {{METHOD@TASK}} becomes the mean of the last scores over seeds with its 95% interval, and
{{METHOD@TASK - METHOD@TASK}} their difference with Welch's, bold where that excludes 0. {{n METHOD@TASK}} is
the number of seeds. {{P METHOD - METHOD}} is the probability of improvement over the tasks of the picture,
{{IQM METHOD}} the interquartile mean. A test compares the page with what this would write.
"""

import csv
import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure
from scipy import stats

from xql_jax.reports.statistics import Statistics, statistics_of
from xql_jax.reports.style import BLUE, SOFT, VERMILION, render, styled
from xql_jax.rollout.scores import mean_and_interval

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "docs" / "results"
TEMPLATE, PAGE = ROOT / "docs" / "site" / "claims.md", ROOT / "docs" / "claims.md"
PICTURE = ROOT / "docs" / "images" / "claims.png"
SAMPLES = 2_000  # of rliable's bootstrap


class Cells(NamedTuple):
    """Where the scores of a task's methods are."""

    title: str
    updates: int  # the evaluation that counts is the last one up to this
    files: tuple[str, ...]  # below docs/results/, {} is the method; the seeds of all count


TASKS = {
    "maze": Cells(
        "point maze", 30_000, ("pointmaze-umaze-v0/{}", "eight-seeds/pointmaze-umaze-v0_{}")
    ),
    "kitchen": Cells(
        "kitchen", 30_000, ("kitchen-complete-v0/{}", "eight-seeds/kitchen-complete-v0_{}")
    ),
    "kitchen-1m": Cells("kitchen, 1,000,000 updates", 1_000_000, ("kitchen-complete-v0-1m/{}",)),
    "pen": Cells("pen", 30_000, ("eight-seeds/pen-human-v1_{}",)),
    "halfcheetah": Cells("halfcheetah", 200_000, ("halfcheetah-medium-replay-200k/{}",)),
    "hopper": Cells("hopper", 200_000, ("hopper-medium-replay-200k/{}",)),
    "walker2d": Cells("walker2d", 200_000, ("walker2d-medium-replay-200k/{}",)),
    "cube-2": Cells("cube, task 2", 30_000, ("cube-single-play-300k/{}",)),
    "cube-3": Cells("cube, task 3", 30_000, ("cube-single-play-300k/task3_{}",)),
    "scene-1": Cells("scene, task 1", 30_000, ("scene-play-300k/task1_{}",)),
}
# Of the picture: each has XQL, IQL and cloning.
COMPARED = ("maze", "kitchen", "pen", "halfcheetah", "hopper", "walker2d", "cube-2", "cube-3", "scene-1")
METHODS = ("xql", "iql", "bc")


def scores(cell: str) -> np.ndarray:
    """Returns f64[seeds], the last scores of "METHOD@TASK", by seed."""
    method, _, task = cell.partition("@")
    cells = TASKS[task]
    by_seed: dict[int, float] = {}
    for name in cells.files:
        with (RESULTS / f"{name.format(method)}.csv").open() as file:
            rows = [row for row in csv.DictReader(file) if int(row["step"]) <= cells.updates]
        last = max(int(row["step"]) for row in rows)
        new = {int(row["seed"]): float(row["score"]) for row in rows if int(row["step"]) == last}
        if new.keys() & by_seed.keys():
            raise ValueError(f"{name}: seeds are there twice")
        by_seed |= new
    return np.array([by_seed[seed] for seed in sorted(by_seed)])


def difference(one: np.ndarray, other: np.ndarray) -> tuple[float, float, float]:
    """Returns the difference of the means, and the ends of Welch's 95% interval."""
    interval = stats.ttest_ind(one, other, equal_var=False).confidence_interval(0.95)
    return one.mean() - other.mean(), interval.low, interval.high


def statistics() -> Statistics:
    """The statistics of the methods over the picture's tasks; each task has its own number of seeds."""
    matrices = {}
    for method in METHODS:
        by_task = [scores(f"{method}@{task}") for task in COMPARED]
        seeds = min(map(len, by_task))
        matrices[method] = np.array([of_task[:seeds] for of_task in by_task]).T
    return statistics_of(COMPARED, matrices, SAMPLES)


def filled(text: str, overall: Statistics) -> str:
    """Returns the text with every {{...}} replaced."""
    return re.sub(r"\{\{(.+?)\}\}", lambda match: figure(match[1], overall), text)


def figure(words: str, overall: Statistics) -> str:
    match words.split():
        case ["n", cell]:
            return str(len(scores(cell)))
        case ["P", one, "-", other]:
            return f"{pair(overall.improvements, one, other)[0]:.2f} ({{:.2f}} to {{:.2f}})".format(
                *sorted(pair(overall.improvements, one, other)[1:])
            )
        case ["IQM", method]:
            value, low, high = overall.aggregates[method][:, 0]
            return signed(f"{value:.1f} ({low:.1f} to {high:.1f})")
        case [one, "-", other]:
            value, low, high = difference(scores(one), scores(other))
            text = signed(f"{value:+.1f} ({low:.1f} to {high:.1f})")
            return f"**{text}**" if low * high > 0 else text
        case [cell]:
            mean, half = mean_and_interval(scores(cell))
            return signed(f"{mean:.1f} ± {half:.1f}")
    raise ValueError(f"{{{{{words}}}}}: not a figure")


def pair(improvements: Mapping[tuple[str, str], np.ndarray], one: str, other: str) -> np.ndarray:
    return improvements[one, other] if (one, other) in improvements else 1 - improvements[other, one]


def signed(text: str) -> str:
    return text.replace("-", "−")


@styled()
def picture() -> Figure:
    """The difference to IQL and to cloning on each task, with its 95% interval."""
    drawing = Figure(figsize=(7, 0.42 * len(COMPARED) + 1))
    axes = drawing.add_subplot()
    axes.axvline(0, color=SOFT, linewidth=1)
    for place, task in enumerate(COMPARED):
        for other, colour, shift in (("iql", BLUE, -0.13), ("bc", VERMILION, 0.13)):
            value, low, high = difference(scores(f"xql@{task}"), scores(f"{other}@{task}"))
            label = f"XQL − {'IQL' if other == 'iql' else 'cloning'}" if place == 0 else None
            axes.plot([low, high], [place + shift] * 2, color=colour)
            axes.plot(value, place + shift, "o", color=colour, label=label)
    titles = [f"{TASKS[task].title} ({len(scores(f'xql@{task}'))} seeds)" for task in COMPARED]
    axes.set_yticks(range(len(COMPARED)), titles)
    axes.invert_yaxis()
    axes.set_xlabel("difference of the normalised scores (points), 95% interval")
    axes.legend(loc="best")
    return drawing


def page() -> str:
    """The whole page as Markdown."""
    return filled(TEMPLATE.read_text("utf-8"), statistics())


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")
    PICTURE.write_bytes(render(picture()))
