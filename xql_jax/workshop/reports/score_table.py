"""A table of scores by dataset and method, as text, Markdown or LaTeX, and with all details as CSV."""

import csv
import dataclasses
import io
import math
from collections.abc import Iterable, Sequence

import numpy as np

from xql_jax.rollout.scores import mean_and_interval, shown
from xql_jax.runs.load import Run
from xql_jax.workshop.reports.read_runs import Curve


@dataclasses.dataclass(frozen=True)
class MethodScore:
    """The score of one method on one dataset, and those of its seeds, in the order of the members."""

    dataset: str = ""
    method: str = ""
    members: Sequence[Curve] = ()  # they differ only in the seed; none if no run has finished
    note: str = ""  # why there is no score, or none for some of the seeds
    paper: float | None = None  # the paper's score, if it has one
    paper_before: float | None = None

    @property
    def runs(self) -> list[Run]:
        """The runs that the score comes from, each once."""
        return list({member.run.name: member.run for member in self.members}.values())

    @property
    def run(self) -> Run:
        """One of the runs, for what all have in common."""
        return self.members[0].run

    @property
    def is_normalised(self) -> bool:
        """Whether 100 is an expert's score; else scores are returns."""
        return not self.members or self.run.is_normalised

    @property
    def last(self) -> tuple[float, ...]:
        return tuple(member.values[-1] for member in self.members)

    @property
    def best(self) -> tuple[float, ...]:
        """The best scores in training: they flatter, and are no result; NaN if none was finite."""
        return tuple(float(np.fmax.reduce(member.values)) for member in self.members)

    @property
    def before(self) -> tuple[float, ...]:
        """In fine-tuning the scores at the hand-over; else empty."""
        at = [(member, member.run.handover) for member in self.members]
        if not all(step in member.steps for member, step in at):
            return ()
        return tuple(member.values[member.steps.index(step)] for member, step in at)

    @property
    def diverged(self) -> int:
        return sum(any(member.diverged) for member in self.members)

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
        if self.last and not self.is_normalised:
            text += " (return)"
        if self.last and self.note:
            text += f" ({len(self.last)} seed(s) so far)"
        papers = [f"{score:g}" for score in (self.paper_before, self.paper) if score is not None]
        return f"{text} [{' → '.join(papers)}]" if papers else text

    def record(self) -> dict[str, object]:
        """Returns the entry's columns in the CSV, scores with six digits; some are of fine-tuning alone."""
        return {
            "last_score": plain_number(self.mean),
            "interval_95": plain_number(self.interval),
            "last_score_by_seed": " ".join(map(plain_number, self.last)),
            "best_score_by_seed": " ".join(map(plain_number, self.best)),
            "diverged_seeds": self.diverged,
            "step": max((member.steps[-1] for member in self.members), default=""),
            "paper_score": self.paper,
            "run": "; ".join(run.name for run in self.runs),
            "commit": " ".join(sorted({str(run.content.get("commit") or "unknown") for run in self.runs})),
            "note": self.note,
            "offline_score": plain_number(_mean(self.before)),
            "offline_score_by_seed": " ".join(map(plain_number, self.before)),
            "paper_offline_score": self.paper_before,
            "quantity": "score" if self.is_normalised else "return",
        }


def score_rows(scores: Sequence[MethodScore]) -> list[list[str]]:
    """Returns the header, one row per dataset, and the means over the datasets that all methods have.

    Datasets whose scores are returns do not count in the means.
    """
    methods = list(dict.fromkeys(score.method for score in scores))
    by_dataset: dict[str, dict[str, MethodScore]] = {}
    for score in scores:
        by_dataset.setdefault(score.dataset, dict.fromkeys(methods, MethodScore()))[score.method] = score
    rows = [["", *methods]]
    rows += [[name, *(entry.cell() for entry in found.values())] for name, found in by_dataset.items()]
    whole = [
        found.values()
        for found in by_dataset.values()
        if all(entry.last and not entry.note and entry.is_normalised for entry in found.values())
    ]
    if len(whole) > 1:
        rows.append([f"mean of {len(whole)}", *map(_mean_cell, zip(*whole, strict=True))])
    return rows


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


def _mean(scores: Sequence[float] | np.ndarray) -> float:
    return float(np.mean(scores)) if len(scores) else math.nan


def with_interval(scores: Sequence[float]) -> str:
    """Returns the mean and, of two or more scores, half the width of its 95% interval."""
    mean, half_width = map(float, mean_and_interval(np.array(scores)))
    return shown(mean) + ("" if math.isnan(half_width) else f" ± {shown(half_width)}")


def _mean_cell(entries: Sequence[MethodScore]) -> str:
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
