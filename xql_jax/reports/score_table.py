"""A table of scores, methods beside datasets: as text, Markdown, LaTeX, and as CSV with all that is known."""

import csv
import dataclasses
import io
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from xql_jax.evaluation.scores import mean_and_interval


@dataclasses.dataclass(frozen=True)
class Entry:
    """What the runs of one method on one dataset came to; the paper's score if it has one."""

    last: tuple[float, ...] = ()  # the last score of every seed; none: there is no finished run
    best: tuple[float, ...] = ()  # the best of training of every seed: it flatters, and is no result
    diverged: int = 0  # seeds
    updates: int = 0
    paper: float | None = None
    run: str = ""  # its folder
    note: str = ""  # why there is none

    @property
    def mean(self) -> float:
        return float(np.mean(self.last)) if self.last else math.nan

    @property
    def interval(self) -> float:
        """Half-width of the 95% interval of the mean over seeds; NaN for fewer than two."""
        return float(mean_and_interval(np.array(self.last))[1]) if self.last else math.nan

    def cell(self) -> str:
        """Last score, interval over seeds, and the paper's in brackets: `71.3 ± 2.0 [72.5]`."""
        own = f"{self.mean:.1f}" if self.last else "–"
        if not math.isnan(self.interval):
            own += f" ± {self.interval:.1f}"
        return (
            own + (" div" if self.diverged else "") + (f" [{self.paper:g}]" if self.paper is not None else "")
        )


@dataclasses.dataclass(frozen=True)
class ScoreTable:
    """Entries by dataset and method; what is missing is an empty entry."""

    datasets: Sequence[str]
    methods: Sequence[str]
    entries: Mapping[tuple[str, str], Entry]

    def entry(self, dataset: str, method: str) -> Entry:
        return self.entries.get((dataset, method), Entry())

    def rows(self) -> list[list[str]]:
        """The header and a row a dataset; at the end the means over the datasets that every method has."""
        rows = [["", *self.methods]]
        rows += [
            [dataset, *(self.entry(dataset, m).cell() for m in self.methods)] for dataset in self.datasets
        ]
        whole = [d for d in self.datasets if all(self.entry(d, m).last for m in self.methods)]
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
        header, *rows = self.rows()
        lines = [header, ["---", *["---:"] * len(self.methods)], *rows]
        return "".join(f"| {' | '.join(line)} |\n" for line in lines)

    def as_latex(self) -> str:
        header, *rows = ([_escaped(cell) for cell in row] for row in self.rows())
        body = "".join(f"{' & '.join(row)} \\\\\n" for row in rows)
        columns = "l" + "r" * len(self.methods)
        return (
            f"\\begin{{tabular}}{{{columns}}}\n\\toprule\n{' & '.join(header)} \\\\\n\\midrule\n{body}"
            "\\bottomrule\n\\end{tabular}\n"
        )

    def as_csv(self) -> str:
        """A row an entry, scores in full; best scores under that name."""
        text = io.StringIO()
        records = [_record(d, m, self.entry(d, m)) for d in self.datasets for m in self.methods]
        writer = csv.DictWriter(text, list(records[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(records)
        return text.getvalue()


def _mean_cell(entries: Sequence[Entry]) -> str:
    mean = np.mean([entry.mean for entry in entries])
    return f"{mean:.1f}" + (" div" if any(entry.diverged for entry in entries) else "")


def _record(dataset: str, method: str, entry: Entry) -> dict[str, Any]:
    def number(value: float) -> str:
        return "" if math.isnan(value) else f"{value:.6g}"

    return {
        "dataset": dataset,
        "method": method,
        "last_score": number(entry.mean),
        "interval_95": number(entry.interval),
        "last_score_by_seed": " ".join(map(number, entry.last)),
        "best_score_by_seed": " ".join(map(number, entry.best)),
        "diverged_seeds": entry.diverged,
        "updates": entry.updates or "",
        "paper_score": "" if entry.paper is None else entry.paper,
        "run": entry.run,
        "note": entry.note,
    }


def _escaped(cell: str) -> str:
    for character in "_%&#":
        cell = cell.replace(character, f"\\{character}")
    return cell.replace("±", "$\\pm$").replace("–", "--")
