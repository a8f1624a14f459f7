"""The four combinations of XQL's clip and Q's loss: tables of their runs, and a picture of why they differ.

The paper prints a clip of z on both sides (D.3) and squared errors of Q (Eq. 14). Its scores are of the
authors' code, which clips from above alone and has Huber's loss. docs/choosing-beta.md shows what follows.

  for CLIP in both above; do for LOSS in mse huber; do
      xql-train-offline --env_name=TASK --clip_rule=$CLIP --critic_loss=$LOSS --seed=100 --num_seeds=3 ...
  done; done
  python benchmarks/losses.py --runs=results      # adds these runs to docs/results/losses/
  python benchmarks/losses.py --table             # means, intervals, and the combination that loses least
  python benchmarks/losses.py --picture=docs/images/losses.png
"""

import argparse
import csv
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from xql_jax.losses import gumbel
from xql_jax.numerics.statistics import mean_and_interval
from xql_jax.pictures.style import BLUE, ORANGE, SOFT, VERMILION, render, styled

RESULTS = Path(__file__).resolve().parents[1] / "docs" / "results" / "losses"
SETTING = ("clip_rule", "critic_loss")
COMBINATIONS = (("both", "mse"), ("above", "mse"), ("both", "huber"), ("above", "huber"))
# By table: the CSV file of a run, and its column.
TABLES = {"scores": ("evaluations.csv", "score"), "values": ("metrics.csv", "value/v_mean")}
COLUMNS = ("task", "beta", *SETTING, "seed", "step", "value")
V_EVERY = 5_000  # updates between the values of V that are kept

Row = dict[str, str]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=Path, help="add the runs below this folder")
    parser.add_argument("--table", action="store_true", help="print the scores of the combinations")
    parser.add_argument("--picture", type=Path, help="draw the picture")
    options = parser.parse_args()
    if options.runs:
        for name in TABLES:
            add_runs(name, options.runs)
    if options.table:
        print(table())
    if options.picture:
        options.picture.write_bytes(render(picture()))


def read(name: str) -> list[Row]:
    file = RESULTS / f"{name}.csv"
    if not file.exists():
        return []
    with file.open(newline="") as lines:
        return list(csv.DictReader(lines))


def add_runs(name: str, folder: Path) -> None:
    """Adds the rows of all runs below the folder to the table; a seed's new rows replace its old ones."""
    file, column = TABLES[name]
    rows = {tuple(row[key] for key in COLUMNS[:-1]): row for row in read(name)}
    for config_file in sorted(folder.rglob("config.json")):
        content = json.loads(config_file.read_text())
        config, path = content["config"], config_file.with_name(file)
        if not path.exists() or any(key not in config for key in SETTING):
            continue
        with path.open(newline="") as lines:
            for row in csv.DictReader(lines):
                step = int(row["step"])
                if row.get(column) and (name == "scores" or step % V_EVERY == 0):
                    setting = {key: config[key] for key in ("beta", *SETTING)}
                    kept = {"task": content["name"], **setting, "seed": row["seed"], "step": step}
                    kept = {key: str(value) for key, value in kept.items()}
                    rows[tuple(kept.values())] = {**kept, "value": f"{float(row[column]):.6g}"}
    RESULTS.mkdir(parents=True, exist_ok=True)
    with (RESULTS / f"{name}.csv").open("w", newline="") as lines:
        writer = csv.DictWriter(lines, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(sorted(rows.values(), key=lambda row: (*list(row.values())[:5], int(row["step"]))))


def last(name: str, task: str, combination: tuple[str, str]) -> np.ndarray:
    """Returns f64[seeds], the values at the last step that the task's every combination has."""
    of_task = [row for row in read(name) if row["task"] == task]
    mine = [row for row in of_task if (row["clip_rule"], row["critic_loss"]) == combination]
    steps = [
        {int(row["step"]) for row in of_task if (row["clip_rule"], row["critic_loss"]) == each}
        for each in COMBINATIONS
    ]
    step = max(set.intersection(*(each for each in steps if each)), default=0)
    return np.array([float(row["value"]) for row in mine if int(row["step"]) == step])


def table() -> str:
    """Scores and V by task; then, for each combination, the most points that it loses to a task's best."""
    lines = [
        "| | both, squared (the print) | above, squared | both, Huber | above, Huber (their code) |",
        "|---|---|---|---|---|",
    ]
    losses: dict[tuple[str, str], list[float]] = {each: [] for each in COMBINATIONS}
    for task in sorted({row["task"] for row in read("scores")}):
        for name, words in (("scores", task), ("values", f"{task}, V")):
            cells = [last(name, task, each) for each in COMBINATIONS]
            if name == "scores" and all(map(len, cells)):
                best = max(cell.mean() for cell in cells)
                for each, cell in zip(COMBINATIONS, cells, strict=True):
                    losses[each].append(best - cell.mean())
            lines.append(f"| {words} | " + " | ".join(map(_cell, cells)) + " |")
    worst = [f"{max(lost):.1f}" if lost else "" for lost in losses.values()]
    return "\n".join([*lines, f"| most points lost | {' | '.join(worst)} |"])


def _cell(values: np.ndarray) -> str:
    each = ", ".join(f"{value:,.0f}" for value in values)
    if len(values) < 2:
        return each
    mean, half = mean_and_interval(values)
    return f"{mean:,.1f} ± {half:,.1f} ({each})".replace("-", "−")


BETA, CLIP = 1.0, 5.0
RULES = {"both": VERMILION, "above": BLUE, "saturate": ORANGE}


def pull(rule: gumbel.ClipRule, z: np.ndarray) -> np.ndarray:
    """How one example moves V, -dLoss/dV in units of 1 / beta, with z = (Q - V) / beta; plain loss."""

    def loss(v: jax.Array) -> jax.Array:
        return gumbel.gumbel_loss(v, jnp.array(z), beta=BETA, clip=CLIP, clip_rule=rule).sum()

    return -np.array(jax.grad(loss)(jnp.zeros(len(z))))


def descent(rule: gumbel.ClipRule, start: float, steps: int) -> np.ndarray:
    """V after each step of gradient descent, fitted to five targets from -1 to 1 by the rescaled loss."""
    targets = jnp.linspace(-1.0, 1.0, 5)

    def mean_loss(v: jax.Array) -> jax.Array:
        values = jnp.full(5, v)
        return gumbel.gumbel_rescaled_loss(values, targets, beta=BETA, clip=CLIP, clip_rule=rule).mean()

    def step(v: jax.Array, _: None) -> tuple[jax.Array, jax.Array]:
        return v - 0.05 * jax.grad(mean_loss)(v), v

    return np.array(jax.lax.scan(step, jnp.float32(start), length=steps)[1])


@styled()
def picture() -> Figure:
    """One example's pull on V; V that starts above all targets; V on pen by combination."""
    drawing = Figure(figsize=(10, 3.4), layout="constrained")
    force, from_above, pen = drawing.subplots(1, 3)
    z = np.linspace(-10, 6.5, 400)
    for name, colour in RULES.items():
        rule = gumbel.CLIP_RULES[name]
        dashes = ":" if name == "saturate" else "-"
        force.plot(z, pull(rule, z), dashes, color=colour, label=name)
        from_above.plot(descent(rule, 12.0, 160), dashes, color=colour, label=name)
    force.set_yscale("symlog", linthresh=1)
    force.axhline(0, color=SOFT, linewidth=0.8)
    force.set(xlabel="z = (Q − V) / β, clip 5", ylabel="pull on V (1 / β)", title="one example")
    from_above.axhspan(-1, 1, color=SOFT, alpha=0.2, label="targets")
    from_above.set(xlabel="gradient steps", ylabel="V", title="V that starts above")
    for combination, colour in zip(COMBINATIONS, (VERMILION, BLUE, "#CC79A7", "#009E73"), strict=True):
        rows = [row for row in read("values") if row["task"].startswith("pen")]
        mine = [row for row in rows if (row["clip_rule"], row["critic_loss"]) == combination]
        for seed in sorted({row["seed"] for row in mine}):
            of_seed = [(int(row["step"]), float(row["value"])) for row in mine if row["seed"] == seed]
            steps, values = zip(*of_seed, strict=True)
            label = ", ".join(combination) if seed == mine[0]["seed"] else None
            pen.plot(steps, values, color=colour, label=label)
    pen.axhline(0, color=SOFT, linewidth=0.8)
    pen.set(xlabel="updates", ylabel="mean V", title="V on pen, half of the data random")
    for axes in (force, from_above, pen):
        axes.legend(fontsize=7)
    return drawing


if __name__ == "__main__":
    main()
