"""A table of scores by dataset and method, as text, Markdown or LaTeX, and with all details as CSV."""

import csv
import dataclasses
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from xql_jax.rollout.scores import mean_and_interval


@dataclasses.dataclass(frozen=True)
class Entry:
    """The scores of one method on one dataset, and the paper's score if it has one."""

    last: tuple[float, ...] = ()  # the last score of every seed; empty if no run has finished
    best: tuple[float, ...] = ()  # the best score of every seed in training: it flatters, and is no result
    diverged: int = 0  # number of seeds
    updates: int = 0
    before: tuple[float, ...] = ()  # fine-tuning: the score of every seed at the hand-over; else empty
    regret: float = math.nan  # cumulative regret after the hand-over, see `summarize_finetuning`
    paper: float | None = None
    paper_before: float | None = None
    run: str = ""  # the run's folder
    commits: frozenset[str] = frozenset()  # of the code that trained the runs
    note: str = ""  # why there is no score, or none for some of the seeds
    is_normalised: bool = True  # else the scores are returns

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
        own = " → ".join(_with_interval(scores) for scores in (self.before, self.last) if scores) or "–"
        papers = [f"{score:g}" for score in (self.paper_before, self.paper) if score is not None]
        marks = (" div" if self.diverged else "") + (
            f" ({len(self.last)} seed(s) so far)" if self.partial else ""
        )
        return own + marks + (f" [{' → '.join(papers)}]" if papers else "")

    @property
    def partial(self) -> bool:
        """Whether there are scores, but not of all seeds."""
        return bool(self.last and self.note)


@dataclasses.dataclass(frozen=True)
class ScoreTable:
    """Entries by dataset and method; a missing one is an empty `Entry`."""

    datasets: Sequence[str]
    methods: Sequence[str]
    entries: Mapping[tuple[str, str], Entry]

    def entry(self, dataset: str, method: str) -> Entry:
        return self.entries.get((dataset, method), Entry())

    def rows(self) -> list[list[str]]:
        """Returns the header, one row per dataset, and the means over the datasets that all methods have.

        Datasets whose scores are returns do not count in the means.
        """
        rows = [["", *self.methods]]
        rows += [
            [dataset, *(self.entry(dataset, m).cell() for m in self.methods)] for dataset in self.datasets
        ]
        cells = {d: [self.entry(d, m) for m in self.methods] for d in self.datasets}
        whole = [d for d, entries in cells.items() if all(_counts(e) for e in entries)]
        if len(whole) > 1:
            columns = ([self.entry(dataset, method) for dataset in whole] for method in self.methods)
            rows.append([f"mean of {len(whole)}", *map(_mean_cell, columns)])
        return rows

    def as_text(self) -> str:
        rows = self.rows()
        widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
        lines = (
            "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]).rstrip()
            for row in rows
        )
        return "\n".join(lines)

    def as_markdown(self) -> str:
        return markdown_table(self.rows())

    def as_latex(self) -> str:
        return latex_table(self.rows())

    def as_csv(self, with_missing: bool = True) -> str:
        """Returns one row per entry: scores with all digits, and best scores in a column of their own.

        Args:
            with_missing: whether missing entries get a row, too.
        """
        places = [(d, m) for d in self.datasets for m in self.methods]
        places = [place for place in places if with_missing or place in self.entries]
        records = [_record(*place, self.entry(*place)) for place in places]
        if any(entry.before or entry.paper_before is not None for entry in self.entries.values()):
            entries = [self.entry(*place) for place in places]
            records = [r | _record_before(entry) for r, entry in zip(records, entries, strict=True)]
        return csv_table(
            [list(records[0] if records else _record("", "", Entry())), *(r.values() for r in records)]
        )


def markdown_table(rows: Sequence[Sequence[str]]) -> str:
    """Returns a table in Markdown. The first row is the header; the first column holds names."""
    header, *body = rows
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *body]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def latex_table(rows: Sequence[Sequence[str]]) -> str:
    """Returns a LaTeX tabular for booktabs. The first row is the header; the first column holds names."""
    header, *body = ([_escaped(cell) for cell in row] for row in rows)
    lines = "".join(f"{' & '.join(row)} \\\\\n" for row in body)
    columns = "l" + "r" * (len(header) - 1)
    return (
        f"\\begin{{tabular}}{{{columns}}}\n\\toprule\n{' & '.join(header)} \\\\\n\\midrule\n{lines}"
        "\\bottomrule\n\\end{tabular}\n"
    )


def csv_table(rows: Iterable[Iterable[Any]]) -> str:
    """Returns the rows as CSV, the header first."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def _mean(scores: Sequence[float]) -> float:
    return float(np.mean(scores)) if len(scores) else math.nan


def _with_interval(scores: Sequence[float]) -> str:
    mean, half_width = mean_and_interval(np.array(scores))
    return f"{mean:.1f}" + ("" if math.isnan(half_width) else f" ± {half_width:.1f}")


def _mean_cell(entries: Sequence[Entry]) -> str:
    phases = [[_mean(entry.before) for entry in entries if entry.before], [entry.mean for entry in entries]]
    text = " → ".join(f"{_mean(means):.1f}" for means in phases if means)
    return text + (" div" if any(entry.diverged for entry in entries) else "")


def _number(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.6g}"


def _record_before(entry: Entry) -> dict[str, Any]:
    """Returns the columns that fine-tuning adds to a record."""
    return {
        "offline_score": _number(_mean(entry.before)),
        "offline_score_by_seed": " ".join(map(_number, entry.before)),
        "cumulative_regret": _number(entry.regret),
        "paper_offline_score": "" if entry.paper_before is None else entry.paper_before,
    }


def _record(dataset: str, method: str, entry: Entry) -> dict[str, Any]:
    return {
        "dataset": dataset,
        "method": method,
        "last_score": _number(entry.mean),
        "interval_95": _number(entry.interval),
        "last_score_by_seed": " ".join(map(_number, entry.last)),
        "best_score_by_seed": " ".join(map(_number, entry.best)),
        "diverged_seeds": entry.diverged,
        "updates": entry.updates or "",
        "paper_score": "" if entry.paper is None else entry.paper,
        "run": entry.run,
        "commit": " ".join(sorted(entry.commits)),
        "note": entry.note,
    }


def _escaped(cell: str) -> str:
    """Returns the cell as LaTeX. Names of tasks and runs are the user's and may hold any character."""
    return "".join(_LATEX.get(character, character) for character in cell)


def _counts(entry: Entry) -> bool:
    """Whether the entry counts in means over datasets."""
    return bool(entry.last) and not entry.partial and entry.is_normalised


_LATEX = {character: f"\\{character}" for character in "_%&#${}"} | {
    "\\": "\\textbackslash{}", "^": "\\textasciicircum{}", "~": "\\textasciitilde{}",
    "±": "$\\pm$", "–": "--", "→": "$\\to$",
}  # fmt: skip
