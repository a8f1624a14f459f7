"""Prints statistics of a dataset, and warns about problems that are likely to spoil a training.

Examples:
  xql-inspect --env_name=kitchen-complete-v0
  xql-inspect --dataset=mine.npz --dataset=more.npz --plot=mine.png
  xql-inspect --env_name=antmaze-umaze-v2 --dataset=mine.hdf5 --json=mine.json
"""

import dataclasses
import json
from collections.abc import Sequence

from xql_jax.commands import command_line
from xql_jax.data.dataset import check_spaces
from xql_jax.data.loading import load_dataset
from xql_jax.envs import action_bounds, own_sizes
from xql_jax.outputs import check_output, write_output
from xql_jax.reports.dataset_report import describe_dataset, draw_dataset, report_lines
from xql_jax.reports.style import FORMATS, render
from xql_jax.settings import (
    SEVERAL,
    TEXT,
    Checked,
    setting,
)
from xql_jax.tasks import get_task, referenced


@dataclasses.dataclass(frozen=True, kw_only=True)
class InspectionSettings(Checked):
    """The flags."""

    env_name: str | None = setting(
        None,
        TEXT,
        "Task whose data to inspect. With --dataset: the task whose episode limit and scores apply to it.",
    )
    dataset: Sequence[str] = setting(
        (),
        SEVERAL,
        "Data: a file (.hdf5, .npz), a folder of .npz episodes, ogbench:FILE.npz or minari:ID. Several are "
        "joined.",
    )
    dataset_url: str | None = setting(
        None, TEXT, "Where to download the task's own dataset from, instead of D4RL's."
    )
    plot: str | None = setting(None, TEXT, "Draw a picture to this .png, .pdf or .svg file.")
    json: str | None = setting(None, TEXT, "Write the numbers to this .json file.")


def main(settings: InspectionSettings) -> int:
    task = get_task(settings.env_name) if settings.env_name else None
    kinds = [f".{kind}" for kind in FORMATS]
    plot = check_output("plot", settings.plot, kinds) if settings.plot else None
    numbers = check_output("json", settings.json, [".json"]) if settings.json else None
    dataset = load_dataset(task, settings.dataset, settings.dataset_url)
    if task and (sizes := own_sizes(task)):
        check_spaces(dataset, *sizes, task.name)
    task = referenced(task, dataset.references) if task else None
    report = describe_dataset(dataset, task, action_bounds(task))
    print("\n".join(report_lines(report)), flush=True)
    if plot:
        figure = draw_dataset(dataset, f"{task.name}: {dataset.source}" if task else dataset.source)
        write_output("plot", plot, render(figure, plot.suffix.lower()[1:]))
        print(f"  written: {settings.plot}")
    if numbers:
        write_output("json", numbers, json.dumps(report, indent=2) + "\n")
        print(f"  written: {settings.json}")
    return 0


if __name__ == "__main__":
    command_line.run(main, InspectionSettings)
