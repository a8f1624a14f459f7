"""Successive halving: only the better settings of a sweep are trained to the end.

Source: Karnin, Koren and Somekh 2013; Jamieson and Talwalkar 2016. Each setting is a run of its own with all
its seeds. At given steps, the settings of a method on a dataset are compared by their mean score over seeds,
and only the best share goes on. A run that is cut keeps its files and checkpoint. The choice depends only on
the recorded evaluations, so a sweep that was killed and is started again cuts the same settings.
"""

import csv
import io
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from xql_jax.sweeps.plan import FINISHED, Cell


class Standing(NamedTuple):
    """A cell (a run of the sweep) in the comparison at one step."""

    cell: Cell
    step: int
    score: float  # mean over seeds at that step; a score that is not finite ranks last
    kept: bool


class Round(NamedTuple):
    """The cells to train next."""

    cells: Sequence[Cell]
    until: int | None  # the step at which they pause; None: train them to their end
    standings: Sequence[Standing]  # of all comparisons so far


def next_round(cells: Sequence[Cell], halve_at: Sequence[int], keep: float) -> Round:
    """Returns the cells that a sweep trains next, given the recorded evaluations.

    Args:
        cells: all cells whose data exist. If `halve_at` is not empty, each has one setting.
        halve_at: steps, ascending.
        keep: the share of the settings that goes on at each of them, rounded up.
    """
    standings: list[Standing] = []
    alive = list(cells)
    for step in halve_at:
        scores = [_score_at(cell, step) for cell in alive]
        if behind := [cell for cell, score in zip(alive, scores, strict=True) if score is None]:
            return Round(behind, step, standings)
        groups: dict[tuple[str, str], list[tuple[float, int]]] = {}
        for index, (cell, score) in enumerate(zip(alive, scores, strict=True)):
            assert score is not None  # else the cell is in `behind`
            groups.setdefault((cell.dataset, cell.method.split(":")[0]), []).append((score, index))
        kept = {index for group in groups.values() for index in _best(group, keep)}
        for group in groups.values():
            standings += [Standing(alive[index], step, score, index in kept) for score, index in group]
        alive = [alive[index] for index in sorted(kept)]
    return Round([cell for cell in alive if cell.state != FINISHED], None, standings)


def as_csv(standings: Sequence[Standing]) -> str:
    """Returns a table with one row per setting and comparison: the score, and whether it was kept."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["step", "dataset", "method", "setting", "score", "kept", "run"])
    for cell, step, score, kept in standings:
        run = str(cell.record.path) if cell.record else ""
        writer.writerow(
            [
                step,
                cell.dataset,
                cell.method,
                cell.settings.sweep,
                f"{score:.6g}",
                "yes" if kept else "no",
                run,
            ]
        )
    return text.getvalue()


def _best(group: Sequence[tuple[float, int]], keep: float) -> list[int]:
    """Returns the indices of the best share; among equal scores, the first."""
    ranked = sorted(group, key=lambda one: -one[0] if math.isfinite(one[0]) else math.inf)
    return [index for _, index in ranked[: math.ceil(round(keep * len(ranked), 9))]]  # 0.55 * 20 is 11


def _score_at(cell: Cell, step: int) -> float | None:
    """Returns the mean score over seeds at that step; None until all seeds were evaluated there."""
    if cell.record is None:
        return None
    rows = cell.record.rows(cell.record.files.evaluations)
    scores = [row.results["score"] for row in rows if row.step == step]
    return float(np.mean(scores)) if len(scores) == cell.members else None
