"""Adds the results of online runs to those in docs/results/.

  python benchmarks/online_results.py RUNS docs/results

TASK/METHOD.csv gets the evaluations of the method's finished runs, by seed, and bellman_errors.csv a row for
each run that recorded Bellman errors and each law: how well the law fits the errors of all the run's
snapshots, clipped to their middle 99%, as in Figures 5 and 6. The rows replace those of the same seed.
"""

import csv
import json
import sys
from pathlib import Path

import numpy as np

from xql_jax.workshop.paper.bellman_errors import QUANTILES, fit_errors

Rows = list[dict[str, str]]


def rows_of(file: Path) -> Rows:
    with file.open() as lines:
        return list(csv.DictReader(lines))


def add(file: Path, rows: Rows, *keys: str) -> None:
    """Writes the rows into the file, in the order of the keys, in place of those with the same keys."""

    def key(row: dict[str, str]) -> tuple[int | str, ...]:
        return tuple(int(row[name]) if row[name].isdigit() else row[name] for name in keys)

    added = {key(row) for row in rows}
    kept = [row for row in rows_of(file) if key(row) not in added] if file.exists() else []
    file.parent.mkdir(exist_ok=True)
    with file.open("w", newline="") as lines:
        writer = csv.DictWriter(lines, list(rows[0]))
        writer.writeheader()
        writer.writerows(sorted(kept + rows, key=key))


def fits(run: Path, task: str, method: str) -> Rows:
    """How well each law fits the run's Bellman errors, by seed; no rows if it recorded none."""
    file = run / "bellman_errors.csv"
    recorded, rows = rows_of(file) if file.exists() else [], []
    for seed in sorted({row["seed"] for row in recorded}):
        errors = np.array([float(row["error"]) for row in recorded if row["seed"] == seed])
        for law, fit in fit_errors(np.clip(errors, *np.quantile(errors, QUANTILES))).items():
            numbers = f"{fit.log_likelihood:.4f}", f"{fit.kolmogorov_smirnov:.4f}"
            columns = "task", "method", "seed", "law", "log_likelihood", "kolmogorov_smirnov"
            rows.append(dict(zip(columns, (task, method, seed, law.split()[0], *numbers), strict=True)))
    return rows


def main(runs: Path, results: Path) -> None:
    for summary in sorted(runs.glob("*/*/*/summary.json")):
        if json.loads(summary.read_text())["status"] == "finished":
            run = summary.parent
            task, method = run.parts[-3:-1]
            add(results / task / f"{method}.csv", rows_of(run / "evaluations.csv"), "seed")
            if laws := fits(run, task, method):
                add(results / "bellman_errors.csv", laws, "task", "method", "seed")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
