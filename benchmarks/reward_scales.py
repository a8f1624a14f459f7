"""What each cure of XQL's instability bears: rewards times 0.01 to 100, with beta as it is.

    python benchmarks/reward_scales.py OUT.csv [--dataset=TASK[=FILE] ...] [--cures=NAME,...] [--width=64]

The policy's temperature is divided by the scale, so that only the fits of V and Q meet it. On locomotion it
multiplies IQL's scale. A row of OUT.csv is a seed of a cure on scaled data: its last score, the mean of V
over the last updates in units of the scale, and how the run ended:

    diverged    its numbers stopped being finite
    ran away    V is above the largest discounted return of the data's trajectories
    held        neither

Rows that OUT.csv has already are not trained again. With --table nothing is trained: OUT.csv is printed as
Markdown, the mean score of the seeds, and in parentheses how many of them ran away or diverged.
"""

import argparse
import csv
import itertools
from pathlib import Path
from types import SimpleNamespace

import numpy as np

import xql_jax
from xql_jax.data.loading import load_dataset
from xql_jax.data.views import discounted_returns
from xql_jax.runs.config_files import choose_config
from xql_jax.runs.kinds import Offline
from xql_jax.suites.tasks import get_task

SCALES = (0.01, 0.1, 1.0, 10.0, 100.0)
SEEDS = 3
CURES = {
    "xql": {},  # rescaled, two-sided clip
    "clip_rule=above": {"clip_rule": "above"},
    "clip_rule=above beta_nats=0.25": {"clip_rule": "above", "beta_nats": 0.25},
    "clip_rule=above beta_nats=1": {"clip_rule": "above", "beta_nats": 1.0},
    "clip_rule=saturate": {"clip_rule": "saturate"},
    "clip_rule=saturate beta_nats=1": {"clip_rule": "saturate", "beta_nats": 1.0},
    "loss=plain": {"loss": "plain"},
    "loss=log": {"loss": "log"},
    "loss=normalized": {"loss": "normalized"},
    "loss=normalized clip_rule=saturate": {"loss": "normalized", "clip_rule": "saturate"},
    "ramp": {"ramp": "beta={high:g}:{beta:g}@0.5"},  # from ten times beta down to it
    "mxql": {"method": "mxql"},
    "xql_bellman": {"method": "xql_bellman"},
}
COLUMNS = ("dataset", "cure", "scale", "seed", "score", "v_in_units_of_scale", "largest_return", "ended")
OPTIONS = {"max_steps": 30_000, "eval_interval": 30_000, "eval_episodes": 20, "num_seeds": SEEDS, "seed": 0}


def arrays_of(name: str, file: str) -> tuple[dict[str, np.ndarray], float]:
    """Returns the task's data, and the scale that locomotion's rewards have, else 1."""
    task = get_task(name)
    dataset = load_dataset(task, [file] if file else [])
    batch, unit = dataset.batch, 1.0
    if task.suite.scales_rewards:
        unit = 1_000 / np.ptp(dataset.trajectory_returns())
    fields = {field: np.asarray(array) for field, array in batch._asdict().items()}
    return fields | {"timeouts": dataset.ends & (batch.masks == 1)}, unit


def train(
    name: str, data: dict[str, np.ndarray], unit: float, cure: str, scale: float, width: int
) -> list[dict]:
    """Trains the seeds, two layers of `width` in all networks; returns a row for each."""
    task, given = get_task(name), dict(CURES[cure])
    method = given.pop("method", "xql")
    config = SimpleNamespace(**choose_config(Offline, method, env_name=name, dataset=True).values)
    if "ramp" in given:
        given["ramp"] = given["ramp"].format(high=10 * config.beta, beta=config.beta)
    rewards = (data["rewards"] * unit * scale).astype(np.float32)
    policy = xql_jax.train(
        name, dataset={**data, "rewards": rewards}, method=method, scale_rewards=False,
        awr_temperature=config.awr_temperature / scale, progress=False,
        hidden_dims=(width, width), **OPTIONS, **given,
    )  # fmt: skip
    shifted = data["rewards"] * unit + task.suite.reward_shift / scale
    ends = data["timeouts"] | (data["masks"] == 0)
    largest = float(discounted_returns(shifted, data["masks"], ends, config.discount, False).max())
    (result,) = policy.summary["results"]
    values = {row.seed: row.results["value/v_mean"] for row in policy.run.rows(policy.run.files.metrics)}
    rows = []
    for seed, score in zip(result["seeds"], result["last_score_by_seed"], strict=True):
        v = values.get(seed, np.nan) / scale  # NaN: diverged before the first row
        ended = "ran away" if v > max(largest, 0.0) else "held"
        if seed in result["diverged_seeds"]:
            ended = "diverged"
        numbers = f"{score:.2f}", f"{v:.4g}", f"{largest:.4g}"
        rows.append(dict(zip(COLUMNS, (name, cure, scale, seed, *numbers, ended), strict=True)))
    return rows


def print_table(file: Path) -> None:
    with file.open() as lines:
        rows = list(csv.DictReader(lines))
    for dataset in dict.fromkeys(row["dataset"] for row in rows):
        print(f"\n| {dataset} | " + " | ".join(f"× {scale:g}" for scale in SCALES) + " |")
        print("|---" * (1 + len(SCALES)) + "|")
        for cure in CURES:
            cells = []
            for scale in SCALES:
                key = dataset, cure, scale
                seeds = [row for row in rows if (row["dataset"], row["cure"], float(row["scale"])) == key]
                failed = sum(row["ended"] != "held" for row in seeds)
                score = f"{np.mean([float(row['score']) for row in seeds]):.0f}" if seeds else ""
                cells.append(f"{score} ({failed})" if failed else score)
            print(f"| `{cure}` | " + " | ".join(cells).replace("-", "−") + " |")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path)
    parser.add_argument("--dataset", action="append", help="TASK or TASK=FILE")
    parser.add_argument("--cures", default=",".join(CURES))
    parser.add_argument(
        "--width", type=int, default=64, help="of the hidden layers; at 256 a core needs hours"
    )
    parser.add_argument("--table", action="store_true", help="print OUT.csv as Markdown, and train nothing")
    options = parser.parse_args()
    if options.table:
        print_table(options.out)
        return
    there = set()
    if options.out.exists():
        with options.out.open() as file:
            there = {(row["dataset"], row["cure"], float(row["scale"])) for row in csv.DictReader(file)}
    for source in options.dataset or ["pointmaze-umaze-v0"]:
        name, _, file_name = source.partition("=")
        data, unit = arrays_of(name, file_name)
        for cure, scale in itertools.product(options.cures.split(","), SCALES):
            if (name, cure, scale) in there:
                continue
            rows = train(name, data, unit, cure, scale, options.width)
            is_new = not options.out.exists()
            with options.out.open("a", newline="") as file:
                writer = csv.DictWriter(file, COLUMNS)
                if is_new:
                    writer.writeheader()
                writer.writerows(rows)
            print(*(f"{row['score']} ({row['ended']})" for row in rows), cure, scale, name, flush=True)


if __name__ == "__main__":
    main()
