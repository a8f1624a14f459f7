"""A sweep at the command line: prints its plan, trains its cells (runs), and writes its tables."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from xql_jax.data.loading import task_file
from xql_jax.errors import UserError
from xql_jax.files import digest
from xql_jax.files.outputs import check_output, write_output
from xql_jax.files.paths import as_written, located
from xql_jax.learners.registry import ONLINE
from xql_jax.runs.machine import other_code
from xql_jax.runs.train import prepare_acting
from xql_jax.suites.tasks import get_task
from xql_jax.training.schedule import steps_in_words
from xql_jax.training.signals import StopSignals
from xql_jax.workshop.commands.messages import print_result
from xql_jax.workshop.reports.score_table import (
    latex_table,
    markdown_table,
    score_csv,
    score_tables,
    text_table,
)
from xql_jax.workshop.reports.scores import MethodScore, read_paper_table
from xql_jax.workshop.sweeps.executors import Executor, Outcome, in_process, ray_tasks, train_cells
from xql_jax.workshop.sweeps.plan import ABSENT, BEGUN, FINISHED, NO_DATA, Cell, make_plan, refreshed
from xql_jax.workshop.sweeps.slurm import Slurm
from xql_jax.workshop.sweeps.sweep_settings import Sweep
from xql_jax.workshop.sweeps.tables import of_table, scores_of


def sweep(settings: Sweep) -> int:
    """Prints the plan, trains the missing runs, writes the tables, and returns the exit code.

    Raises:
        UserError: if no cell has data; at the end, if the training of some cells has failed (the others were
            trained).
    """
    settings.check()
    paper = read_paper_table(settings.table) if settings.table else None
    settings = of_table(settings, paper) if paper else settings
    if settings.finetune or any(method.split(":")[0] in ONLINE for method in settings.methods):
        prepare_acting()
    plan = make_plan(settings)
    if settings.download and not settings.dry_run:
        plan = downloaded(plan, settings)
    executor: Executor = in_process
    if settings.executor == "ray":
        executor = ray_tasks(settings)
    elif settings.executor == "slurm":
        executor = Slurm(settings)
    _print_plan(plan)
    if settings.dry_run:
        print("\n\n".join(map(text_table, score_tables(scores_of(plan, paper)))))
        if isinstance(executor, Slurm):
            print(f"sbatch would be given for each run:\n{executor.script()}")
        return 0
    if all(cell.state == NO_DATA for cell in plan):
        others = "--download fetches D4RL's, --datasets=NAME=FILE takes others"
        raise UserError(f"nothing can be trained: {plan[0].missing} is missing: {others}")
    folder = located(settings.output or f"{settings.save_dir}/tables")
    name = settings.name or f"sweep_{digest([[cell.identity, cell.steps] for cell in plan])[:8]}"
    check_output("output", str(folder / f"{name}.csv"))
    failures: dict[str, str] = {}
    with StopSignals() as stop:
        for cell, outcome in train_cells(plan, settings, executor, stop):
            _print_outcome(cell, outcome)
            if isinstance(outcome, str):
                failures[str(cell)] = outcome
            plan = refreshed(plan, settings.save_dir)
            print(f"{sum(cell.state in (ABSENT, BEGUN) for cell in plan)} to train", flush=True)
    _write(scores_of(plan, paper), folder, name)
    if stop.received:
        print(f"stopped by {stop.received.name}; the same command goes on")
        return 128 + stop.received
    if failures:
        first, why = next(iter(failures.items()))
        raise UserError(f"{len(failures)} of {len(plan)} failed; the first: {first}: {why}")
    if left := [cell for cell in plan if cell.state in (ABSENT, BEGUN)]:
        raise UserError(f"{len(left)} of {len(plan)} not finished, as {left[0]}; the same command goes on")
    return 0


def downloaded(plan: Sequence[Cell], settings: Sweep) -> list[Cell]:
    """Returns the plan with the datasets that were missing, and prints which could not be downloaded."""
    for name in dict.fromkeys(cell.dataset for cell in plan if cell.state == NO_DATA):
        try:
            task_file(get_task(name))
        except UserError as error:
            print(f"{name}: {error}", flush=True)
    return refreshed(plan, settings.save_dir)


def _print_plan(plan: Sequence[Cell]) -> None:
    """Prints the cells with their states and what is left of them, and missing data."""
    counts = Counter(cell.state for cell in plan)
    print(", ".join(f"{number} {state}" for state, number in counts.items()) + ":")
    for cell in plan:
        what = cell.state
        if cell.state == FINISHED and cell.run:
            what += f": {as_written(str(cell.run.path))}"
        else:
            left, updates = cell.steps - cell.step, (cell.settings.schedule.handover or 0) - cell.step
            steps = steps_in_words(left * cell.members, cell.settings.unit, max(0, updates) * cell.members)
            what += f", {steps} of {cell.members} members"
        print(f"  {cell}: {what}")
    ended = [(cell, cell.run) for cell in plan if cell.state == FINISHED and cell.run]
    if others := [cell for cell, run in ended if other_code(run.record, cell.settings.task)]:
        print(f"  trained by other code: {len(others)}, as {others[0]}; delete a run to train it anew")
    for file in dict.fromkeys(as_written(cell.missing) for cell in plan if cell.missing):
        print(f"  missing: {file}; --download fetches D4RL's data", flush=True)


def _print_outcome(cell: Cell, outcome: Outcome) -> None:
    if isinstance(outcome, str):
        print(f"{cell}: failed: {outcome}", flush=True)
    elif outcome is None or outcome.status != "finished":
        signal = outcome and outcome.stopped_by
        why = f"stopped by {signal.name}" if signal else "not finished"
        print(f"{cell}: {why}; the same command goes on", flush=True)
    else:
        print(f"{cell}:", flush=True)
        for result in outcome.summary["results"]:
            print_result(result, outcome.summary.get("quantity") or "score")


def _write(scores: Sequence[MethodScore], folder: Path, name: str) -> None:
    tables = score_tables(scores)
    texts = {"txt": "\n\n".join(map(text_table, tables)) + "\n", "csv": score_csv(scores)}
    texts |= {"md": "\n".join(map(markdown_table, tables)), "tex": "\n".join(map(latex_table, tables))}
    for kind, text in texts.items():
        write_output("output", folder / f"{name}.{kind}", text)
    print(texts["txt"] + f"written to {as_written(str(folder))}/{name}.{{{','.join(texts)}}}")
