"""The files of a report: scores and statistics as CSV, the same as Markdown and LaTeX."""

from collections.abc import Iterator, Sequence

import numpy as np

from xql_jax.workshop.reports.score_table import (
    MethodScore,
    csv_table,
    latex_table,
    markdown_table,
    plain_number,
    score_csv,
    score_rows,
)
from xql_jax.workshop.reports.statistics import AGGREGATES, Statistics


def report_files(scores: Sequence[MethodScore], statistics: Statistics | None) -> dict[str, str]:
    """Returns the report's files: text by file name."""
    rows = score_rows(scores)
    markdown, latex = markdown_table(rows), latex_table(rows)
    if statistics:
        aggregates = [["", *(name.replace("_", " ") for name in AGGREGATES)]]
        for method, intervals in statistics.aggregates.items():
            aggregates.append([method, *map(_with_ends, intervals.T)])
        on = f"over {', '.join(statistics.datasets)}; 95% intervals by stratified bootstrap"
        markdown += f"\n{on}\n\n{markdown_table(aggregates)}"
        latex += f"\n% {on}\n{latex_table(aggregates)}"
    return {
        "scores.csv": score_csv(scores),
        "statistics.csv": csv_table(_statistics_rows(statistics)),
        "scores.md": markdown,
        "scores.tex": latex,
    }


def _statistics_rows(statistics: Statistics | None) -> Iterator[Sequence[object]]:
    """Yields the header, then the aggregates and the probabilities of improvement, one row per number."""
    yield "statistic", "method", "other", "value", "low_95", "high_95", "seeds"
    if statistics:
        for method, intervals in statistics.aggregates.items():
            for name, with_ends in zip(AGGREGATES, intervals.T, strict=True):
                yield name, method, "", *map(plain_number, with_ends), statistics.seeds[method]
        for pair, probability in statistics.improvements.items():
            yield "probability_of_improvement", *pair, *map(plain_number, probability), ""


def _with_ends(with_ends: np.ndarray) -> str:
    value, low, high = (f"{number:.1f}" for number in with_ends)
    return value if low == "nan" else f"{value} [{low}, {high}]"
