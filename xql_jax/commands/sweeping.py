"""A sweep at the command line: prints its plan, trains its cells (runs), and writes its tables."""

import runpy
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml
from ml_collections import ConfigDict

from xql_jax.commands.training import print_result
from xql_jax.data.loading import task_file
from xql_jax.errors import UserError, nearest
from xql_jax.outputs import check_output, make_folder, writing_output
from xql_jax.reports.paper_tables import PaperTable
from xql_jax.reports.score_table import ScoreTable
from xql_jax.settings import settings_of
from xql_jax.sweeps.plan import FINISHED, NO_DATA, Cell, Plan, make_plan, refreshed
from xql_jax.sweeps.ray_cluster import RayCluster
from xql_jax.sweeps.settings import SweepSettings, as_typed
from xql_jax.sweeps.slurm import Slurm
from xql_jax.sweeps.tables import table_of
from xql_jax.sweeps.worker import Executor, InProcess, Outcome, train
from xql_jax.tasks import get_task
from xql_jax.training.signals import StopSignals

S = TypeVar("S", bound=SweepSettings)


def sweep(settings: SweepSettings, paper: PaperTable | None = None) -> int:
    """Prints the plan, trains the missing runs, writes the tables, and returns the exit code.

    Raises:
        UserError: if no cell has data; at the end, if the training of some cells has failed (the others were
            trained).
    """
    plan = make_plan(settings)
    if settings.download and not settings.dry_run:
        plan = downloaded(plan, settings)
    _print_plan(plan)
    executor = make_executor(settings)
    if settings.dry_run:
        print(table_of(plan.cells, paper).as_text())
        if isinstance(executor, Slurm):
            print(f"sbatch would be given for each run:\n{executor.script()}")
        return 0
    without = [cell.missing for cell in plan.cells if cell.state == NO_DATA]
    if len(without) == len(plan.cells):
        raise UserError(
            f"nothing can be trained: {without[0]} is missing"
            + (f", and so are the data of {len(without) - 1} more" if len(without) > 1 else "")
            + ": --download fetches D4RL's, --datasets=NAME=FILE takes others"
        )
    folder = make_folder("out", settings.out)
    check_output("out", str(folder / f"{settings.name}.csv"))
    failures: dict[str, str] = {}
    with StopSignals() as stop:
        for cell, outcome in train(plan, settings, executor, stop):
            _print_outcome(cell, outcome)
            if outcome.failure:
                failures[str(cell)] = outcome.failure
    _write(table_of(refreshed(plan, settings.save_dir).cells, paper), folder, settings.name)
    if stop.received:
        print(f"stopped by {stop.received.name}; the same command goes on")
        return 128 + stop.received
    if failures:
        first, why = next(iter(failures.items()))
        raise UserError(f"{len(failures)} of {len(plan.cells)} failed; the first: {first}: {why}")
    return 0


def make_executor(settings: SweepSettings) -> Executor:
    """Returns the executor that the settings ask for; UserError if it is not available."""
    if settings.executor == "in_process":
        return InProcess()
    if settings.executor == "ray":
        return RayCluster(settings)
    return Slurm(settings, Path(settings.save_dir).expanduser() / "slurm")


def with_file(settings: S) -> S:
    """Returns the settings with those that their file gives and the command line does not.

    The file is YAML, or Python with a `get_config` that returns a ConfigDict. A list gives several values;
    `sweep` and `slurm_options` may be mappings.

    Raises:
        UserError: if the file cannot be read, names an unknown setting, or gives an invalid value.
    """
    if settings.file is None:
        return settings
    path, known, values = Path(settings.file), settings_of(type(settings)), dict(vars(settings))
    aliases = {one.alias: name for name, one in known.items() if one.alias}
    given = set(settings.given)
    for typed, value in _read(path).items():
        name = aliases.get(typed, typed)
        if name not in known:
            raise UserError(f"{path}: unknown flag {name!r}; nearest: {nearest(str(name), known)}")
        if name in settings.given or value is None:
            continue
        if known[name].by_commas:
            value = (
                [as_typed(one) for one in value]
                if isinstance(value, list | tuple)
                else as_typed(value).split(",")
            )
        elif known[name].kind is str:
            value = as_typed(value, " ")
        given.add(name)
        values[name] = value
    try:
        return type(settings)(**{**values, "given": frozenset(given)})
    except UserError as error:
        raise UserError(f"{path}: --{error}") from None


def _read(path: Path) -> Mapping[str, Any]:
    try:
        if path.suffix == ".py":
            return ConfigDict(runpy.run_path(str(path))["get_config"]()).to_dict()
        content = yaml.safe_load(path.read_text())
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from error
    except Exception as error:  # a Python file is the user's code, and may fail in any way
        raise UserError(f"{path}: not YAML, or no Python with a get_config: {error}") from error
    if not isinstance(content, dict):
        raise UserError(f"{path}: it must give flags by their names, as `methods: [xql, iql]`")
    return content


def downloaded(plan: Plan, settings: SweepSettings) -> Plan:
    """Returns the plan with the datasets that were missing, and prints which could not be downloaded."""
    for name in dict.fromkeys(cell.dataset for cell in plan.cells if cell.state == NO_DATA):
        try:
            task_file(get_task(name))
        except UserError as error:
            print(f"{name}: {error}", flush=True)
    return refreshed(plan, settings.save_dir)


def _print_plan(plan: Plan) -> None:
    """Prints the cells by state, with missing data and the expected time."""
    by_state: dict[str, list[Cell]] = {}
    for cell in plan.cells:
        by_state.setdefault(cell.state, []).append(cell)
    print(", ".join(f"{len(cells)} {state}" for state, cells in by_state.items()) + ":", flush=True)
    for cell in plan.cells:
        seconds = plan.seconds(cell)
        what = {
            FINISHED: f"finished: {cell.record.path}" if cell.record else "",
            NO_DATA: f"no data: {cell.missing} (--download fetches it)",
        }.get(cell.state, f"{cell.state}, {cell.updates:,} updates of {cell.members} members")
        hours = f", about {seconds / 3600:.2g} h" if seconds else ""
        print(f"  {cell}: {what}{hours}")
    expected = [plan.seconds(cell) for cell in plan.to_do]
    known = [seconds for seconds in expected if seconds is not None]
    if known:
        print(f"about {sum(known) / 3600:.2g} h on one machine, estimated from finished runs", flush=True)
    elif expected:
        print("how long it takes will be known when the first run has finished", flush=True)


def _print_outcome(cell: Cell, outcome: Outcome) -> None:
    """Prints how the cell's training ended."""
    if outcome.failure:
        print(f"{cell}: failed: {outcome.failure}", flush=True)
    elif outcome.summary.get("status") != "finished":
        why = f"stopped by {outcome.stopped.name}" if outcome.stopped else "not finished"
        print(f"{cell}: {why}; the same command goes on", flush=True)
    else:
        print(f"{cell}:", flush=True)
        for result in outcome.summary["results"]:
            print_result(result)


def _write(table: ScoreTable, folder: Path, name: str) -> None:
    """Writes the table in four formats, and prints it."""
    texts = {
        "txt": table.as_text() + "\n",
        "csv": table.as_csv(),
        "md": table.as_markdown(),
        "tex": table.as_latex(),
    }
    for kind, text in texts.items():
        with writing_output("out", folder / f"{name}.{kind}") as unfinished:
            unfinished.write_text(text, encoding="utf-8")
    print(table.as_text(), f"written to {folder}/{name}.{{{','.join(texts)}}}", sep="\n")
