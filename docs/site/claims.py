"""Writes docs/claims.md from docs/site/claims.template and docs/results/, and draws its picture.

  python docs/site/claims.py

In the text, {{METHOD@TASK}} becomes the mean of the last scores over seeds with its 95% interval, and
{{METHOD@TASK - METHOD@TASK}} their difference with Welch's, bold where that excludes 0. METHOD@TASK:BETA
has the seeds with that beta. {{area METHOD@TASK}} and {{area METHOD@TASK - METHOD@TASK}} are the same of
the mean score of all evaluations: the area under the learning curve. {{law METHOD@TASK}} is the mean over
seeds of the Gumbel's log-likelihood less the Gaussian's in bellman_errors.csv, with Student's interval.
{{losses TASK CLIP Q}} is the mean of the last scores in losses/scores.csv, and {{losses TASK CLIP Q - CLIP
Q}} the difference of two, with Welch's interval. {{gain FILE STEP}} is the last score less that at the
step, in pairs of seeds, with Student's interval, and {{gain FILE - FILE STEP}} the difference of two, with
Welch's. {{nearer METHOD@TASK}} is in how many of the runs that {{law METHOD@TASK}} is of it is above 0.
{{theory CLAIM: CASE}} is one of theory.csv. {{speed METHOD}} is the mean of its updates per second over
XQL's beside it in speed.csv, with Student's interval. XQL offline is `default@TASK` by the losses that are
its default, and `printed@TASK` by the paper's. Over the tasks of GROUP ({{tasks GROUP}}),
{{GROUP P METHOD - METHOD}} is the probability of improvement, {{GROUP IQM METHOD}} the interquartile mean,
{{GROUP mean METHOD}} the mean, {{GROUP holds METHOD - METHOD}} on how many tasks the difference's interval
is above 0, and {{GROUP Holm METHOD - METHOD}} on how many it stays so after Holm's correction for that number
of tasks. {{rows TASKS: METHODS}} are rows of a table, one for each method. {{moved FILE STEP}} is the mean
score at the step and the last one, {{last FILE}} the last with its interval. {{program WHOSE FILE}} is the
last score of `ours` or `theirs`.
A test compares the page with what this would write.
"""

import csv
import functools
import re
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure
from scipy import stats

from xql_jax.numerics.statistics import mean_and_interval
from xql_jax.pictures.style import BLUE, SOFT, VERMILION, render, styled
from xql_jax.workshop.reports.statistics import AGGREGATES, Statistics, statistics_of

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
    default: str = "xql"  # the method whose runs have the losses of today's default
    printed: str = "xql"  # and those as printed


ONLINE = ("cheetah-run", "walker-run")
TASKS = {
    "maze": Cells("point maze", 30_000, ("pointmaze-umaze-v0/{}", "eight-seeds/pointmaze-umaze-v0_{}")),
    "kitchen": Cells("kitchen", 30_000, ("kitchen-complete-v0/{}", "eight-seeds/kitchen-complete-v0_{}")),
    "kitchen-again": Cells("kitchen", 30_000, ("kitchen-complete-v0-1m/{}_30000",)),
    "kitchen-1m": Cells("kitchen, 1,000,000 updates", 1_000_000, ("kitchen-complete-v0-1m/{}",)),
    "pen": Cells("pen, mixed data", 30_000, ("eight-seeds/pen-human-v1_{}",), printed="xql_printed"),
    "pen-again": Cells("pen, mixed data", 30_000, ("pen-mixed/{}",)),
    "halfcheetah": Cells("halfcheetah", 200_000, ("halfcheetah-medium-replay-200k/{}",), "xql_above"),
    "hopper": Cells("hopper", 200_000, ("hopper-medium-replay-200k/{}",), "xql_above"),
    "maze-3": Cells("point maze", 30_000, ("pointmaze-umaze-v0/{}",)),
    "kitchen-3": Cells("kitchen", 30_000, ("kitchen-complete-v0/{}",)),
    "hopper-30k": Cells("hopper", 30_000, ("hopper-medium-replay/{}",)),
    "cube-3-long": Cells("cube, task 3", 100_000, ("cube-single-play-300k/task3_{}",)),
    "navigate": Cells("pointmaze-medium-navigate", 30_000, ("pointmaze-medium-navigate-300k/{}",)),
    "maze-steps": Cells("point maze", 30_000, ("horizons/pointmaze-umaze-v0_{}",)),
    "cube-2-steps": Cells("cube, task 2", 30_000, ("horizons/cube-single_task2_{}",)),
    "scene-1-steps": Cells("scene, task 1", 30_000, ("horizons/scene_task1_{}",)),
    "walker2d": Cells("walker2d", 200_000, ("walker2d-medium-replay-200k/{}",), "xql_above"),
    "cube-2": Cells("cube, task 2", 30_000, ("cube-single-play-300k/{}",)),
    "cube-3": Cells("cube, task 3", 30_000, ("cube-single-play-300k/task3_{}",)),
    "scene-1": Cells("scene, task 1", 30_000, ("scene-play-300k/task1_{}",)),
    "antmaze-umaze": Cells("antmaze-umaze", 40_000, ("finetune/antmaze-umaze_{}_offline",)),
    "antmaze-medium": Cells("antmaze-medium", 200_000, ("antmaze-medium-diverse/{}",), "xql_above_huber"),
    "antmaze-large": Cells("antmaze-large", 200_000, ("antmaze-large-diverse/{}",)),
    **{task: Cells(task, 100_000, (f"{task}/{{}}",)) for task in ONLINE},
    "betas": Cells("point maze", 10_000, ("stability/pointmaze-umaze-v0/{}",)),
}
# What is aggregated, offline each with XQL, IQL and cloning.
DEFAULT = ("maze", "kitchen", "pen", "halfcheetah", "hopper", "walker2d", "antmaze-medium")
PRINTED = (*DEFAULT, "cube-2", "cube-3", "scene-1")
# What the picture shows besides: other betas than the config's.
BESIDES = (("xql_above_huber_beta_2", "antmaze-medium", "antmaze-medium, β = 2"),)
GROUPS = {
    "default": (DEFAULT, ("default", "iql", "bc")),
    "printed": (PRINTED, ("printed", "iql", "bc")),
    "online": (ONLINE, ("xsac", "sac", "xtd3", "td3", "xtd3_dq", "td3_dq")),
}


def read(name: str) -> list[dict[str, str]]:
    with (RESULTS / f"{name}.csv").open() as file:
        return list(csv.DictReader(file))


def by_seed(rows: list[dict[str, str]], step: int) -> dict[int, float]:
    return {int(row["seed"]): float(row["score"]) for row in rows if int(row["step"]) == step}


def scores(cell: str, *, area: bool = False) -> np.ndarray:
    """Returns f64[seeds], by seed the last score of METHOD@TASK or METHOD@TASK:BETA (area: the mean)."""
    method, task, beta = re.fullmatch(r"(.+)@([^:]+):?(.*)", cell).groups()
    cells, all_seeds = TASKS[task], {}
    method = {"default": cells.default, "printed": cells.printed}.get(method, method)
    for name in cells.files:
        rows = [row for row in read(name.format(method)) if int(row["step"]) <= cells.updates]
        if beta:
            rows = [row for row in rows if row["beta"] == beta]
        steps = {int(row["step"]) for row in rows}
        evaluated = [by_seed(rows, step) for step in (steps if area else {max(steps)})]
        if evaluated[0].keys() & all_seeds.keys():
            raise ValueError(f"{name}: seeds are there twice")
        all_seeds |= {seed: np.mean([of_step[seed] for of_step in evaluated]) for seed in evaluated[0]}
    return np.array([all_seeds[seed] for seed in sorted(all_seeds)])


def at(name: str, step: int | None = None) -> np.ndarray:
    """Returns f64[seeds], by seed the scores at the step; at the last one if none is given."""
    rows = read(name)
    of_step = by_seed(rows, max(int(row["step"]) for row in rows) if step is None else step)
    return np.array([of_step[seed] for seed in sorted(of_step)])


def gains(name: str, start: int) -> np.ndarray:
    """Returns f64[seeds], each seed's last score less that at the step `start`."""
    return at(name) - at(name, start)


def difference(one: np.ndarray, other: np.ndarray) -> tuple[float, float, float]:
    """Returns the difference of the means, and the ends of Welch's 95% interval."""
    interval = stats.ttest_ind(one, other, equal_var=False).confidence_interval(0.95)
    return one.mean() - other.mean(), interval.low, interval.high


def holm(pvalues: np.ndarray) -> np.ndarray:
    """Returns bool[tests], which are significant together at 5% by Holm's step-down procedure."""
    order = np.argsort(pvalues)
    steps = pvalues[order] * np.arange(len(pvalues), 0, -1) <= 0.05
    significant = np.empty(len(pvalues), bool)
    significant[order] = np.logical_and.accumulate(steps)
    return significant


def log_likelihoods(cell: str) -> np.ndarray:
    """Returns f64[seeds], the Gumbel's log-likelihood less the Gaussian's, in nats a Bellman error."""
    of_law: dict[str, list[float]] = {}
    for row in read("bellman_errors"):
        if f"{row['method']}@{row['task']}" == cell:
            of_law.setdefault(row["law"], []).append(float(row["log_likelihood"]))
    return np.array(of_law["Gumbel"]) - np.array(of_law["Gaussian"])


def by_losses(task: str, clip_rule: str, critic_loss: str) -> np.ndarray:
    """Returns f64[seeds], the last scores of XQL with this clip and this loss of Q."""
    setting = {"task": task, "clip_rule": clip_rule, "critic_loss": critic_loss}
    rows = [row for row in read("losses/scores") if setting.items() <= row.items()]
    last = max(int(row["step"]) for row in rows)
    return np.array([float(row["value"]) for row in rows if int(row["step"]) == last])


@functools.cache
def statistics(group: str) -> Statistics:
    """The statistics of a group's methods over its tasks."""
    tasks, methods = GROUPS[group]
    by_method = {method: [scores(f"{method}@{task}") for task in tasks] for method in methods}
    return statistics_of(tasks, by_method, SAMPLES)


def filled(text: str) -> str:
    """Returns the text with every {{...}} replaced."""
    return re.sub(r"\{\{(.+?)\}\}", lambda match: figure(match[1]).replace("-", "−"), text)


def table(tasks: list[str], methods: list[str]) -> str:
    """A row for each method, with its score on each task; empty where it was not run."""
    rows = []
    for method in methods:
        run = [(RESULTS / f"{TASKS[task].files[0].format(method)}.csv").exists() for task in tasks]
        cells = [figure(f"{method}@{task}") if one else "" for task, one in zip(tasks, run, strict=True)]
        rows.append(" | ".join(["", f"`{method}`", *cells, ""]).strip())
    return "\n".join(rows)


def figure(words: str) -> str:
    match words.split():
        case ["rows", *_]:
            tasks, methods = words.removeprefix("rows").split(":")
            return table(tasks.split(), methods.split())
        case ["program", whose, name]:
            rows = [row for row in read(name) if row["program"] == whose]
            last = by_seed(rows, max(int(row["step"]) for row in rows))
            return "{:.1f} ± {:.1f}".format(*mean_and_interval(np.array([*last.values()])))
        case ["tasks", group]:
            return str(len(GROUPS[group][0]))
        case [group, "P", one, "-", other]:
            return "{:.2f} ({:.2f} to {:.2f})".format(*improvement(group, one, other))
        case [group, "holds", one, "-", other]:
            pairs = [(scores(f"{one}@{task}"), scores(f"{other}@{task}")) for task in GROUPS[group][0]]
            return str(sum(difference(*pair)[1] > 0 for pair in pairs))
        case [group, "Holm", one, "-", other]:
            pairs = [(scores(f"{one}@{task}"), scores(f"{other}@{task}")) for task in GROUPS[group][0]]
            significant = holm(np.array([stats.ttest_ind(*pair, equal_var=False).pvalue for pair in pairs]))
            above = np.array([of_one.mean() > of_other.mean() for of_one, of_other in pairs])
            return str(int((significant & above).sum()))
        case [group, ("IQM" | "mean") as aggregate, method]:
            column = AGGREGATES.index("interquartile_mean" if aggregate == "IQM" else aggregate)
            return "{:.1f} ({:.1f} to {:.1f})".format(*statistics(group).aggregates[method][:, column])
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
        case ["losses", task, *one, "-", clip_rule, critic_loss]:
            return changed(*difference(by_losses(task, *one), by_losses(task, clip_rule, critic_loss)))
        case ["losses", task, clip_rule, critic_loss]:
            of_seeds = by_losses(task, clip_rule, critic_loss)
            if len(of_seeds) == 1:
                return f"{of_seeds[0]:.1f}"
            return "{:.1f} ± {:.1f}".format(*mean_and_interval(of_seeds))
        case ["law", cell]:
            mean, half = mean_and_interval(log_likelihoods(cell))
            return changed(mean, mean - half, mean + half, digits=3)
        case ["nearer", cell]:
            gaps = log_likelihoods(cell)
            return f"{(gaps > 0).sum()} of {len(gaps)}"
        case ["gain", one, "-", other, start]:
            return changed(*difference(gains(one, int(start)), gains(other, int(start))))
        case ["moved", name, start]:
            return f"{at(name, int(start)).mean():.1f} → {at(name).mean():.1f}"
        case ["last", name]:
            return "{:.1f} ± {:.1f}".format(*mean_and_interval(at(name)))
        case ["gain", name, start]:
            mean, half = mean_and_interval(gains(name, int(start)))
            return changed(mean, mean - half, mean + half)
        case ["area", one, "-", other]:
            return changed(*difference(scores(one, area=True), scores(other, area=True)))
        case ["area", cell]:
            return "{:.1f} ± {:.1f}".format(*mean_and_interval(scores(cell, area=True)))
        case [one, "-", other]:
            return changed(*difference(scores(one), scores(other)))
        case [cell]:
            return "{:.1f} ± {:.1f}".format(*mean_and_interval(scores(cell)))
    raise ValueError(f"{words}: not a figure")


def changed(value: float, low: float, high: float, digits: int = 1) -> str:
    text = f"{value:+.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"
    return f"**{text}**" if low * high > 0 else text


def improvement(group: str, one: str, other: str) -> tuple[float, float, float]:
    improvements = statistics(group).improvements
    if (one, other) in improvements:
        value, low, high = improvements[one, other]
        return value, low, high
    value, low, high = improvements[other, one]
    return 1 - value, 1 - high, 1 - low


@styled()
def picture() -> Figure:
    """The difference to IQL and to cloning on each task, with its 95% interval."""
    drawn = [*(("default", task, TASKS[task].title) for task in DEFAULT), *BESIDES]
    drawing = Figure(figsize=(7, 0.42 * len(drawn) + 1.2))
    axes = drawing.add_subplot()
    axes.axvline(0, color=SOFT, linewidth=1)
    for other, name, colour, shift in (("iql", "IQL", BLUE, -0.13), ("bc", "cloning", VERMILION, 0.13)):
        places = np.arange(len(drawn)) + shift
        values, lows, highs = np.transpose(
            [difference(scores(f"{xql}@{task}"), scores(f"{other}@{task}")) for xql, task, _ in drawn]
        )
        axes.hlines(places, lows, highs, color=colour)
        axes.plot(values, places, "o", color=colour, label=f"XQL − {name}")
    titles = []
    for xql, task, title in drawn:
        of_xql, of_iql = (str(len(scores(f"{method}@{task}"))) for method in (xql, "iql"))
        titles.append(f"{title} ({of_xql if of_xql == of_iql else f'{of_xql} and {of_iql}'} seeds)")
    axes.set_yticks(range(len(drawn)), titles)
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
