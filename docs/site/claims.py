"""Writes docs/claims.md from docs/site/claims.template and docs/results/, and draws its picture.

  python docs/site/claims.py

In the template, {{NAME ARGUMENT ...}} becomes what the function NAME of CELLS returns for these arguments:
{{score iql maze}} is IQL's score on the point maze. A test compares the page with what this writes.

A METHOD is the name of its CSV file; METHOD:BETA has the rows with that beta. XQL offline is `default` with
the losses that are a task's default, and `printed` with the paper's. A TASK is a key of TASKS, a GROUP one of
GROUPS, a FILE a path below docs/results/ without its suffix.
"""

import csv
import functools
import re
from collections.abc import Callable
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


class Task(NamedTuple):
    """Where the scores of a task's methods are."""

    title: str
    updates: int  # the evaluation that counts is the last one up to this
    files: tuple[str, ...]  # {} is the method; the seeds of all count
    default: str = "xql"  # the method whose runs have the losses of today's default
    printed: str = "xql"  # and those as printed


ONLINE = ("cheetah-run", "walker-run")
COMPARED_ON = ("maze", "relocate", "kitchen")  # files on which values of V's nats were compared
ALONE = {  # files without a task
    "maze": "point maze", "relocate": "relocate", "hammer": "hammer", "pen": "pen",
    "kitchen": "the kitchen's", "halfcheetah": "halfcheetah's replay", "walker2d": "walker2d's replay",
}  # fmt: skip
LARGE = {"antmaze": "AntMaze medium", "cube": "cube, task 2", "scene": "scene, task 1"}  # with three seeds
TASKS = {
    "maze": Task("point maze", 30_000, ("pointmaze-umaze-v0/{}", "eight-seeds/pointmaze-umaze-v0_{}")),
    "kitchen": Task("kitchen", 30_000, ("kitchen-complete-v0/{}", "eight-seeds/kitchen-complete-v0_{}")),
    "kitchen-1m": Task("kitchen, 1,000,000 updates", 1_000_000, ("kitchen-complete-v0-1m/{}",)),
    "pen": Task("pen, mixed data", 30_000, ("eight-seeds/pen-human-v1_{}",), printed="xql_printed"),
    "pen-again": Task("pen, mixed data", 30_000, ("pen-mixed/{}",)),
    "halfcheetah": Task("halfcheetah", 200_000, ("halfcheetah-medium-replay-200k/{}",), "xql_above"),
    "hopper": Task("hopper", 200_000, ("hopper-medium-replay-200k/{}",), "xql_above"),
    "walker2d": Task("walker2d", 200_000, ("walker2d-medium-replay-200k/{}",), "xql_above"),
    "maze-3": Task("point maze", 30_000, ("pointmaze-umaze-v0/{}",)),
    "kitchen-3": Task("kitchen", 30_000, ("kitchen-complete-v0/{}",)),
    "hopper-30k": Task("hopper", 30_000, ("hopper-medium-replay/{}",)),
    "cube-2": Task("cube, task 2", 30_000, ("cube-single-play-300k/{}",)),
    "cube-3": Task("cube, task 3", 30_000, ("cube-single-play-300k/task3_{}",)),
    "cube-3-long": Task("cube, task 3", 100_000, ("cube-single-play-300k/task3_{}",)),
    "scene-1": Task("scene, task 1", 30_000, ("scene-play-300k/task1_{}",)),
    "navigate": Task("pointmaze-medium-navigate", 30_000, ("pointmaze-medium-navigate-300k/{}",)),
    "maze-steps": Task("point maze", 30_000, ("horizons/pointmaze-umaze-v0_{}",)),
    "cube-2-steps": Task("cube, task 2", 30_000, ("horizons/cube-single_task2_{}",)),
    "scene-1-steps": Task("scene, task 1", 30_000, ("horizons/scene_task1_{}",)),
    "antmaze-umaze": Task("antmaze-umaze", 40_000, ("finetune/antmaze-umaze_{}_offline",)),
    "antmaze-medium": Task("antmaze-medium", 200_000, ("antmaze-medium-diverse/{}",), "xql_above_huber"),
    "antmaze-large": Task("antmaze-large", 200_000, ("antmaze-large-diverse/{}",)),
    **{task: Task(task, 100_000, (f"{task}/{{}}",)) for task in ONLINE},
    **{
        f"alone-{file}": Task(title, 20_000, (f"files-alone/{file}_{{}}",))
        for file, title in {**ALONE, **LARGE}.items()
    },
    **{f"tuning-{file}": Task(file, 20_000, (f"files-alone-tuning/{file}_{{}}",)) for file in COMPARED_ON},
    "betas": Task("point maze", 10_000, ("stability/pointmaze-umaze-v0/{}",)),
}
# What is aggregated, offline each with XQL, IQL and cloning.
DEFAULT = ("maze", "kitchen", "pen", "halfcheetah", "hopper", "walker2d", "antmaze-medium")
PRINTED = (*DEFAULT, "cube-2", "cube-3", "scene-1")
# What the picture shows besides: other betas than the config's.
BESIDES = (("xql_above_huber_beta_2", "antmaze-medium", "antmaze-medium, β = 2"),)
GROUPS = {
    "default": (DEFAULT, ("default", "iql", "bc")),
    "printed": (PRINTED, ("printed", "iql", "bc")),
    "alone": (tuple(f"alone-{file}" for file in ALONE), ("xql", "iql", "bc", "bc_best")),
    "alone-all": (tuple(f"alone-{file}" for file in (*ALONE, *LARGE)), ("xql", "iql")),
    "online": (ONLINE, ("xsac", "sac", "xtd3", "td3", "xtd3_dq", "td3_dq")),
}

# The numbers.


def read(name: str) -> list[dict[str, str]]:
    with (RESULTS / f"{name}.csv").open() as file:
        return list(csv.DictReader(file))


def by_seed(rows: list[dict[str, str]], step: int) -> dict[int, float]:
    return {int(row["seed"]): float(row["score"]) for row in rows if int(row["step"]) == step}


def scores(method: str, task: str, *, area: bool = False) -> np.ndarray:
    """Returns f64[seeds], in the order of the seeds; see `of_seeds`."""
    by_seed = of_seeds(method, task, area=area)
    return np.array([by_seed[seed] for seed in sorted(by_seed)])


def of_seeds(method: str, task: str, *, area: bool = False) -> dict[int, float]:
    """Returns by seed the last score (area: the mean score of all evaluations)."""
    name, _, beta = method.partition(":")
    where, all_seeds = TASKS[task], {}
    name = {"default": where.default, "printed": where.printed}.get(name, name)
    for file in where.files:
        rows = [row for row in read(file.format(name)) if int(row["step"]) <= where.updates]
        if beta:
            rows = [row for row in rows if row["beta"] == beta]
        steps = {int(row["step"]) for row in rows}
        evaluated = [by_seed(rows, step) for step in (steps if area else {max(steps)})]
        if evaluated[0].keys() & all_seeds.keys():
            raise ValueError(f"{file}: seeds are there twice")
        all_seeds |= {seed: np.mean([of_step[seed] for of_step in evaluated]) for seed in evaluated[0]}
    return all_seeds


def at(file: str, step: int | None = None, **chosen: str) -> np.ndarray:
    """Returns f64[seeds], by seed the scores of the chosen rows at the step (default: the last one)."""
    rows = [row for row in read(file) if chosen.items() <= row.items()]
    of_step = by_seed(rows, max(int(row["step"]) for row in rows) if step is None else step)
    return np.array([of_step[seed] for seed in sorted(of_step)])


def gains(file: str, start: str) -> np.ndarray:
    """Returns f64[seeds], each seed's last score less that at the step `start`."""
    return at(file) - at(file, int(start))


def difference(one: np.ndarray, other: np.ndarray) -> tuple[float, float, float]:
    """Returns the difference of the means, and the ends of Welch's 95% interval."""
    interval = stats.ttest_ind(one, other, equal_var=False).confidence_interval(0.95)
    return one.mean() - other.mean(), interval.low, interval.high


def significant_together(pvalues: np.ndarray) -> np.ndarray:
    """Returns bool[tests], which are significant together at 5% by Holm's step-down procedure."""
    order = np.argsort(pvalues)
    steps = pvalues[order] * np.arange(len(pvalues), 0, -1) <= 0.05
    significant = np.empty(len(pvalues), bool)
    significant[order] = np.logical_and.accumulate(steps)
    return significant


def likelihoods(**chosen: str) -> dict[str, np.ndarray]:
    """Returns by law f64[runs], the log-likelihood of the runs' Bellman errors in nats an error."""
    of_law: dict[str, list[float]] = {}
    for row in read("bellman_errors"):
        if chosen.items() <= row.items():
            of_law.setdefault(row["law"], []).append(float(row["log_likelihood"]))
    return {law: np.array(values) for law, values in of_law.items()}


def advantage_of_gumbel(method: str, task: str) -> np.ndarray:
    """Returns f64[seeds], the Gumbel's log-likelihood less the Gaussian's."""
    of_law = likelihoods(method=method, task=task)
    return of_law["Gumbel"] - of_law["Gaussian"]


def by_losses(task: str, clip_rule: str, critic_loss: str) -> np.ndarray:
    """Returns f64[seeds], the last scores of XQL with this clip and this loss of Q."""
    chosen = {"task": task, "clip_rule": clip_rule, "critic_loss": critic_loss}
    rows = [row for row in read("losses/scores") if chosen.items() <= row.items()]
    last = max(int(row["step"]) for row in rows)
    return np.array([float(row["value"]) for row in rows if int(row["step"]) == last])


@functools.cache
def statistics(group: str) -> Statistics:
    """The statistics of a group's methods over its tasks."""
    tasks, methods = GROUPS[group]
    by_method = {method: [scores(method, task) for task in tasks] for method in methods}
    return statistics_of(tasks, by_method, SAMPLES)


def pairs(group: str, one: str, other: str) -> list[tuple[np.ndarray, np.ndarray]]:
    return [(scores(one, task), scores(other, task)) for task in GROUPS[group][0]]


# Their texts.


def interval(values: np.ndarray) -> str:
    """The mean over seeds with Student's 95% interval."""
    if len(values) == 1:
        return f"{values[0]:.1f}"
    return "{:.1f} ± {:.1f}".format(*mean_and_interval(values))


def change(value: float, low: float, high: float, digits: int = 1) -> str:
    """A difference with its interval, bold where that excludes 0."""
    text = f"{value:+.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"
    return f"**{text}**" if low * high > 0 else text


def gap(one: np.ndarray, other: np.ndarray) -> str:
    """The one mean less the other, with Welch's interval."""
    return change(*difference(one, other))


def change_of(values: np.ndarray, digits: int = 1) -> str:
    """The mean of differences of pairs, with Student's interval."""
    mean, half = mean_and_interval(values)
    return change(mean, mean - half, mean + half, digits)


def whole(values: np.ndarray) -> str:
    return ", ".join(f"{value:.0f}" for value in values)


def above(group: str, one: str, other: str) -> str:
    """The probability that a run of the one method is above one of the other, with its interval."""
    improvements = statistics(group).improvements
    if (one, other) in improvements:
        value, low, high = improvements[one, other]
    else:
        value, high, low = (1 - number for number in improvements[other, one])
    return f"{value:.2f} ({low:.2f} to {high:.2f})"


def aggregate(name: str, group: str, method: str) -> str:
    column = AGGREGATES.index(name)
    return "{:.1f} ({:.1f} to {:.1f})".format(*statistics(group).aggregates[method][:, column])


def holds(group: str, one: str, other: str) -> str:
    """On how many tasks the one is above the other by Welch's interval."""
    return str(sum(difference(*pair)[1] > 0 for pair in pairs(group, one, other)))


def on_common_seeds(methods: str, task: str) -> dict[str, np.ndarray]:
    """Returns by method f64[seeds], the scores of the seeds that all of these methods have."""
    every = {method: of_seeds(method, task) for method in methods.split(",")}
    common = sorted(set.intersection(*map(set, every.values())))
    return {method: np.array([by_seed[seed] for seed in common]) for method, by_seed in every.items()}


def bests(task: str, *sides: str) -> list[np.ndarray]:
    """Returns for each side, methods with commas, the scores of the one with the largest mean."""
    every = on_common_seeds(",".join(sides), task)
    return [max((every[method] for method in side.split(",")), key=np.mean) for side in sides]


def best_holds(group: str, ones: str, others: str) -> str:
    """On how many tasks the best of the ones is above the best of the others by Welch's interval."""
    return str(sum(difference(*bests(task, ones, others))[1] > 0 for task in GROUPS[group][0]))


def best_rows(group: str, ones: str, others: str) -> str:
    """A row for each task: the scores of all methods, and the best of the ones less that of the others."""
    lines = []
    for task in GROUPS[group][0]:
        texts = map(interval, on_common_seeds(f"{ones},{others}", task).values())
        cells = (TASKS[task].title, *texts, gap(*bests(task, ones, others)))
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def holm(group: str, one: str, other: str) -> str:
    """On how many tasks it is after Holm's correction for their number."""
    compared = pairs(group, one, other)
    pvalues = np.array([stats.ttest_ind(*pair, equal_var=False).pvalue for pair in compared])
    are_above = np.array([of_one.mean() > of_other.mean() for of_one, of_other in compared])
    return str(int((significant_together(pvalues) & are_above).sum()))


def rows(tasks: str, methods: str) -> str:
    """A row of scores for each method, in the order of the tasks; empty where it was not run."""
    lines = []
    for method in methods.split(","):
        files = {task: RESULTS / f"{TASKS[task].files[0].format(method)}.csv" for task in tasks.split(",")}
        texts = [interval(scores(method, task)) if file.exists() else "" for task, file in files.items()]
        lines.append(" | ".join(["", f"`{method}`", *texts, ""]).strip())
    return "\n".join(lines)


def scaled(*cure: str) -> str:
    """Mean scores by the factor of the rewards; in parentheses how many seeds' V ran away."""
    texts = []
    for scale in ("0.01", "0.1", "1.0", "10.0", "100.0"):
        chosen = {"dataset": "pointmaze-umaze-v0", "cure": " ".join(cure), "scale": scale}
        seeds = [row for row in read("stability/reward_scales") if chosen.items() <= row.items()]
        away = sum(row["ended"] != "held" for row in seeds)
        texts.append(
            f"{np.mean([float(row['score']) for row in seeds]):.0f}" + (f" ({away})" if away else "")
        )
    return " | ".join(texts)


def v(method: str, step: str) -> str:
    """V on AntMaze medium at a step, by seed."""
    name, _, beta = method.partition(":")
    chosen = {"method": name, "beta": beta, "step": step}
    of_seeds = [row for row in read("antmaze-medium-diverse/values_200k") if chosen.items() <= row.items()]
    return whole(np.array([float(row["value_mean"]) for row in of_seeds]))


def speed(method: str) -> str:
    """The method's updates per second over those of XQL beside it."""
    turns = [row for row in read("speed") if row["method"] == method]
    ratios = [float(turn["updates_per_second"]) / float(turn["of_xql"]) for turn in turns]
    return "{:.2f} ± {:.2f}".format(*mean_and_interval(np.array(ratios)))


def theory(claim: str, *case: str) -> str:
    return {(row["claim"], row["case"]): row["value"] for row in read("theory")}[claim, " ".join(case)]


def nearer(method: str, task: str) -> str:
    """In how many runs the Gumbel is nearer to the errors than the Gaussian."""
    gaps = advantage_of_gumbel(method, task)
    return f"{(gaps > 0).sum()} of {len(gaps)}"


def logistic() -> str:
    """In how many of all runs a logistic law is nearer than both."""
    of_law = likelihoods()
    nearest = of_law["logistic"] > np.maximum(of_law["Gumbel"], of_law["Gaussian"])
    return f"{nearest.sum()} of all {len(nearest)}"


def moved(file: str, start: str) -> str:
    return f"{at(file, int(start)).mean():.1f} → {at(file).mean():.1f}"


CELLS: dict[str, Callable[..., str]] = {
    # METHOD TASK: the last score, the mean of all evaluations (the area under the curve), each seed's score
    "score": lambda *run: interval(scores(*run)),
    "area": lambda *run: interval(scores(*run, area=True)),
    "each": lambda *run: whole(scores(*run)),
    # METHOD METHOD TASK: the first less the second, with Welch's interval
    "gap": lambda one, other, task: gap(scores(one, task), scores(other, task)),
    "area_gap": lambda one, other, task: gap(scores(one, task, area=True), scores(other, task, area=True)),
    "best_rows": best_rows,  # GROUP METHODS METHODS, each with commas
    "best_holds": best_holds,  # likewise
    "rows": rows,  # TASKS METHODS, each with commas
    # GROUP, GROUP METHOD, GROUP METHOD METHOD
    "tasks": lambda group: str(len(GROUPS[group][0])),
    "mean": functools.partial(aggregate, "mean"),
    "iqm": functools.partial(aggregate, "interquartile_mean"),
    "above": above,
    "holds": holds,
    "holm": holm,
    # TASK CLIP LOSS: XQL with this clip and this loss of Q; the clip from above less that on both sides
    "losses": lambda *losses: interval(by_losses(*losses)),
    "clip": lambda task, loss: gap(by_losses(task, "above", loss), by_losses(task, "both", loss)),
    # METHOD TASK, online: how much likelier the Gumbel makes the Bellman errors than the Gaussian
    "law": lambda *run: change_of(advantage_of_gumbel(*run), digits=3),
    "nearer": nearer,
    "logistic": logistic,
    # FILE STEP, of fine-tuning: the mean score there and the last; the gain by pairs of seeds
    "moved": moved,
    "gain": lambda file, start: change_of(gains(file, start)),
    "gain_gap": lambda one, other, start: gap(gains(one, start), gains(other, start)),
    # FILE: the last score; of this project and of the other program
    "last": lambda file: interval(at(file)),
    "ours": lambda file: interval(at(file, program="ours")),
    "theirs": lambda file: interval(at(file, program="theirs")),
    "scaled": scaled,  # CURE
    "v": v,  # METHOD STEP
    "speed": speed,  # METHOD
    "theory": theory,  # CLAIM CASE
}


def cell(words: str) -> str:
    name, *arguments = words.split()
    return CELLS[name](*arguments).replace("-", "−")


def page() -> str:
    """The whole page as Markdown."""
    text = TEMPLATE.read_text("utf-8")
    # DOTALL: a cell may go on in the next line.
    return re.sub(r"\{\{(.+?)\}\}", lambda match: cell(match[1]), text, flags=re.DOTALL)


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
            [difference(scores(xql, task), scores(other, task)) for xql, task, _ in drawn]
        )
        axes.hlines(places, lows, highs, color=colour)
        axes.plot(values, places, "o", color=colour, label=f"XQL − {name}")
    titles = []
    for xql, task, title in drawn:
        of_xql, of_iql = (str(len(scores(method, task))) for method in (xql, "iql"))
        titles.append(f"{title} ({of_xql if of_xql == of_iql else f'{of_xql} and {of_iql}'} seeds)")
    axes.set_yticks(range(len(drawn)), titles)
    axes.invert_yaxis()
    axes.set_xlabel("difference of the normalised scores (points), 95% interval")
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)
    return drawing


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")
    PICTURE.write_bytes(render(picture()))
