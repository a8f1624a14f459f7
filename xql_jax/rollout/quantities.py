"""The quantities of an evaluation. Each is declared once, in `QUANTITIES`.

The declarations decide the columns of evaluations.csv and episodes.csv, the entries of summary.json and of
`xql-evaluate --output`, the numbers that are printed, and the choices of `xql-report --quantity`.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from xql_jax.envs.vector import UNKNOWN_SUCCESS, VectorStep, failure
from xql_jax.numerics.statistics import mean_and_interval, success_of
from xql_jax.suites.tasks import Task
from xql_jax.types import Json

# From the numbers f64[N] of N episodes before a step, and the step, to the numbers f64[N] after it.
Read = Callable[[np.ndarray, VectorStep], np.ndarray]
# From a task, and other quantities' numbers by name, to numbers of the same shape.
Compute = Callable[[Task, Mapping[str, np.ndarray]], np.ndarray]
# Columns and keys of other meanings, which stand beside quantities.
RESERVED = ("step", "seed", "seconds", "diverged_at", "episode", "episodes", "member", "setting", "diverged")


def shown(score: float) -> str:
    """Returns a score or a return as text: with one decimal, or with three digits if it is below 1."""
    text = f"{score:.1f}" if abs(score) >= 1 else f"{score:.3g}"
    return "0.0" if float(text) == 0 else text


def mean_of_known(numbers: np.ndarray) -> np.ndarray:
    """Returns the means f64[M] of [M, E] over the episodes whose number is not NaN; NaN if all are."""
    known = ~np.isnan(numbers)
    if known.all():
        return numbers.mean(axis=1)
    with np.errstate(invalid="ignore"):
        return np.where(known, numbers, 0.0).sum(axis=1) / known.sum(axis=1)


def mean_over_seeds(name: str, means: Sequence[float] | np.ndarray, episodes: int = 0) -> Json:
    """Returns the mean over seeds, the half-width of its 95% interval (None: one seed), each seed's mean."""
    mean, half_width = map(float, mean_and_interval(np.asarray(means)))
    interval = None if math.isnan(half_width) else half_width
    return {name: mean, f"{name}_interval_95": interval, f"{name}_by_seed": np.asarray(means).tolist()}


def rate_over_seeds(name: str, rates: Sequence[float], episodes: int) -> Json:
    """Returns the rate over the episodes of all seeds, and both ends of Wilson's 95% interval."""
    success = success_of(rates, [episodes] * len(rates))
    return {f"{name}_rate": success[0], f"{name}_interval_95": [*success[1:]]} if success else {}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Quantity:
    """A number of each episode and, of an evaluation, its mean over the episodes.

    The number is read step by step, or computed from other quantities. NaN says that it is not known.
    """

    name: str  # its column in evaluations.csv
    column: str = ""  # its column in episodes.csv; "": the name
    listed: str = ""  # the key of the episodes' numbers in `xql-evaluate --output`; "": NAME_by_episode
    label: str = ""  # before it in printed lines; "": the name
    shown: Callable[[float], str] = shown  # as text in these lines

    read: Read | None = None
    start: float = math.nan  # the number that `read` gets in an episode's first step
    compute: Compute | None = None  # instead of `read`
    # From the numbers [M, E] of E episodes to their means f64[M]. None: computed from the others' means.
    mean: Callable[[np.ndarray], np.ndarray] | None = mean_of_known
    # From last_COLUMN, the seeds' means at the last evaluation and the number of its episodes, to entries of
    # summary.json. None: it is not there, nor in the lines that a training prints.
    over_seeds: Callable[[str, Sequence[float], int], Json] | None = mean_over_seeds
    # Whether there are tasks, or evaluations, of which no episode tells it. There it is NaN in CSV files,
    # None in JSON, and in no line. Else this is an error.
    may_lack: bool = False

    def in_words(self, mean: float, interval: Sequence[float] | float | None = None) -> str:
        """Returns a mean as printed lines have it: `success 80.0% [49.0%, 94.3%]`; see `with_interval`."""
        return f"{self.label} {self.with_interval(mean, interval)}"

    def with_interval(self, mean: float, interval: Sequence[float] | float | None) -> str:
        """Returns a mean as text, with both ends of its interval, or half its width, if there is any."""
        if isinstance(interval, Sequence):
            return f"{self.shown(mean)} [{', '.join(map(self.shown, interval))}]"
        return self.shown(mean) + (f" ± {self.shown(interval)}" if interval is not None else "")

    def __post_init__(self) -> None:
        if not self.name.isidentifier() or self.name in RESERVED:
            raise ValueError(
                f"quantity {self.name!r}: its name must be an identifier, and none of {RESERVED}"
            )
        if (self.read is None) == (self.compute is None):
            raise ValueError(f"quantity {self.name}: give either read or compute")
        names = {"column": self.name, "listed": f"{self.name}_by_episode", "label": self.name}
        for field, default in names.items():
            object.__setattr__(self, field, getattr(self, field) or default)


def latest(before: np.ndarray, now: np.ndarray) -> np.ndarray:
    return np.where(np.isnan(now), before, now)


def in_info(name: str, combine: Callable[[np.ndarray, np.ndarray], np.ndarray] = latest) -> Read:
    """Returns how a number in the `info` of environments is read: the latest number of an episode.

    `combine` makes something else of the numbers f64[N] before and in the step, which are NaN where there
    is none: `np.fmax` the largest, `np.fmin` the least. EnvironmentFailure if what is there is no number.
    """

    def read(before: np.ndarray, step: VectorStep) -> np.ndarray:
        numbers = [_number_in(info, name, index) for index, info in enumerate(step.infos)]
        return combine(before, np.array(numbers))

    return read


def _number_in(info: Mapping[str, object], name: str, index: int) -> float:
    value = info.get(name)
    if value is None:
        return math.nan
    array = np.asarray(value)
    if array.size != 1 or array.dtype.kind not in "biuf":
        raise failure(index, f"its {name} in info must be a number, and is {value!r:.80}")
    return float(array.item())


# By name, in the order of columns. Each reader of evaluations takes them from here.
QUANTITIES: dict[str, Quantity] = {
    quantity.name: quantity
    for quantity in (
        Quantity(
            name="return",
            listed="returns",
            shown="{:.4g}".format,
            read=lambda before, step: step.returns,
            over_seeds=None,  # the score says it
        ),
        Quantity(
            name="score",
            listed="scores",
            compute=lambda task, others: task.normalized_score(others["return"], others.get("success_rate")),
            mean=None,
            over_seeds=None,  # the result itself, which has more entries: see runs/summary.py
        ),
        Quantity(
            name="length",
            listed="lengths",
            shown="{:.1f}".format,
            read=lambda before, step: step.lengths,
            over_seeds=None,
        ),
        Quantity(
            name="success_rate",
            column="success",
            listed="successes",
            label="success",
            shown="{:.1%}".format,
            read=lambda before, step: np.where(step.successes == UNKNOWN_SUCCESS, np.nan, step.successes),
            over_seeds=rate_over_seeds,
            may_lack=True,
        ),
    )
}


def declare(quantity: Quantity) -> None:
    """Adds a quantity to the evaluations of this process, or replaces the quantity of its name."""
    QUANTITIES[quantity.name] = quantity


@dataclasses.dataclass(frozen=True)
class EpisodeResults:
    """The results of E episodes of each of M members (policies evaluated together)."""

    returns: np.ndarray  # f64[M, E], undiscounted, in the task's own reward units
    lengths: np.ndarray  # i64[M, E], steps
    successes: np.ndarray | None  # bool[M, E]; None if no environment has ever said
    others: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)  # f64[M, E], by name

    def numbers(self, task: Task) -> dict[str, np.ndarray]:
        """Returns the episodes' numbers [M, E] by quantity; without success if none has ever been told."""
        known = {"return": self.returns, "length": self.lengths, **self.others}
        if self.successes is not None:
            known["success_rate"] = self.successes
        return _with_computed(task, known)

    def columns(self, task: Task) -> dict[str, np.ndarray]:
        """Returns the columns [M, E] of episodes.csv: the episode's number, and the quantities."""
        numbers = {QUANTITIES[name].column: 1 * of_all for name, of_all in self.numbers(task).items()}
        return {"episode": np.indices(self.returns.shape)[1], **numbers}

    def means(self, task: Task) -> dict[str, list[float]]:
        """Returns by quantity each member's mean over the episodes."""
        averages = {name: QUANTITIES[name].mean for name in QUANTITIES}
        known = {
            name: average(numbers)
            for name, numbers in self.numbers(task).items()
            if (average := averages[name]) is not None
        }
        return {name: np.asarray(mean).tolist() for name, mean in _with_computed(task, known).items()}


def _with_computed(task: Task, known: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    means = dict(known)
    for name, quantity in QUANTITIES.items():
        if quantity.compute and name not in known:
            means[name] = quantity.compute(task, means)
    return {name: means[name] for name in QUANTITIES if name in means}
