"""Draws curves of docs/results/FOLDER/METHOD.csv into one picture, as the paper's figures draw those of runs.

python benchmarks/curves.py --figure=7 --output=docs/images/curves_200k.png
python benchmarks/curves.py --figure=3 --output=docs/images/figure_3.png
"""

import argparse
import csv
from pathlib import Path

import numpy as np

from xql_jax.numerics.statistics import mean_and_interval
from xql_jax.pictures.style import render
from xql_jax.workshop.paper.columns import long_table
from xql_jax.workshop.paper.figures import FIGURES_OF_RUNS

RESULTS = Path(__file__).resolve().parents[1] / "docs" / "results"
# The folders of each figure, and the column that it shows.
FIGURES = {"3": ("*-run", "return"), "7": ("*-200k", "score")}
COLUMNS = ("task", "method", "step", "mean", "low", "high", "seeds", "diverged")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--figure", choices=FIGURES, default="7")
    parser.add_argument("--output", type=Path, default=Path("curves.png"))
    options = parser.parse_args()
    folders, quantity = FIGURES[options.figure]
    points, curves = [], []
    for file in sorted(RESULTS.glob(f"{folders}/*.csv")):
        name = file.parent.name.removesuffix("-200k"), file.stem
        by_step: dict[int, list[float]] = {}
        with file.open() as lines:
            for row in csv.DictReader(lines):
                step, value = int(row["step"]), float(row[quantity])
                points.append((*name, int(row["seed"]), step, value, False))
                by_step.setdefault(step, []).append(value)
        for step, values in sorted(by_step.items()):
            mean, half = mean_and_interval(np.array(values))
            curves.append((*name, step, mean, mean - half, mean + half, len(values), 0))
    tables = {
        "curves": long_table(*COLUMNS, rows=curves),
        "seeds": long_table("task", "method", "seed", "step", "value", "diverged", rows=points),
    }
    picture = FIGURES_OF_RUNS[options.figure].draw(tables)
    options.output.write_bytes(render(picture, options.output.suffix[1:]))


if __name__ == "__main__":
    main()
