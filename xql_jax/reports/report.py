"""A report of runs: one self-contained HTML page, and the same numbers as CSV, Markdown and LaTeX."""

import base64
import math
from collections.abc import Iterator, Sequence
from importlib import resources

import numpy as np
from matplotlib.figure import Figure

from xql_jax.reports import report_pictures
from xql_jax.reports.method_scores import FoundRuns, RunFacts, method_scores
from xql_jax.reports.printed_tables import PublishedScore, with_published
from xql_jax.reports.score_table import (
    ScoreTable,
    csv_table,
    latex_table,
    markdown_table,
    plain_number,
)
from xql_jax.reports.statistics import AGGREGATES, TuningCurve, compared_scores, tuning_curves
from xql_jax.reports.style import render
from xql_jax.suites.tasks import references_given


class Report:
    """The numbers of a report, all computed once, and the files that show them.

    Args:
        found: runs with the numbers of their evaluations.
        episodes: the same runs with the numbers of single episodes.
        title: the folders of the runs, for the page's head.
        samples: of the bootstrap.
        references: TASK=RANDOM,EXPERT each, which turn returns into scores in tables and statistics.
    """

    def __init__(
        self, found: FoundRuns, episodes: FoundRuns, title: str, samples: int, references: Sequence[str] = ()
    ):
        self.title = title
        self.samples = samples
        self.runs = found.runs
        scores = method_scores(found.members)
        given = references_given(references, {run.dataset for run in found.runs})
        self.scores = [score.scored(given.get(score.dataset)) for score in scores]
        entries = {(score.dataset, score.method): score for score in self.scores}
        methods = sorted({score.method for score in self.scores})
        self.table = ScoreTable(sorted({score.dataset for score in self.scores}), methods, entries)
        self.left_out = list(dict.fromkeys([*found.left_out, *episodes.left_out]))
        self.tuning = list(tuning_curves(method_scores(episodes.members)))
        self.statistics, self.not_compared = compared_scores(self.scores, samples)
        self.aggregates = [["", *(name.replace("_", " ") for name in AGGREGATES)]]
        if self.statistics:
            for method, intervals in self.statistics.aggregates.items():
                self.aggregates.append([method, *map(_with_ends, intervals.T)])

    def files(self, built: str, published: Sequence[PublishedScore] = ()) -> dict[str, str]:
        """Returns the report's files: text by file name.

        Args:
            built: a sentence that says when the report was made.
            published: scores of others, beside which ours are shown.
        """
        rows = with_published(self.table.rows(), published)
        markdown, latex = markdown_table(rows), latex_table(rows)
        if self.statistics:
            on = f"over {', '.join(self.statistics.datasets)}; 95% intervals by stratified bootstrap"
            markdown += f"\n{on}\n\n{markdown_table(self.aggregates)}"
            latex += f"\n% {on}\n{latex_table(self.aggregates)}"
        return {
            "index.html": self._page(built, published),
            "scores.csv": self.table.as_csv(),
            "statistics.csv": csv_table(self._statistics_rows()),
            "tuning.csv": csv_table(_tuning_rows(self.tuning)),
            "runs.csv": csv_table(_run_rows(self.runs)),
            "scores.md": markdown,
            "scores.tex": latex,
        }

    def _page(self, built: str, published: Sequence[PublishedScore]) -> str:
        """Returns the HTML page, which needs no other file. All texts in it are escaped."""
        import jinja2

        environment = jinja2.Environment(
            autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
        )
        environment.filters |= {"score": _one_decimal, "interval": _with_ends, "png": _png}
        template = (resources.files("xql_jax.reports") / "report.html").read_text("utf-8")
        return environment.from_string(template).render(
            report=self,
            built=built,
            published=published,
            curves=report_pictures.learning_curves(self.scores),
            tuning=report_pictures.tuning(self.tuning),
        )

    def _statistics_rows(self) -> Iterator[Sequence[object]]:
        """Yields the header, then the aggregates and the probabilities of improvement, one row per number."""
        yield "statistic", "method", "other", "value", "low_95", "high_95", "seeds"
        if self.statistics:
            for method, intervals in self.statistics.aggregates.items():
                for name, with_ends in zip(AGGREGATES, intervals.T, strict=True):
                    yield name, method, "", *map(plain_number, with_ends), self.statistics.seeds[method]
            for pair, probability in self.statistics.improvements.items():
                yield "probability_of_improvement", *pair, *map(plain_number, probability), ""


def _tuning_rows(curves: Sequence[TuningCurve]) -> Iterator[Sequence[object]]:
    numbers = ("settings", "policies", "episodes", "score", "low_95", "high_95")
    yield "dataset", "phase", "algorithm", *numbers, "quantity"
    for run, apart, *counts, found in curves:
        what = (run.dataset, run.phase, f"{run.algorithm} {apart}".rstrip())
        quantity = "score" if run.is_normalised else "return"
        for number, with_ends in enumerate(found.T, start=1):
            yield *what, *counts, number, *map(plain_number, with_ends), quantity


def _run_rows(runs: Sequence[RunFacts]) -> Iterator[Sequence[object]]:
    columns = ("dataset", "algorithm", "phase", "status", "step", "max_steps", "unit")
    made_by = runs[0].made_by if runs else ()
    yield "run", *columns, "wall_clock_seconds", "steps_per_second", "notes", *made_by
    for run in runs:
        facts = (getattr(run, column) for column in columns)
        times = plain_number(run.seconds), plain_number(run.rate)
        yield run.name, *facts, *times, "; ".join(run.warnings), *run.made_by.values()


def _with_ends(with_ends: np.ndarray, digits: int = 1) -> str:
    value, low, high = (f"{number:.{digits}f}" for number in with_ends)
    return value if low == "nan" else f"{value} [{low}, {high}]"


def _png(figure: Figure) -> str:
    return base64.b64encode(render(figure, dpi=120)).decode()


def _one_decimal(value: float | None) -> str:
    if value is None:
        return "–"
    return "not finite" if math.isnan(value) else f"{value:.1f}"
