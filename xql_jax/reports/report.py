"""A report of runs: one self-contained HTML page, and the same numbers as CSV, Markdown and LaTeX."""

import math
from collections.abc import Sequence
from importlib import resources
from typing import Any

from xql_jax.errors import needing
from xql_jax.reports import pictures
from xql_jax.reports.aggregates import (
    SAMPLES,
    Estimate,
    Statistics,
    common_block,
    score_matrix,
    statistics_of,
)
from xql_jax.reports.results import LeftOut, Results, RunFacts, Score, score_table, scores_of
from xql_jax.reports.score_table import csv_table, latex_table, markdown_table

RUN_COLUMNS = (
    "run", "dataset", "algorithm", "phase", "status", "step", "max_steps", "unit", "wall_clock_seconds",
    "steps_per_second", "commit", "simulator", "machine", "versions", "resumed", "notes",
)  # fmt: skip
AGGREGATES = {
    "interquartile_mean": "interquartile mean",
    "mean": "mean",
    "median": "median",
    "optimality_gap": "optimality gap",
}


def check_installed() -> None:
    """Raises UserError if a package that reports need is not installed."""
    with needing("a report", "report"):
        import jinja2  # noqa: F401
        import rliable  # noqa: F401


class Report:
    """The numbers of a report, all computed once, and the files that show them.

    Args:
        title: the folders that the results are from, for the page's head.
        samples: number of bootstrap samples.
    """

    def __init__(self, results: Results, title: str, samples: int = SAMPLES):
        self.title, self.samples, self.runs = title, samples, results.runs
        self.scores, doubled = scores_of(results.members)
        self.table = score_table(self.scores)
        self.left_out = [*results.left_out, *doubled]
        self.statistics, self.not_compared = _compared(self.scores, samples)

    def files(self, built: str) -> dict[str, str]:
        """Returns the report's files: text by file name.

        Args:
            built: a sentence that says when the report was made.
        """
        rows = self.table.rows()
        aggregates = self._aggregate_rows()
        on = f"over {', '.join(self.statistics.datasets)}" if self.statistics else ""
        on = " ".join(f"{on}; 95% intervals by stratified bootstrap".split())  # names may hold line breaks
        with_statistics = bool(self.statistics)
        return {
            "index.html": self._page(built),
            "scores.csv": self.table.as_csv(with_missing=False),
            "statistics.csv": csv_table(self._statistics_rows()),
            "runs.csv": csv_table([RUN_COLUMNS, *map(_run_record, self.runs)]),
            "scores.md": markdown_table(rows)
            + (f"\n{on}\n\n{markdown_table(aggregates)}" if with_statistics else ""),
            "scores.tex": latex_table(rows)
            + (f"\n% {on}\n{latex_table(aggregates)}" if with_statistics else ""),
        }

    def _page(self, built: str) -> str:
        """Returns the HTML page, which needs no other file. All texts in it are escaped."""
        import jinja2

        environment = jinja2.Environment(
            autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
        )
        environment.filters |= {"score": _one_decimal, "interval": _with_ends, "duration": _duration}
        template = (resources.files("xql_jax.reports") / "report.html").read_text("utf-8")
        return environment.from_string(template).render(
            report=self,
            built=built,
            curves=pictures.learning_curves(self.scores),
            sensitivity=pictures.sensitivity(self.scores),
            profiles=[pictures.profiles(self.statistics)] if self.statistics else [],
            aggregates=self._aggregate_rows(),
        )

    def _aggregate_rows(self) -> list[list[str]]:
        """Returns the aggregates as text, the header first."""
        rows = [["", *AGGREGATES.values()]]
        for aggregate in self.statistics.aggregates if self.statistics else ():
            rows.append([aggregate.method, *(_with_ends(getattr(aggregate, name)) for name in AGGREGATES)])
        return rows

    def _statistics_rows(self) -> list[Sequence[Any]]:
        """Returns the aggregates and the probabilities of improvement, one row per number."""
        rows: list[Sequence[Any]] = [("statistic", "method", "other", "value", "low_95", "high_95", "seeds")]
        for aggregate in self.statistics.aggregates if self.statistics else ():
            for name in AGGREGATES:
                digits = map(_plain, getattr(aggregate, name))
                rows.append((name, aggregate.method, "", *digits, aggregate.seeds))
        for pair in self.statistics.improvements if self.statistics else ():
            digits = map(_plain, pair.probability)
            rows.append(("probability_of_improvement", pair.method, pair.other, *digits, ""))
        return rows


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


def _run_record(run: RunFacts) -> list[Any]:
    versions = " ".join(f"{package}={version}" for package, version in run.versions.items())
    times = [_plain(run.wall_clock), _plain(run.rate)]
    return [
        run.name, run.dataset, run.algorithm, run.phase, run.status, run.step, run.max_steps, run.unit,
        *times, run.commit, run.simulator, run.machine, versions, run.resumed, "; ".join(run.warnings),
    ]  # fmt: skip


def _plain(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.6g}"


def _with_ends(estimate: Estimate, digits: int = 1) -> str:
    value, low, high = (f"{number:.{digits}f}" for number in estimate)
    return value if math.isnan(estimate.low) else f"{value} [{low}, {high}]"


def _one_decimal(value: float | None) -> str:
    return "–" if value is None else "not finite" if math.isnan(value) else f"{value:.1f}"


def _duration(seconds: float) -> str:
    if math.isnan(seconds):
        return "–"
    hours, rest = divmod(round(seconds), 3600)
    return f"{hours} h {rest // 60:02} min" if hours else f"{rest // 60} min {rest % 60:02} s"
