"""A report of runs: one self-contained HTML page, and the same numbers as CSV and LaTeX."""

import hashlib
import importlib
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from xql_jax.errors import UserError
from xql_jax.reports import charts, pictures
from xql_jax.reports.aggregates import (
    MOST_COMPARED,
    SAMPLES,
    Aggregate,
    Estimate,
    Statistics,
    common_block,
    score_matrix,
    statistics_of,
)
from xql_jax.reports.palette import LINES
from xql_jax.reports.results import LeftOut, MemberCurve, Results, RunFacts, Score, score_table, scores_of
from xql_jax.reports.score_table import Entry, csv_table, latex_table

EXTRA = ("rliable", "jinja2")  # packages that the extra xql_jax[report] installs
MOST_IN_A_ROW = 6  # largest number of seeds whose scores are shown without unfolding
RUN_COLUMNS = (
    "run", "dataset", "algorithm", "phase", "status", "step", "max_steps", "unit", "wall_clock_seconds",
    "steps_per_second", "commit", "simulator", "machine", "versions", "resumed", "notes",
)  # fmt: skip


class ScoreRow(NamedTuple):
    """A row in the table of scores."""

    score: Score
    entry: Entry
    best: float


class RunRow(NamedTuple):
    """A run, its number of members (seeds times settings) and its picture."""

    facts: RunFacts
    members: int
    picture: pictures.Picture | None


def check_installed() -> None:
    """Raises UserError if a package that reports need is not installed."""
    for name in EXTRA:
        try:
            importlib.import_module(name)
        except ImportError as error:
            raise UserError(f"reports need {name} ({error}): pip install 'xql_jax[report]'") from error


class Report:
    """The numbers of a report, all computed once, and the files that show them.

    Args:
        title: the folders that the results are from, for the page's head.
        samples: number of bootstrap samples.
    """

    def __init__(self, results: Results, title: str, samples: int = SAMPLES):
        self.title, self.samples = title, samples
        self.scores, doubled = scores_of(results.members)
        self.table = score_table(self.scores)
        self.left_out = [*results.left_out, *doubled]
        self.rows = [ScoreRow(score, score.entry(), _mean_of_best(score)) for score in self.scores]
        self.statistics, self.not_compared = _compared(self.scores, samples)
        by_run: dict[str, list[MemberCurve]] = {}
        for member in results.members:
            by_run.setdefault(member.run.name, []).append(member)
        self.runs = [
            RunRow(run, len(by_run.get(run.name, ())), pictures.run_picture(run, by_run.get(run.name, ())))
            for run in results.runs
        ]

    def files(self, page: str) -> dict[str, str]:
        """Returns the report's files: text by file name."""
        return {
            "index.html": page,
            "scores.csv": self.table.as_csv(with_missing=False),
            "statistics.csv": csv_table(self._statistics_rows()),
            "runs.csv": csv_table([RUN_COLUMNS, *(_run_record(row.facts) for row in self.runs)]),
            "scores.tex": self._latex(),
        }

    def page(self, built: str, is_live: bool = False) -> str:
        """Returns the HTML page, which needs no other file.

        Args:
            built: a sentence that says when the page was made.
            is_live: whether a server shows the page; the page then asks it for updates.
        """
        jinja2: Any = importlib.import_module("jinja2")
        environment = jinja2.Environment(
            loader=jinja2.PackageLoader("xql_jax.reports"),
            autoescape=True,
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        safe = jinja2.utils.markupsafe.Markup  # ElementTree's output is escaped already
        environment.filters |= FILTERS
        environment.globals |= {
            "swatch": lambda style: safe(charts.swatch(style)),
            "interval_bar": lambda estimate, ends: safe(
                charts.interval_bar(estimate.value, estimate.low, estimate.high, ends)
            ),
        }
        environment.filters["svg"] = safe
        return environment.get_template("report.html").render(
            report=self,
            built=built,
            is_live=is_live,
            curves=pictures.learning_curves(self.scores),
            sensitivity=pictures.sensitivity(self.scores),
            profiles=pictures.profiles(self.statistics) if self.statistics else None,
            palette=LINES,
            most_compared=MOST_COMPARED,
            most_in_a_row=MOST_IN_A_ROW,
        )

    def ends(self, name: str) -> tuple[float, float]:
        """Returns the least and the greatest end of the intervals of that aggregate over all methods."""
        estimates = [getattr(aggregate, name) for aggregate in self._aggregates]
        numbers = [n for e in estimates for n in (e.value, e.low, e.high) if not math.isnan(n)]
        return min(numbers, default=0.0), max(numbers, default=1.0)

    def runs_of(self, method: str) -> list[RunFacts]:
        """Returns the runs that the aggregates of a method come from."""
        datasets = self.statistics.datasets if self.statistics else ()
        scores = [s for s in self.scores if s.method == method and s.dataset in datasets]
        return [run for score in scores for run in score.runs]

    @property
    def _aggregates(self) -> Sequence[Aggregate]:
        return self.statistics.aggregates if self.statistics else ()

    def _statistics_rows(self) -> list[Sequence[Any]]:
        """Returns the aggregates and the probabilities of improvement, one row per number."""
        rows: list[Sequence[Any]] = [("statistic", "method", "other", "value", "low_95", "high_95", "seeds")]
        for aggregate in self._aggregates:
            for name in AGGREGATES:
                estimate = getattr(aggregate, name)
                rows.append((name, aggregate.method, "", *_digits(estimate), aggregate.seeds))
        for improvement in self.statistics.improvements if self.statistics else ():
            pair = (improvement.method, improvement.other)
            rows.append(("probability_of_improvement", *pair, *_digits(improvement.probability), ""))
        return rows

    def _latex(self) -> str:
        if not self.statistics:
            return latex_table(self.table.rows())
        rows = [["", *AGGREGATES.values()]]
        for aggregate in self._aggregates:
            estimates = (getattr(aggregate, name) for name in AGGREGATES)
            rows.append([aggregate.method, *map(_with_ends, estimates)])
        on = f"% over {', '.join(self.statistics.datasets)}; 95% intervals by stratified bootstrap"
        on = " ".join(on.split())  # names may hold anything, and the comment must stay on one line
        return f"{latex_table(self.table.rows())}\n{on}\n{latex_table(rows)}"


AGGREGATES = {
    "interquartile_mean": "interquartile mean",
    "mean": "mean",
    "median": "median",
    "optimality_gap": "optimality gap",
}


def _compared(scores: Sequence[Score], samples: int) -> tuple[Statistics | None, list[LeftOut]]:
    """Returns the statistics over the comparable scores, and the reasons why other scores are left out."""
    fit: dict[tuple[str, str], Score] = {}
    reasons: dict[tuple[str, str], str] = {}
    for score in scores:
        place = (score.dataset, score.method)
        if not score.is_finished:
            reasons[place] = score.note
        elif not score.is_normalised:
            reasons[place] = "its score is the return itself: no expert's return is known"
        elif any(math.isnan(member.last) for member in score.shown):
            reasons[place] = "a last score is not finite"
        else:
            fit[place] = score
    datasets, methods = common_block(list(fit))
    for dataset, method in fit:
        if dataset not in datasets:
            reasons[dataset, method] = "too few of the other methods have a score on this dataset"
        elif method not in methods:
            lacking = [name for name in datasets if (name, method) not in fit]
            reasons[dataset, method] = f"the method has no score on {', '.join(lacking)}"
    left_out = [LeftOut(f"{method} on {dataset}", reason) for (dataset, method), reason in reasons.items()]
    if not methods:
        return None, left_out
    matrices = {
        method: score_matrix([[m.last for m in fit[dataset, method].shown] for dataset in datasets])
        for method in methods
    }
    return statistics_of(datasets, matrices, samples), left_out


def _mean_of_best(score: Score) -> float:
    best = [member.best for member in score.shown]
    return sum(best) / len(best)


def _run_record(run: RunFacts) -> list[Any]:
    versions = " ".join(f"{package}={version}" for package, version in run.versions.items())
    times = [_plain(run.wall_clock), _plain(run.rate)]
    return [
        run.name, run.dataset, run.algorithm, run.phase, run.status, run.step, run.max_steps, run.unit,
        *times, run.commit, run.simulator, run.machine, versions, run.resumed, "; ".join(run.warnings),
    ]  # fmt: skip


def _plain(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.6g}"


def _digits(estimate: Estimate) -> tuple[str, str, str]:
    return _plain(estimate.value), _plain(estimate.low), _plain(estimate.high)


def _with_ends(estimate: Estimate) -> str:
    if math.isnan(estimate.low):
        return f"{estimate.value:.1f}"
    return f"{estimate.value:.1f} [{estimate.low:.1f}, {estimate.high:.1f}]"


def _one_decimal(value: float | None) -> str:
    return "–" if value is None else "not finite" if math.isnan(value) else f"{value:.1f}"


def _duration(seconds: float) -> str:
    if math.isnan(seconds):
        return "–"
    hours, rest = divmod(round(seconds), 3600)
    return f"{hours} h {rest // 60:02} min" if hours else f"{rest // 60} min {rest % 60:02} s"


def _rate(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:,.3g}" if value < 100 else f"{value:,.0f}"


def _anchor(name: str, kind: str) -> str:
    """Returns an HTML anchor for a place on the page. It does not change when the page is made again."""
    return f"{kind}-{hashlib.sha256(name.encode(errors='surrogatepass')).hexdigest()[:10]}"


def _sort_key(value: float | None) -> str:
    return "" if value is None or math.isnan(value) else repr(float(value))


FILTERS: Mapping[str, Callable[..., str]] = {
    "score": _one_decimal,
    "estimate": _with_ends,
    "duration": _duration,
    "rate": _rate,
    "anchor": _anchor,
    "key": _sort_key,
}
