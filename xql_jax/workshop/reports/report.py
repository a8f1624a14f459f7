"""A report of runs: one self-contained HTML page, and the same numbers as CSV, Markdown and LaTeX."""

import base64
import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from importlib import resources

import numpy as np

from xql_jax.pictures.style import render
from xql_jax.runs.load import Run
from xql_jax.suites.tasks import references_given
from xql_jax.workshop.reports import report_pictures
from xql_jax.workshop.reports.method_scores import method_scores
from xql_jax.workshop.reports.read_runs import FoundRuns
from xql_jax.workshop.reports.score_table import (
    ScoreTable,
    csv_table,
    latex_table,
    markdown_table,
    plain_number,
)
from xql_jax.workshop.reports.statistics import AGGREGATES, compared_scores


class Report:
    """The numbers of a report, all computed once, and the files that show them.

    Args:
        found: runs with the numbers of their evaluations.
        samples: of the bootstrap.
        references: TASK=RANDOM,EXPERT each, which turn returns into scores in tables and statistics.
    """

    def __init__(self, found: FoundRuns, title: str, samples: int, references: Sequence[str] = ()):
        self.title = title
        self.samples = samples
        self.runs = found.runs
        scores = method_scores(found.members)
        given = references_given(references, {run.dataset for run in found.runs})
        self.scores = [dataclasses.replace(score, given=given.get(score.dataset)) for score in scores]
        entries = {(score.dataset, score.method): score for score in self.scores}
        methods = sorted({score.method for score in self.scores})
        self.table = ScoreTable(sorted({score.dataset for score in self.scores}), methods, entries)
        self.left_out = found.left_out
        self.statistics, self.not_compared = compared_scores(self.scores, samples)
        self.aggregates = [["", *(name.replace("_", " ") for name in AGGREGATES)]]
        if self.statistics:
            for method, intervals in self.statistics.aggregates.items():
                self.aggregates.append([method, *map(_with_ends, intervals.T)])

    def files(self, built: str) -> dict[str, str]:
        """Returns the report's files: text by file name. `built` is a sentence that says when it was made."""
        rows = self.table.rows()
        markdown, latex = markdown_table(rows), latex_table(rows)
        if self.statistics:
            on = f"over {', '.join(self.statistics.datasets)}; 95% intervals by stratified bootstrap"
            markdown += f"\n{on}\n\n{markdown_table(self.aggregates)}"
            latex += f"\n% {on}\n{latex_table(self.aggregates)}"
        return {
            "index.html": self._page(built),
            "scores.csv": self.table.as_csv(),
            "statistics.csv": csv_table(self._statistics_rows()),
            "scores.md": markdown,
            "scores.tex": latex,
        }

    def _page(self, built: str) -> str:
        """Returns the HTML page, which needs no other file. All texts in it are escaped."""
        import jinja2

        environment = jinja2.Environment(
            autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
        )
        environment.filters |= {"interval": _with_ends, "pairs": _pairs, "warnings": warnings_of}
        environment.filters["score"] = lambda value: "–" if value is None else f"{value:.1f}"
        environment.filters["png"] = lambda figure: base64.b64encode(render(figure, dpi=120)).decode()
        template = (resources.files("xql_jax.workshop.reports") / "report.html").read_text("utf-8")
        return environment.from_string(template).render(
            report=self,
            built=built,
            curves=report_pictures.learning_curves(self.scores),
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


def warnings_of(run: Run) -> Iterator[str]:
    """Yields what a reader of its numbers should know."""
    content, summary = run.content, run.summary
    if not run.rows(run.files.evaluations):
        yield "nothing was evaluated" + ("" if summary else " yet")
    if str(content.get("commit")).endswith("-dirty"):
        yield "the source tree had changes that are in no commit"
    for resumed in content["resumed"]:
        if resumed.get("code") != content.get("code"):
            yield f"trained by other code after {run.unit} {resumed['after_step']:,}"
    yield from run.caveats()


def _pairs(values: Mapping[str, object]) -> str:
    shown = {name: value for name, value in values.items() if value not in (None, "", False)}
    return " ".join(f"{name}={value}" for name, value in shown.items() if not isinstance(value, Mapping))


def _with_ends(with_ends: np.ndarray, digits: int = 1) -> str:
    value, low, high = (f"{number:.{digits}f}" for number in with_ends)
    return value if low == "nan" else f"{value} [{low}, {high}]"
