"""Prints what is in a dataset, and what in it is likely to spoil a training; nothing is trained.

Examples:
  python experiments/inspect_dataset.py --env_name=kitchen-complete-v0
  python experiments/inspect_dataset.py --dataset=mine.npz --dataset=more.npz --plot=mine.png
  python experiments/inspect_dataset.py --env_name=antmaze-umaze-v2 --dataset=mine.hdf5 --json=mine.json
"""

import json
from collections.abc import Callable
from pathlib import Path

from absl import flags

from xql_jax.commands import command_line
from xql_jax.data import load_dataset
from xql_jax.errors import UserError
from xql_jax.files import check_output
from xql_jax.reports.dataset_report import describe_dataset, draw_dataset, report_lines
from xql_jax.tasks import get_task

flags.DEFINE_string(
    "env_name", None, "Task whose data to look at, or by whose limit and scores to judge --dataset."
)
flags.DEFINE_multi_string(
    "dataset",
    [],
    "A file (.hdf5, .npz), a folder of .npz episodes, ogbench:FILE.npz or minari:ID; several are joined.",
)
flags.DEFINE_string("dataset_url", None, "Where to download the task's own dataset from, instead of D4RL's.")
flags.DEFINE_string("plot", None, "A .png file for the picture.")
flags.DEFINE_string("json", None, "A .json file for the numbers.")
FLAGS = flags.FLAGS


def main() -> int:
    plot = check_output("plot", FLAGS.plot, (".png",)) if FLAGS.plot else None
    numbers = check_output("json", FLAGS.json) if FLAGS.json else None
    task = get_task(FLAGS.env_name) if FLAGS.env_name else None
    dataset = load_dataset(task, FLAGS.dataset, FLAGS.dataset_url)
    report = describe_dataset(dataset, task)
    print("\n".join(report_lines(report)))
    if plot:
        figure = draw_dataset(dataset, f"{task.name}: {dataset.source}" if task else dataset.source)
        write(plot, lambda: figure.savefig(plot, format="png", dpi=120))
    if numbers:
        write(numbers, lambda: numbers.write_text(json.dumps(report.as_dict(), indent=2) + "\n"))
    return 0


def write(path: Path, save: Callable[[], object]) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save()
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error}") from error
    print(f"  written: {path}")


if __name__ == "__main__":
    command_line.run(main)
