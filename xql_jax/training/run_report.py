"""What a run came to, for its summary, its picture and the screen."""

import signal
from pathlib import Path
from typing import Any

from xql_jax.evaluation.rollout import Evaluator
from xql_jax.logs.files import writing
from xql_jax.reports.plots import plot_learning_curve
from xql_jax.reports.summary import read_rows, summarize
from xql_jax.tasks import Task
from xql_jax.training.loop import TrainingLoop
from xql_jax.training.run_folder import RunFolder


def summary_of(
    training: TrainingLoop, name: str, algorithm: str, compile_seconds: float, folder: RunFolder
) -> dict[str, Any]:
    """Returns what every run's summary.json holds; times in seconds."""
    population, progress = training.population, training.progress
    seconds = {
        "compile": compile_seconds,
        "update": progress.update_seconds,
        "evaluation": progress.evaluation_seconds,
    }
    steps = progress.step * len(population.members)
    return {
        "status": "finished" if training.finished else "interrupted",
        "env_name": name,
        "algorithm": algorithm,
        "step": progress.step,
        "results": summarize(read_rows(folder.evaluations)),
        "diverged": [
            {"member": str(population.members[int(index)]), **divergence}
            for index, divergence in progress.diverged.items()
        ],
        "seconds": {name: round(value, 3) for name, value in seconds.items()},
        f"{population.unit}s_per_second": round(steps / progress.update_seconds, 1) if steps else None,
    }


def draw_learning_curve(
    algorithm: str, task: Task | None, evaluator: Evaluator | None, unit: str, folder: RunFolder
) -> None:
    """Draws the scores of a run that was evaluated."""
    rows = read_rows(folder.evaluations)
    if task is None or evaluator is None or not rows:
        return
    curve = folder.path / "learning_curve.png"
    with writing(curve):
        plot_learning_curve(rows, f"{algorithm} on {task.name}", curve, f"{unit}s")


def tell_end(summary: dict[str, Any], path: Path, received: signal.Signals | None, unit: str) -> int:
    """Prints how a run ended, by itself or by the signal; returns the exit code."""
    if summary["status"] == "finished" or received is None:
        print_results(summary, path, "done", unit)
        return 0
    print_results(summary, path, f"stopped by {received.name}; go on with --resume", unit)
    return 128 + received


def print_results(summary: dict[str, Any], path: Path, heading: str, unit: str) -> None:
    print(f"{heading}: {summary['env_name']}, {summary['algorithm']}, {summary['step']:,} {unit}s")
    for result in summary["results"]:
        setting = ", ".join(f"{name}={float(value):g}" for name, value in result["hyperparameters"].items())
        interval = result["last_score_interval_95"]
        spread = (
            f" ± {interval:.1f} (95% interval of the mean over {len(result['seeds'])} seeds)"
            if interval
            else ""
        )
        by_seed = ", ".join(
            f"{score:.1f}" + (" (diverged)" if seed in result["diverged_seeds"] else "")
            for seed, score in zip(result["seeds"], result["last_score_by_seed"], strict=True)
        )
        print(
            f"  {setting + ': ' if setting else ''}last score {result['last_score']:.1f}{spread}; "
            f"by seed: {by_seed}"
        )
    for divergence in summary["diverged"]:
        print(f"  diverged: {divergence['member']} at {unit} {divergence['step']} ({divergence['quantity']})")
    print(f"  results: {path}")
