"""Writes the results of online runs as docs/results/ keeps them.

  python benchmarks/online_results.py RUNS docs/results

TASK/METHOD.csv gets the evaluations of the method's finished runs, by seed, and bellman_errors.csv a row for
each run that recorded Bellman errors and each law: how well the law fits the errors of all the run's
snapshots, clipped to their middle 99%, as in Figures 5 and 6.
"""

import csv
import json
import sys
from pathlib import Path

import numpy as np

from xql_jax.paper.bellman_errors import QUANTILES, fit_errors


def rows_of(file: Path) -> list[dict[str, str]]:
    with file.open() as lines:
        return list(csv.DictReader(lines))


def write(file: Path, rows: list[dict]) -> None:
    file.parent.mkdir(exist_ok=True)
    with file.open("w", newline="") as lines:
        writer = csv.DictWriter(lines, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def main(runs: Path, results: Path) -> None:
    evaluations: dict[tuple[str, str], list[dict[str, str]]] = {}
    laws = []
    for summary in sorted(runs.glob("*/*/*/summary.json")):
        if json.loads(summary.read_text())["status"] != "finished":
            continue
        run = summary.parent
        task, method = run.parts[-3:-1]
        evaluations.setdefault((task, method), []).extend(rows_of(run / "evaluations.csv"))
        recorded = rows_of(run / "bellman_errors.csv") if (run / "bellman_errors.csv").exists() else []
        for seed in sorted({row["seed"] for row in recorded}, key=int):
            errors = np.array([float(row["error"]) for row in recorded if row["seed"] == seed])
            for law, fit in fit_errors(np.clip(errors, *np.quantile(errors, QUANTILES))).items():
                numbers = f"{fit.log_likelihood:.4f}", f"{fit.kolmogorov_smirnov:.4f}"
                columns = "task", "method", "seed", "law", "log_likelihood", "kolmogorov_smirnov"
                laws.append(dict(zip(columns, (task, method, seed, law.split()[0], *numbers), strict=True)))
    for (task, method), rows in evaluations.items():
        rows.sort(key=lambda row: (int(row["seed"]), int(row["step"])))
        write(results / task / f"{method}.csv", rows)
    write(results / "bellman_errors.csv", laws)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
