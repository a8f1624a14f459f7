"""A table of offline scores by training what it lacks: one population of seeds for a dataset and method."""

import dataclasses
import itertools
import json
import logging
import math
import runpy
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from xql_jax.configuration import FILE_BY_SUITE
from xql_jax.data.cache import cached_file
from xql_jax.errors import UserError, nearest
from xql_jax.files import as_json
from xql_jax.learners.fields import traced_names
from xql_jax.learners.registry import OFFLINE, make_learner
from xql_jax.reports.paper_tables import read_paper_table
from xql_jax.reports.score_table import Entry, ScoreTable
from xql_jax.runs.offline import OfflineRun
from xql_jax.runs.record import RunRecord, all_runs
from xql_jax.runs.settings import OfflineSettings, ReproductionSettings
from xql_jax.tasks import Task, get_task
from xql_jax.training.loop import Schedule

LOG = logging.getLogger(__name__)
TUNED = "xql_t"  # XQL with Table 4's values of each dataset
EPISODES = {"antmaze": 100}  # of an evaluation where that is not 10
FINISHED, BEGUN, ABSENT, NO_DATA = "finished", "begun", "to do", "no data"


@dataclasses.dataclass(frozen=True)
class Cell:
    """One method on one dataset."""

    dataset: str  # the task's name, with =FILE for data of one's own
    method: str
    settings: OfflineSettings
    state: str
    record: RunRecord | None  # of its run, if that was begun
    missing: str = ""  # the data file, if that is not there

    @property
    def members(self) -> int:
        """Seeds times settings of the sweep."""
        grid = (len(part.split(",")) for part in self.settings.sweep.split())
        return self.settings.num_seeds * math.prod(grid)

    @property
    def updates(self) -> int:
        """Those of all members together that are still to be done."""
        if self.state == FINISHED:
            return 0
        steps = self.record.steps if self.record else []
        return (self.settings.schedule.max_steps - (steps[-1] if steps else 0)) * self.members


@dataclasses.dataclass(frozen=True)
class Plan:
    """All cells of a table, row by row, and what is there already."""

    cells: Sequence[Cell]
    seconds_an_update: Mapping[
        str, float
    ]  # of one seed, evaluations in it, by method, of runs that are there

    def seconds(self, cell: Cell) -> float | None:
        """What the cell is expected to take; None if nothing like it was ever run under this folder."""
        if not self.seconds_an_update:
            return None
        mean = sum(self.seconds_an_update.values()) / len(self.seconds_an_update)
        return cell.updates * self.seconds_an_update.get(cell.method, mean)


def make_plan(settings: ReproductionSettings) -> Plan:
    """Returns what the table needs and what of it is there. Nothing is trained, loaded or downloaded.

    Raises:
        UserError: if a dataset or method is unknown.
    """
    records = list(all_runs(Path(settings.save_dir).expanduser()))
    datasets, methods = _asked(settings)
    cells = [_cell(dataset, method, settings, records) for dataset in datasets for method in methods]
    return Plan(cells, _measured(records))


def train(plan: Plan) -> Iterator[tuple[Cell, OfflineRun]]:
    """Trains what is not finished, cell by cell; a run that was begun goes on.

    Yields each cell's run when it has ended or was stopped by a signal, which the caller must look at.
    """
    for cell in plan.cells:
        if cell.state in (FINISHED, NO_DATA):
            continue
        with OfflineRun(cell.settings) as run:
            run.run()
        yield cell, run


def table_of(settings: ReproductionSettings) -> ScoreTable:
    """Returns what is there by now, beside the paper's."""
    cells = make_plan(settings).cells
    paper = read_paper_table(settings.table).scores
    entries = {
        (cell.dataset, column): entry
        for cell in cells
        for column, entry in _entries(cell, paper.get((cell.dataset, cell.method)))
    }
    datasets, columns = (list(dict.fromkeys(names)) for names in zip(*entries, strict=True))
    return ScoreTable(datasets, columns, entries)


def _asked(settings: ReproductionSettings) -> tuple[Sequence[str], Sequence[str]]:
    paper = read_paper_table(settings.table)
    datasets, methods = settings.datasets or paper.datasets, settings.methods or paper.methods
    known = [*OFFLINE, TUNED]
    for method in methods:
        name = method.split(":")[0].split("+")[0]
        if name not in known:
            raise UserError(f"--methods: unknown method {name!r}; nearest known: {nearest(name, known)}")
    traced = sorted({field for method in methods for field in _swept_fields(method)})
    for field in (part.split("=")[0] for part in settings.sweep.split()):
        if field not in traced:
            raise UserError(f"--sweep: no method asked for has {field!r}; nearest: {nearest(field, traced)}")
    return list(dict.fromkeys(datasets)), list(dict.fromkeys(methods))


def _swept_fields(method: str) -> list[str]:
    """The fields of a method that a sweep may vary."""
    algorithm = method.split(":")[0]
    return traced_names(make_learner("xql" if algorithm == TUNED else algorithm))


def _cell(dataset: str, method: str, settings: ReproductionSettings, records: Sequence[RunRecord]) -> Cell:
    name, _, file = dataset.partition("=")
    task = get_task(name)
    algorithm, *overrides = method.split(":")
    tuned = algorithm == TUNED
    config = _config(Path(settings.config_dir), task, "xql" if tuned else algorithm)
    known = _swept_fields(method)
    wanted = OfflineSettings(
        config=config,
        config_overrides=frozenset(_override(config, text) for text in overrides),
        sweep=" ".join(part for part in settings.sweep.split() if part.split("=")[0] in known),
        schedule=Schedule(
            max_steps=settings.max_steps,
            log_interval=min(1_000, settings.max_steps),
            eval_interval=settings.eval_interval or max(1, settings.max_steps // 10),
            checkpoint_interval=settings.checkpoint_interval,
        ),
        env_name=name,
        dataset=(file,) if file else (),
        tuned=tuned,
        seed=settings.seed,
        num_seeds=settings.num_seeds,
        eval_episodes=settings.eval_episodes or EPISODES.get(task.suite, 10),
        save_dir=settings.save_dir,
        resume=True,
        show_progress=settings.show_progress,
    )
    asked = OfflineRun(wanted)
    asked.resolve()  # tells of mistakes before anything is trained
    identity = json.loads(as_json(asked.identity))
    record = next((record for record in records if _has(record, identity)), None)
    place = Path(file).expanduser() if file else cached_file(task)
    if record and place.exists() and place.stat().st_mtime > (record.path / "config.json").stat().st_mtime:
        with OfflineRun(wanted) as run:  # the data were written after the run began: are they others?
            record = next((record for record in records if record.run == run.folder.run), None)
    if record and record.summary.get("status") == "finished":
        return Cell(dataset, method, wanted, FINISHED, record)
    if not place.exists() and (file or task.dataset_url):  # what is generated here is made when it is needed
        return Cell(dataset, method, wanted, NO_DATA, record, str(place))
    return Cell(dataset, method, wanted, BEGUN if record else ABSENT, record)


def _has(record: RunRecord, identity: Mapping[str, Any]) -> bool:
    """Whether the run has that identity, but for the data's content, which only the run itself looks at."""
    return all(record.content.get(name) == value for name, value in identity.items())


def _override(config: ConfigDict, text: str) -> str:
    """Sets a field of the config, or of what the method wants of a run, by FIELD=VALUE; returns its name."""
    name, _, value = text.partition("=")
    of_run = config.about.run
    if name in ("algorithm", "about") or name not in {*config, *of_run}:
        known = [*config, *of_run]
        raise UserError(f"--methods: unknown config field {name!r}; nearest known: {nearest(name, known)}")
    owner = of_run if name in of_run else config
    kind = owner.get_type(name)
    try:
        if kind is bool:
            owner[name] = {"true": True, "false": False}[value]
        elif kind is tuple:
            owner[name] = tuple(int(width) for width in value.strip("()").replace("/", " ").split())
        else:
            owner[name] = kind(value)
    except (KeyError, TypeError, ValueError):
        raise UserError(f"--methods: {name} must be a {kind.__name__}, not {value!r}") from None
    return name


def _config(folder: Path, task: Task, method: str) -> ConfigDict:
    file = folder / f"{FILE_BY_SUITE.get(task.suite, task.suite)}_config.py"
    return runpy.run_path(str(file))["get_config"](method)


def _measured(records: Sequence[RunRecord]) -> dict[str, float]:
    """Seconds an update of one seed took, by method: the mean over the runs that have finished."""
    seconds: dict[str, list[float]] = {}
    for record in records:
        summary = record.summary
        if summary.get("status") != "finished" or record.algorithm not in OFFLINE:
            continue
        members = sum(len(result["seeds"]) for result in summary["results"])
        spent = sum(summary["seconds"].values()) / (max(members, 1) * summary["step"])
        seconds.setdefault(record.algorithm, []).append(spent)
    return {method: sum(values) / len(values) for method, values in seconds.items()}


def _entries(cell: Cell, paper: float | None) -> Iterator[tuple[str, Entry]]:
    """Yields what is known of the cell by the column that it belongs to: one a setting that was swept."""
    if cell.state != FINISHED or cell.record is None:
        note = f"{cell.state}{': ' if cell.missing else ''}{cell.missing}"
        sweep = [part.partition("=") for part in cell.settings.sweep.split()]
        for values in itertools.product(*(values.split(",") for _, _, values in sweep)):
            setting = [f"{name}={float(v):g}" for (name, _, _), v in zip(sweep, values, strict=True)]
            yield " ".join((cell.method, *setting)), Entry(paper=None if setting else paper, note=note)
        return
    summary = cell.record.summary
    for result in summary["results"]:
        setting = [f"{name}={float(value):g}" for name, value in result["hyperparameters"].items()]
        yield (
            " ".join((cell.method, *setting)),
            Entry(
                last=tuple(result["last_score_by_seed"]),
                best=tuple(result["best_score_by_seed"]),
                diverged=len(result["diverged_seeds"]),
                updates=summary["step"],
                paper=None if setting else paper,
                run=str(cell.record.path),
            ),
        )
