"""Tables of scores by dataset and method, and a report's files: as text, Markdown, LaTeX and CSV."""

import csv
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np

from xql_jax.rollout.quantities import QUANTITIES
from xql_jax.workshop.reports.scores import MethodScore, mean_of, plain_number
from xql_jax.workshop.reports.statistics import AGGREGATES, Statistics

MOST_METHODS = 6  # that are columns; more settings of methods are rows


def score_tables(scores: Sequence[MethodScore]) -> list[list[list[str]]]:
    """Returns the tables of scores and, where the tasks tell it, of success, each as rows, the header first.

    Methods are columns. If several settings vary, or many values of a setting, each score is a row instead.
    """
    names = list(dict.fromkeys(name for score in scores for name in score.settings))
    if len(names) > 1 or (names and len({score.method for score in scores}) > MOST_METHODS):
        return [setting_rows(scores, names)]
    return [score_rows(scores), *([success_rows(scores)] if any(score.success for score in scores) else [])]


def score_rows(scores: Sequence[MethodScore]) -> list[list[str]]:
    """Returns the header, one row per dataset, and the means over the datasets that all methods have.

    Datasets whose scores are returns do not count in the means.
    """
    by_dataset = _by_dataset(scores)
    rows = [["", *dict.fromkeys(score.method for score in scores)]]
    rows += [
        [name, *(entry.cell() for entry in of_methods.values())] for name, of_methods in by_dataset.items()
    ]
    number, means = _means(by_dataset)
    return [*rows, [f"mean of {number}", *means]] if means else rows


def success_rows(scores: Sequence[MethodScore]) -> list[list[str]]:
    """Returns the header, and the rates of success on each dataset that tells them."""
    rows = [["success", *dict.fromkeys(score.method for score in scores)]]
    for dataset, of_methods in _by_dataset(scores).items():
        if any(entry.success for entry in of_methods.values()):
            rows.append([dataset, *map(_success_cell, of_methods.values())])
    return rows


def setting_rows(scores: Sequence[MethodScore], names: Sequence[str]) -> list[list[str]]:
    """Returns the header and one row per score, with columns for these settings; then the datasets' means."""
    tells = [score.success for score in scores if score.success]

    def row(dataset: str, score: MethodScore, *cells: str) -> list[str]:
        settings = [score.settings.get(name, "") for name in names]
        return [dataset, score.name, *settings, *cells[: 2 if tells else 1]]

    column = next((score.members[0].column for score in scores if score.members), "score")
    rows = [["", "method", *names, column, *(["success"] if tells else [])]]
    rows += [row(score.dataset, score, score.cell(), _success_cell(score)) for score in scores]
    methods = {score.method: score for score in scores}.values()
    number, means = _means(_by_dataset(scores))
    return rows + [row(f"mean of {number}", *entry, "") for entry in zip(methods, means, strict=False)]


def _by_dataset(scores: Sequence[MethodScore]) -> dict[str, dict[str, MethodScore]]:
    """Returns the scores by dataset and method: a score without members where a method has none."""
    methods = list(dict.fromkeys(score.method for score in scores))
    by_dataset: dict[str, dict[str, MethodScore]] = {}
    for score in scores:
        by_dataset.setdefault(score.dataset, dict.fromkeys(methods, MethodScore()))[score.method] = score
    return by_dataset


def _means(by_dataset: Mapping[str, Mapping[str, MethodScore]]) -> tuple[int, list[str]]:
    """Returns how many datasets all methods have, and the methods' means over several such datasets."""
    whole = [
        of_methods.values()
        for of_methods in by_dataset.values()
        if all(entry.last and not entry.note and entry.is_normalised for entry in of_methods.values())
    ]
    return len(whole), [*map(_mean_cell, zip(*whole, strict=True))] if len(whole) > 1 else []


def _success_cell(score: MethodScore) -> str:
    if not score.success:
        return "–"
    rate, *interval = score.success
    return QUANTITIES["success_rate"].with_interval(rate, interval)


def score_csv(scores: Sequence[MethodScore]) -> str:
    """Returns one row per score: with six digits, and best scores in a column of their own."""
    rows = [[score.dataset, score.method, *score.record().values()] for score in scores]
    return csv_table([["dataset", "method", *MethodScore().record()], *rows])


def text_table(rows: Sequence[Sequence[str]]) -> str:
    """Returns a table as text, each row in one line; the first row is the header."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)


def markdown_table(rows: Sequence[Sequence[str]]) -> str:
    """Returns a table in Markdown; rows as in `text_table`."""
    header, *body = rows
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *body]
    return "".join(f"| {' | '.join(cell.replace('|', '&#124;') for cell in line)} |\n" for line in lines)


def latex_table(rows: Sequence[Sequence[str]]) -> str:
    """Returns a LaTeX tabular for booktabs; rows as in `text_table`, in which any character may appear."""
    lines = [" & ".join(cell.translate(LATEX) for cell in row) + " \\\\\n" for row in rows]
    # After a line's end LaTeX takes what is in brackets, or a star, as an argument.
    header, *body = ("{}" + line if line.startswith(("[", "*")) else line for line in lines)
    columns = "l" + "r" * (len(rows[0]) - 1)
    return (
        f"\\begin{{tabular}}{{{columns}}}\n\\toprule\n{header}\\midrule\n{''.join(body)}"
        "\\bottomrule\n\\end{tabular}\n"
    )


def csv_table(rows: Iterable[Iterable[object]]) -> str:
    """Returns the rows as CSV, the header first."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def _mean_cell(entries: Sequence[MethodScore]) -> str:
    phases = [[mean_of(entry.before) for entry in entries if entry.before], [entry.mean for entry in entries]]
    text = " → ".join(f"{mean_of(means):.1f}" for means in phases if means)
    return text + (" div" if any(entry.diverged for entry in entries) else "")


def report_files(scores: Sequence[MethodScore], statistics: Statistics | None) -> dict[str, str]:
    """Returns the report's files: text by file name."""
    tables = score_tables(scores)
    markdown, latex = ("\n".join(map(table, tables)) for table in (markdown_table, latex_table))
    if statistics:
        aggregates = [["", *(name.replace("_", " ") for name in AGGREGATES)]]
        for method, intervals in statistics.aggregates.items():
            aggregates.append([method, *map(_with_ends, intervals.T)])
        on = f"over {', '.join(statistics.datasets)}; 95% intervals by stratified bootstrap"
        on = "; ".join([on, *statistics.notes()])
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
                yield (
                    name,
                    method,
                    "",
                    *map(plain_number, with_ends),
                    _seeds_in_words(statistics.seeds[method]),
                )
        for pair, probability in statistics.improvements.items():
            yield "probability_of_improvement", *pair, *map(plain_number, probability), ""


def _seeds_in_words(seeds: Sequence[int]) -> str:
    """Returns the number of seeds, or the number on each dataset where datasets differ: `6 6 1`."""
    return str(seeds[0]) if len(set(seeds)) == 1 else " ".join(map(str, seeds))


def _with_ends(with_ends: np.ndarray) -> str:
    value, low, high = (f"{number:.1f}" for number in with_ends)
    return value if low == "nan" else f"{value} [{low}, {high}]"


LATEX = str.maketrans(
    {character: f"\\{character}" for character in "_%&#${}"}
    | {
        "\\": "\\textbackslash{}", "^": "\\textasciicircum{}", "~": "\\textasciitilde{}",
        "±": "$\\pm$", "–": "--", "→": "$\\to$",
        "<": "\\textless{}", ">": "\\textgreater{}", "|": "\\textbar{}",
    }
)  # fmt: skip
