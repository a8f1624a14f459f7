"""Draws the curves of docs/results/TASK-200k/METHOD.csv into one picture, as Figure 7 draws those of runs.

python benchmarks/curves.py --output=docs/images/curves_200k.png
"""

import argparse
import csv
from pathlib import Path

import numpy as np

from xql_jax.learners.registry import OFFLINE
from xql_jax.paper.columns import long_table
from xql_jax.paper.curves import draw_panels
from xql_jax.reports.style import render
from xql_jax.rollout.scores import mean_and_interval

RESULTS = Path(__file__).resolve().parents[1] / "docs" / "results"
COLUMNS = ("task", "method", "step", "mean", "low", "high", "seeds", "diverged")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=Path("curves.png"))
    output = parser.parse_args().output
    points, curves, restarts = [], [], []
    for file in sorted(RESULTS.glob("*-200k/*.csv")):
        name = file.parent.name.removesuffix("-200k"), file.stem
        restarts.append((*name, 0))
        by_step: dict[int, list[float]] = {}
        with file.open() as lines:
            for row in csv.DictReader(lines):
                step, score = int(row["step"]), float(row["score"])
                points.append((*name, int(row["seed"]), step, score, False))
                by_step.setdefault(step, []).append(score)
        for step, scores in sorted(by_step.items()):
            mean, half = mean_and_interval(np.array(scores))
            curves.append((*name, step, mean, mean - half, mean + half, len(scores), 0))
    tables = {
        "curves": long_table(*COLUMNS, rows=curves),
        "seeds": long_table("task", "method", "seed", "step", "value", "diverged", rows=points),
        "restarts": long_table("task", "method", "restarts", rows=restarts),
    }
    axes = {"unit": "updates (steps)", "quantity": "normalised score (percent)"}
    output.write_bytes(render(draw_panels(tables, families=[list(OFFLINE)], **axes), output.suffix[1:]))


if __name__ == "__main__":
    main()
