"""Writes docs/claims.md from docs/site/claims.template and docs/results/, and draws its picture.

  python docs/site/claims.py

In the text, {{METHOD@TASK}} becomes the mean of the last scores over seeds with its 95% interval, and
{{METHOD@TASK - METHOD@TASK}} their difference with Welch's, bold where that excludes 0. METHOD@TASK:BETA has
the seeds with that beta. {{gain FILE STEP}} is the last score less that at the step, in pairs of seeds, with
Student's interval. {{theory CLAIM: CASE}} is one of theory.csv. {{speed METHOD}} is the mean of its updates
per second over XQL's beside it in speed.csv, with Student's interval.
Over the picture's {{tasks}}: {{P METHOD - METHOD}} is the probability of improvement, {{IQM METHOD}} the
interquartile mean, {{holds METHOD - METHOD}} on how many tasks the difference's interval is above 0.
A test compares the page with what this would write.
"""

import csv
import re
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
TEMPLATE, PAGE = ROOT / "docs" / "site" / "claims.template", ROOT / "docs" / "claims.md"
PICTURE = ROOT / "docs" / "images" / "claims.png"
SAMPLES = 2_000  # of the bootstrap


class Cells(NamedTuple):
    """Where the scores of a task's methods are."""

    title: str
    updates: int  # the evaluation that counts is the last one up to this
    files: tuple[str, ...]  # below docs/results/, {} is the method; the seeds of all count


TASKS = {
    "maze": Cells("point maze", 30_000, ("pointmaze-umaze-v0/{}", "eight-seeds/pointmaze-umaze-v0_{}")),
    "kitchen": Cells("kitchen", 30_000, ("kitchen-complete-v0/{}", "eight-seeds/kitchen-complete-v0_{}")),
    "kitchen-1m": Cells("kitchen, 1,000,000 updates", 1_000_000, ("kitchen-complete-v0-1m/{}",)),
    "pen": Cells("pen, mixed data", 30_000, ("eight-seeds/pen-human-v1_{}",)),
    "halfcheetah": Cells("halfcheetah", 200_000, ("halfcheetah-medium-replay-200k/{}",)),
    "hopper": Cells("hopper", 200_000, ("hopper-medium-replay-200k/{}",)),
    "hopper-60k": Cells("hopper", 60_000, ("hopper-medium-replay-200k/{}",)),
    "walker2d": Cells("walker2d", 200_000, ("walker2d-medium-replay-200k/{}",)),
    "cube-2": Cells("cube, task 2", 30_000, ("cube-single-play-300k/{}",)),
    "cube-3": Cells("cube, task 3", 30_000, ("cube-single-play-300k/task3_{}",)),
    "cube-3-100k": Cells("cube, task 3", 100_000, ("cube-single-play-300k/task3_{}",)),
    "scene-1": Cells("scene, task 1", 30_000, ("scene-play-300k/task1_{}",)),
    "antmaze-umaze": Cells("antmaze-umaze", 40_000, ("finetune/antmaze-umaze_{}_offline",)),
    "betas": Cells("point maze", 10_000, ("stability/pointmaze-umaze-v0/{}",)),
}
# The picture's tasks; each has XQL, IQL and cloning.
COMPARED = ("maze", "kitchen", "pen", "halfcheetah", "hopper", "walker2d", "cube-2", "cube-3", "scene-1")
METHODS = ("xql", "iql", "bc")


def read(name: str) -> list[dict[str, str]]:
    with (RESULTS / f"{name}.csv").open() as file:
        return list(csv.DictReader(file))


def by_seed(rows: list[dict[str, str]], step: int) -> dict[int, float]:
    return {int(row["seed"]): float(row["score"]) for row in rows if int(row["step"]) == step}


def scores(cell: str) -> np.ndarray:
    """Returns f64[seeds], the last scores of "METHOD@TASK" or "METHOD@TASK:BETA", by seed."""
    method, task, beta = re.fullmatch(r"(.+)@([^:]+):?(.*)", cell).groups()
    cells, all_seeds = TASKS[task], {}
    for name in cells.files:
        rows = [row for row in read(name.format(method)) if int(row["step"]) <= cells.updates]
        if beta:
            rows = [row for row in rows if row["beta"] == beta]
        new = by_seed(rows, max(int(row["step"]) for row in rows))
        if new.keys() & all_seeds.keys():
            raise ValueError(f"{name}: seeds are there twice")
        all_seeds |= new
    return np.array([all_seeds[seed] for seed in sorted(all_seeds)])


def gains(name: str, start: int) -> np.ndarray:
    """Returns f64[seeds], each seed's last score less that at the step `start`."""
    rows = read(name)
    first, last = by_seed(rows, start), by_seed(rows, max(int(row["step"]) for row in rows))
    return np.array([last[seed] - first[seed] for seed in sorted(first)])


def difference(one: np.ndarray, other: np.ndarray) -> tuple[float, float, float]:
    """Returns the difference of the means, and the ends of Welch's 95% interval."""
    interval = stats.ttest_ind(one, other, equal_var=False).confidence_interval(0.95)
    return one.mean() - other.mean(), interval.low, interval.high


def statistics() -> Statistics:
    """The statistics of `METHODS` over the picture's tasks, of as many seeds as each task has."""
    matrices = {}
    for method in METHODS:
        by_task = [scores(f"{method}@{task}") for task in COMPARED]
        seeds = min(map(len, by_task))
        matrices[method] = np.array([of_task[:seeds] for of_task in by_task]).T
    return statistics_of(COMPARED, matrices, SAMPLES)


def filled(text: str) -> str:
    """Returns the text with every {{...}} replaced."""
    overall = statistics()
    return re.sub(r"\{\{(.+?)\}\}", lambda match: figure(match[1], overall).replace("-", "−"), text)


def figure(words: str, overall: Statistics) -> str:
    match words.split():
        case ["P", one, "-", other]:
            return "{:.2f} ({:.2f} to {:.2f})".format(*improvement(overall, one, other))
        case ["tasks"]:
            return str(len(COMPARED))
        case ["holds", one, "-", other]:
            lows = (difference(scores(f"{one}@{task}"), scores(f"{other}@{task}"))[1] for task in COMPARED)
            return str(sum(low > 0 for low in lows))
        case ["IQM", method]:
            return "{:.1f} ({:.1f} to {:.1f})".format(*overall.aggregates[method][:, 0])
        case ["theory", claim, *case]:
            return next(
                row["value"]
                for row in read("theory")
                if [f"{row['claim']}:", row["case"]] == [claim, " ".join(case)]
            )
        case ["speed", method]:
            turns = [row for row in read("speed") if row["method"] == method]
            ratios = [float(turn["updates_per_second"]) / float(turn["of_xql"]) for turn in turns]
            return "{:.2f} ± {:.2f}".format(*mean_and_interval(np.array(ratios)))
        case ["gain", name, start]:
            mean, half = mean_and_interval(gains(name, int(start)))
            return changed(mean, mean - half, mean + half)
        case [one, "-", other]:
            return changed(*difference(scores(one), scores(other)))
        case [cell]:
            return "{:.1f} ± {:.1f}".format(*mean_and_interval(scores(cell)))
    raise ValueError(f"{words}: not a figure")


def changed(value: float, low: float, high: float) -> str:
    text = f"{value:+.1f} ({low:.1f} to {high:.1f})"
    return f"**{text}**" if low * high > 0 else text


def improvement(overall: Statistics, one: str, other: str) -> tuple[float, float, float]:
    if (one, other) in overall.improvements:
        value, low, high = overall.improvements[one, other]
        return value, low, high
    value, low, high = overall.improvements[other, one]
    return 1 - value, 1 - high, 1 - low


@styled()
def picture() -> Figure:
    """The difference to IQL and to cloning on each task, with its 95% interval."""
    drawing = Figure(figsize=(7, 0.42 * len(COMPARED) + 1.2))
    axes = drawing.add_subplot()
    axes.axvline(0, color=SOFT, linewidth=1)
    for other, name, colour, shift in (("iql", "IQL", BLUE, -0.13), ("bc", "cloning", VERMILION, 0.13)):
        places = np.arange(len(COMPARED)) + shift
        values, lows, highs = np.transpose(
            [difference(scores(f"xql@{task}"), scores(f"{other}@{task}")) for task in COMPARED]
        )
        axes.hlines(places, lows, highs, color=colour)
        axes.plot(values, places, "o", color=colour, label=f"XQL − {name}")
    titles = [f"{TASKS[task].title} ({len(scores(f'xql@{task}'))} seeds)" for task in COMPARED]
    axes.set_yticks(range(len(COMPARED)), titles)
    axes.invert_yaxis()
    axes.set_xlabel("difference of the normalised scores (points), 95% interval")
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)
    return drawing


def page() -> str:
    """The whole page as Markdown."""
    return filled(TEMPLATE.read_text("utf-8"))


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")
    PICTURE.write_bytes(render(picture()))
