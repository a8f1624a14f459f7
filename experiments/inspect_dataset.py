"""Prints statistics of a dataset, and warns about problems that are likely to spoil a training.

Examples:
  xql-inspect --env_name=kitchen-complete-v0
  xql-inspect --dataset=mine.npz --dataset=more.npz
  xql-inspect --env_name=antmaze-umaze-v2 --dataset=mine.hdf5 --json=mine.json
"""

from collections.abc import Sequence
from contextlib import closing
from json import dumps

from xql_jax.data.comparison import RESETS, Met, Ranges, observations_told
from xql_jax.data.dataset import check_spaces, with_scaled_actions
from xql_jax.data.loading import load_dataset
from xql_jax.data.names import unused_arrays
from xql_jax.envs import action_bounds, environment_maker, own_sizes
from xql_jax.files.outputs import check_output, write_output
from xql_jax.settings import (
    SEVERAL,
    TEXT,
    Command,
    setting,
)
from xql_jax.suites.tasks import get_task, referenced
from xql_jax.workshop.commands import command_line
from xql_jax.workshop.reports.dataset_report import describe_dataset, report_lines


@Command
def main(
    *,
    env_name: str | None = setting(
        None,
        TEXT,
        "Task whose data to inspect. With --dataset: the task whose episode limit and scores apply to it.",
    ),
    dataset: Sequence[str] = setting(
        (),
        SEVERAL,
        "Data: a file (.hdf5, .npz), a folder of .npz episodes, ogbench:FILE.npz or minari:ID. Several are "
        "joined.",
    ),
    unused_arrays: Sequence[str] = unused_arrays(),
    json: str | None = setting(None, TEXT, "Write the numbers to this .json file."),
) -> int:
    task = get_task(env_name) if env_name else None
    numbers = check_output("json", json, [".json"]) if json else None
    # By sources, as in training: what is wrong with one is told of that one.
    parts = [
        load_dataset(task, one, unused_arrays=unused_arrays) for one in [[each] for each in dataset] or [[]]
    ]
    data = load_dataset(task, parts)
    if task and (sizes := own_sizes(task)):
        check_spaces(data, *sizes, task.name)
    task = referenced(task, data.references) if task else None
    bounds = action_bounds(task)
    report = describe_dataset(data, task, with_scaled_actions(data, bounds))
    if task and task.suite.is_registered:
        with closing(environment_maker(task).vector_env(task, 1)) as env:
            report["warnings"] += observations_told(Ranges.of(data), Met.of(env, range(RESETS)), task.name)
    print("\n".join(report_lines(report)), flush=True)
    if numbers:
        write_output("json", numbers, dumps(report, indent=2) + "\n")
        print(f"  written: {json}")
    return 0


if __name__ == "__main__":
    command_line.run(main)
