"""Prints statistics of a dataset, and warns about problems that are likely to spoil a training.

Examples:
  xql-inspect --env_name=kitchen-complete-v0
  xql-inspect --dataset=mine.npz --dataset=more.npz --plot=mine.png
  xql-inspect --env_name=antmaze-umaze-v2 --dataset=mine.hdf5 --json=mine.json
"""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

from xql_jax.commands import command_line
from xql_jax.data.dataset import PREFIXES
from xql_jax.data.episodes import minari_datasets
from xql_jax.data.loading import cached_file, load_dataset
from xql_jax.envs import action_bounds
from xql_jax.outputs import check_output, check_outputs_differ, writing_output
from xql_jax.reports.dataset_report import describe_dataset, draw_dataset, report_lines
from xql_jax.reports.style import FORMATS, render
from xql_jax.settings import Settings, setting
from xql_jax.tasks import Task, get_task, referenced


@dataclasses.dataclass(frozen=True, kw_only=True)
class InspectionSettings(Settings):
    """The flags."""

    env_name: str | None = setting(
        None,
        "Task whose data to inspect. With --dataset: the task whose episode limit and scores apply to it.",
    )
    dataset: Sequence[str] = setting(
        (),
        "Data: a file (.hdf5, .npz), a folder of .npz episodes, ogbench:FILE.npz or minari:ID. Several are "
        "joined.",
    )
    dataset_url: str | None = setting(
        None, "Where to download the task's own dataset from, instead of D4RL's."
    )
    plot: str | None = setting(None, "Draw a picture to this .png, .pdf or .svg file.")
    json: str | None = setting(None, "Write the numbers to this .json file.")


def main(settings: InspectionSettings) -> int:
    task = get_task(settings.env_name) if settings.env_name else None
    inputs = input_paths(task, settings.dataset)
    plot = (
        check_output("plot", settings.plot, [f".{kind}" for kind in FORMATS], inputs)
        if settings.plot
        else None
    )
    numbers = check_output("json", settings.json, inputs=inputs) if settings.json else None
    check_outputs_differ({"plot": plot, "json": numbers})
    dataset = load_dataset(task, settings.dataset, settings.dataset_url)
    task = referenced(task, dataset.references) if task else None
    report = describe_dataset(dataset, task, action_bounds(task))
    print("\n".join(report_lines(report)), flush=True)
    if plot:
        figure = draw_dataset(dataset, f"{task.name}: {dataset.source}" if task else dataset.source)
        write("plot", plot, render(figure, plot.suffix.lower()[1:]))
    if numbers:
        write("json", numbers, json.dumps(dataclasses.asdict(report), indent=2).encode() + b"\n")
    return 0


def input_paths(task: Task | None, sources: Sequence[str]) -> list[Path]:
    """Returns the files and folders that the data come from; of a Minari dataset both where it may lie."""
    if task and not sources:
        return [cached_file(task)]
    names = [source.partition(":")[2] if source.startswith(PREFIXES) else source for source in sources]
    paths = [Path(name).expanduser() for name in names if name]
    return paths + [minari_datasets() / path for path in paths]


def write(flag: str, path: Path, content: bytes) -> None:
    with writing_output(flag, path) as unfinished:
        unfinished.write_bytes(content)
    print(f"  written: {path}")


if __name__ == "__main__":
    command_line.run(main, InspectionSettings)
