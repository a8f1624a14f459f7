"""Scores beside the divergence of V's weights: runs whose beta was found (--beta_nats), or given.

  for NATS in ...; do xql-train-offline --env_name=TASK --beta_nats=... --clip_rule=above ...; done
  python benchmarks/nats.py --runs=results     # adds these runs to docs/results/nats.csv
  python benchmarks/nats.py --table            # the scores, with 95% intervals over seeds, as Markdown

A row is a seed of a finished run: its last score, and beta and the divergence as they were at the end.
"""

import argparse
import csv
import itertools
from collections.abc import Iterator
from pathlib import Path

from xql_jax.numerics.statistics import mean_and_interval
from xql_jax.runs.find import run_folders
from xql_jax.runs.load import Run, load_run

RESULTS = Path(__file__).resolve().parents[1] / "docs" / "results" / "nats.csv"
LOSSES = ("clip_rule", "critic_loss")
OF_METHOD = (*LOSSES, "layer_norm", "beta_nats", "policy_nats", "policy_sharpness")  # the last: older runs
SETTINGS = ("task", "updates", "method", *OF_METHOD, "given_beta", "reward_scale")
COLUMNS = (*SETTINGS, "seed", "score", "beta", "divergence")
Row = dict[str, str]


def rows_of(run: Run) -> Iterator[Row]:
    """Yields a row for each member of a finished run."""
    scores, metrics = (
        [row for row in run.rows(file) if row.step == run.step]
        for file in (run.files.evaluations, run.files.metrics)
    )
    for member, score, metric in zip(run.members, scores, metrics, strict=True):
        own = {**run.record["config"], **run.hyperparameters, **member.hyperparameters}
        found = {name: metric.results.get(f"value/{name}_mean", "") for name in ("beta", "divergence")}
        values = {
            "task": run.env_name, "updates": run.step, "method": run.method, "seed": member.seed,
            "score": f"{score.results['score']:.1f}", "given_beta": own.get("beta", ""),
            "reward_scale": f"{run.preprocessing.reward_scale:.3g}",
            **{name: own.get(name, "") for name in OF_METHOD},
            **{name: f"{value:.3g}" if value else "" for name, value in found.items()},
        }  # fmt: skip
        yield {name: str(values[name]) for name in COLUMNS}


def read() -> list[Row]:
    if not RESULTS.exists():
        return []
    with RESULTS.open(newline="") as lines:
        return list(csv.DictReader(lines))


def add_runs(folder: Path) -> None:
    """Adds finished runs that RESULTS has not."""
    rows = read()
    for path in run_folders(folder):
        run = load_run(path)
        if run.status == "finished":
            rows += [row for row in rows_of(run) if not any(_is_same(row, other) for other in rows)]
    with RESULTS.open("w", newline="") as lines:
        writer = csv.DictWriter(lines, COLUMNS)
        writer.writeheader()
        writer.writerows(sorted(rows, key=lambda row: [row[name] for name in COLUMNS]))


def _is_same(row: Row, stored: Row) -> bool:
    """Whether a stored row, which may lack later columns, is this one."""
    return all(row[name] == value for name, value in stored.items() if value)


def groups() -> Iterator[tuple[list[str], list[Row]]]:
    """Yields each setting with its runs of one hundred of seeds: 300 to 302 chose what 500 to 502 judge."""
    rows = sorted(read(), key=_setting_and_hundred)
    for (*setting, _), group in itertools.groupby(rows, key=_setting_and_hundred):
        yield setting, list(group)


def _setting_and_hundred(row: Row) -> list[str]:
    return [row[name] for name in SETTINGS] + [row["seed"][:-2]]


def table() -> str:
    """Returns a row for each of `groups`: its score over seeds, its beta and its divergence."""
    lines = ["| " + " | ".join((*SETTINGS, "score", "beta", "divergence")) + " |"]
    lines.append("|---" * (len(SETTINGS) + 3) + "|")
    for setting, rows in groups():
        mean, interval = mean_and_interval([float(row["score"]) for row in rows])
        score = f"{mean:.1f}" if len(rows) == 1 else f"{mean:.1f} ± {interval:.1f}"
        found = [", ".join(dict.fromkeys(row[name] for row in rows)) for name in ("beta", "divergence")]
        seeds = ", ".join(row["score"] for row in rows)
        lines.append("| " + " | ".join((*setting, f"{score} ({seeds})", *found)) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=Path, help="add the runs below this folder")
    parser.add_argument("--table", action="store_true", help="print the scores")
    options = parser.parse_args()
    if options.runs:
        add_runs(options.runs)
    if options.table:
        print(table())


if __name__ == "__main__":
    main()
