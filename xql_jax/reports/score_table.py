"""A table of scores by dataset and method, as text, Markdown or LaTeX, and with all details as CSV."""

import csv
import dataclasses
import io
import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Self

import numpy as np

from xql_jax.reports.run_summary import cumulative_regret
from xql_jax.rollout.scores import mean_and_interval, shown
from xql_jax.suites.tasks import References

REFERENCES_HELP = "TASK=RANDOM,EXPERT: returns that are 0 and 100 in the tables, for a task without scores."


@dataclasses.dataclass(frozen=True)
class Entry:
    """The scores of one method on one dataset, and the paper's score if it has one."""

    last: tuple[float, ...] = ()  # the last score of every seed; empty if no run has finished
    best: tuple[float, ...] = ()  # the best score of every seed in training: it flatters, and is no result
    diverged: int = 0  # number of seeds
    restarts: int = 0  # of networks that diverged, over all seeds
    updates: int = 0
    before: tuple[float, ...] = ()  # fine-tuning: the score of every seed at the hand-over; else empty
    after: float = math.nan  # fine-tuning: the mean over seeds and evaluations after the hand-over, if known
    regret: float = math.nan  # cumulative regret after the hand-over, see `summarize_finetuning`
    paper: float | None = None
    paper_before: float | None = None
    run: str = ""  # the run's folder
    commits: frozenset[str] = frozenset()  # of the code that trained the runs
    note: str = ""  # why there is no score, or none for some of the seeds
    is_normalised: bool = True  # else the scores are returns
    references: References | None = None  # returns that are 0 and 100; None: the task's own

    @property
    def mean(self) -> float:
        return _mean(self.last)

    @property
    def interval(self) -> float:
        """Half-width of the 95% interval of the mean over seeds; NaN for fewer than two."""
        return float(mean_and_interval(np.array(self.last))[1]) if self.last else math.nan

    def cell(self) -> str:
        """Returns the last score, its interval over seeds, and the paper's in brackets: `71.3 ± 2.0 [72.5]`.

        With fine-tuning, the scores before and after: `71.3 ± 2.0 → 95.0 ± 1.1 [76 → 97]`. If seeds are
        missing, the cell says how many there are.
        """
        text = " → ".join(with_interval(scores) for scores in (self.before, self.last) if scores) or "–"
        if self.diverged:
            text += " div"
        if self.restarts:
            text += f" (restarts: {self.restarts})"
        if self.last and not self.is_normalised:
            text += " (return)"
        if self.last and self.note:
            text += f" ({len(self.last)} seed(s) so far)"
        papers = [f"{score:g}" for score in (self.paper_before, self.paper) if score is not None]
        return f"{text} [{' → '.join(papers)}]" if papers else text

    def scored(self, references: References | None) -> Self:
        """Returns the entry with scores instead of returns, if it has these."""
        if references is None or self.is_normalised:
            return self
        low, high = references

        def scores(returns: Sequence[float]) -> tuple[float, ...]:
            return tuple(100.0 * (value - low) / (high - low) for value in returns)

        return dataclasses.replace(
            self,
            is_normalised=True,
            references=references,
            last=scores(self.last),
            best=scores(self.best),
            before=scores(self.before),
            regret=float(cumulative_regret(np.array(scores([self.after])))),
        )

    def record(self) -> dict[str, object]:
        """Returns the entry's columns in the CSV, scores with six digits; some are of fine-tuning alone."""
        return {
            "last_score": plain_number(self.mean),
            "interval_95": plain_number(self.interval),
            "last_score_by_seed": " ".join(map(plain_number, self.last)),
            "best_score_by_seed": " ".join(map(plain_number, self.best)),
            "diverged_seeds": self.diverged,
            "restarts": self.restarts,
            "updates": self.updates or "",
            "paper_score": self.paper,
            "run": self.run,
            "commit": " ".join(sorted(self.commits)),
            "note": self.note,
            "offline_score": plain_number(_mean(self.before)),
            "offline_score_by_seed": " ".join(map(plain_number, self.before)),
            "cumulative_regret": plain_number(self.regret),
            "paper_offline_score": self.paper_before,
            "quantity": "score" if self.is_normalised else "return",
        }


@dataclasses.dataclass(frozen=True)
class ScoreTable:
    """Entries by dataset and method; a missing one is an empty `Entry`."""

    datasets: Sequence[str]
    methods: Sequence[str]
    entries: Mapping[tuple[str, str], Entry]

    def rows(self) -> list[list[str]]:
        """Returns the header, one row per dataset, and the means over the datasets that all methods have.

        Datasets whose scores are returns do not count in the means.
        """
        by_dataset = {
            name: [self.entries.get((name, method), Entry()) for method in self.methods]
            for name in self.datasets
        }
        rows = [["", *self.methods]]
        rows += [[name, *(entry.cell() for entry in entries)] for name, entries in by_dataset.items()]
        whole = [
            entries
            for entries in by_dataset.values()
            if all(entry.last and not entry.note and entry.is_normalised for entry in entries)
        ]
        if len(whole) > 1:
            rows.append([f"mean of {len(whole)}", *map(_mean_cell, zip(*whole, strict=True))])
        return rows

    def as_csv(self) -> str:
        """Returns one row per entry: scores with six digits, and best scores in a column of their own."""
        places = itertools.product(self.datasets, self.methods)
        rows = [[*place, *self.entries[place].record().values()] for place in places if place in self.entries]
        return csv_table([["dataset", "method", *Entry().record()], *rows])


def text_table(rows: Sequence[Sequence[str]]) -> str:
    """Returns a table as text, each row in one line; the first row is the header."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)


def markdown_table(rows: Sequence[Sequence[str]]) -> str:
    """Returns a table in Markdown; rows as in `text_table`."""
    header, *body = rows
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *body]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def latex_table(rows: Sequence[Sequence[str]]) -> str:
    """Returns a LaTeX tabular for booktabs; rows as in `text_table`, in which any character may appear."""
    header, *body = (" & ".join(cell.translate(LATEX) for cell in row) + " \\\\\n" for row in rows)
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


def _mean(scores: Sequence[float]) -> float:
    return float(np.mean(scores)) if len(scores) else math.nan


def with_interval(scores: Sequence[float]) -> str:
    """Returns the mean and, of two or more scores, half the width of its 95% interval."""
    mean, half_width = map(float, mean_and_interval(np.array(scores)))
    return shown(mean) + ("" if math.isnan(half_width) else f" ± {shown(half_width)}")


def _mean_cell(entries: Sequence[Entry]) -> str:
    phases = [[_mean(entry.before) for entry in entries if entry.before], [entry.mean for entry in entries]]
    text = " → ".join(f"{_mean(means):.1f}" for means in phases if means)
    return text + (" div" if any(entry.diverged for entry in entries) else "")


def plain_number(value: float) -> str:
    """Returns the number for a CSV file; NaN is an empty cell."""
    return "" if math.isnan(value) else f"{value:.6g}"


LATEX = str.maketrans(
    {character: f"\\{character}" for character in "_%&#${}"}
    | {
        "\\": "\\textbackslash{}", "^": "\\textasciicircum{}", "~": "\\textasciitilde{}",
        "±": "$\\pm$", "–": "--", "→": "$\\to$",
    }
)  # fmt: skip
