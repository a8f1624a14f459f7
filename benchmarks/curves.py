"""Draws the curves of docs/results/TASK-200k/METHOD.csv into one picture, as Figure 7 draws those of runs.

python benchmarks/curves.py --output=docs/images/curves_200k.png
"""

import argparse
from pathlib import Path

import numpy as np
import pandas

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
        rows = pandas.read_csv(file)
        restarts.append((*name, 0))
        points += [(*name, row.seed, row.step, row.score, False) for row in rows.itertuples()]
        for step, at in rows.groupby("step"):
            mean, half = mean_and_interval(np.array(at.score))
            curves.append((*name, step, mean, mean - half, mean + half, len(at), 0))
    tables = {
        "curves": long_table(*COLUMNS, rows=curves),
        "seeds": long_table("task", "method", "seed", "step", "value", "diverged", rows=points),
        "restarts": long_table("task", "method", "restarts", rows=restarts),
    }
    axes = {"unit": "updates (steps)", "quantity": "normalised score (percent)"}
    output.write_bytes(render(draw_panels(tables, families=[list(OFFLINE)], **axes), output.suffix[1:]))


if __name__ == "__main__":
    main()
