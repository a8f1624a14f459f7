"""The plan of a sweep: its cells (one run each), and which of their runs already exist."""

import dataclasses
import itertools
import json
import logging
import re
from collections.abc import Collection, Iterator, Sequence

from xql_jax.data.dataset import SOURCE_PREFIXES
from xql_jax.data.loading import cached_file, stamps
from xql_jax.errors import UserError, advice, nearest
from xql_jax.files import as_json
from xql_jax.files.paths import located
from xql_jax.learners.registry import OFFLINE, ONLINE, method_of
from xql_jax.runs.config_files import Config, choose_config
from xql_jax.runs.find import find_runs
from xql_jax.runs.folder import RunFolder, identity_of
from xql_jax.runs.kinds import Finetune, FromData, Kept, Offline, Online, Training
from xql_jax.runs.load import OF_DATA, Run, digests_of
from xql_jax.runs.resolve import resolved, settings_from
from xql_jax.runs.run_data import load_data
from xql_jax.runs.varied import fields_of
from xql_jax.settings import Setting, settings_of
from xql_jax.suites.tasks import Task, get_task
from xql_jax.types import Json
from xql_jax.workshop.sweeps.sweep_settings import Sweep

LOG = logging.getLogger(__name__)
TUNED = "xql_t"  # XQL with the values of Table 4 for each dataset
FINISHED, BEGUN, ABSENT, NO_DATA = "finished", "begun", "to do", "no data"
FIELD_SEPARATOR = ":(?=[^:]*=)"  # what METHOD:FIELD=VALUE is split at; the colon in MODULE:NAME is no such


@dataclasses.dataclass(frozen=True)
class Cell:
    """One run of a sweep: a method on a dataset, with the seeds and settings that share a program."""

    dataset: str  # the task's name, with =FILE for the user's own data
    method: str  # METHOD+POLICY:FIELD=VALUE, as a user types it
    settings: Training
    members: int  # seeds times settings of the sweep
    steps: int  # of the whole run
    identity: Json  # the settings that define its run, without a digest of the data
    state: str = ABSENT
    run: Run | None = None  # if it was begun
    missing: str = ""  # the data file, if it does not exist

    def __str__(self) -> str:
        seeds = self.settings.seeds
        numbers = f"seeds {seeds[0]} to {seeds[-1]}" if len(seeds) > 1 else f"seed {seeds[0]}"
        return " ".join(filter(None, (self.dataset, self.method, self.settings.sweep, numbers)))

    @property
    def step(self) -> int:
        """The step of its last checkpoint; 0 if there is none."""
        return self.run.steps[-1] if self.run and self.run.steps else 0


def make_plan(settings: Sweep) -> list[Cell]:
    """Returns the sweep's cells, with their runs as far as these exist. Nothing is trained or downloaded.

    UserError if something is unknown or impossible, or a file of the user's that is needed does not exist.
    """
    check_methods(settings.methods)
    datasets = list(dict.fromkeys(settings.datasets))
    methods = list(dict.fromkeys(settings.methods))
    last, step = settings.seed + settings.num_seeds, settings.seeds_per_run or settings.num_seeds
    cells = []
    known: dict[str, Setting] = {}
    for dataset, typed in itertools.product(datasets, methods):
        config = config_for(typed, get_task(dataset.partition("=")[0]), settings.finetune)
        known |= config.may_be_in_files
        for method, grid in _variants(typed, config, settings.sweep):
            for first in range(settings.seed, last, step):
                seeds = range(first, min(first + step, last))
                wanted = run_settings(dataset, method, grid, seeds, settings)
                made = resolved(wanted)  # raises UserError for mistakes before anything is trained
                cell = Cell(
                    dataset=dataset,
                    method=method,
                    settings=wanted,
                    members=len(made.members),
                    steps=made.schedule.max_steps,
                    identity=json.loads(as_json(identity_of(made))),
                )
                cells.append(cell)
    for name, values in fields_of(settings.sweep):
        listed = values.split(",")
        if len(set(listed)) < len(listed):
            raise UserError(f"--sweep gives {name} the same value twice: '{name}={values}'")
        if name not in known:
            raise UserError(f"--sweep: no method asked for has {name!r}; {advice(name, known)}")
    cells = refreshed(cells, settings.save_dir)
    for cell in cells:
        if cell.state == NO_DATA and "=" in cell.dataset:
            raise UserError(f"--datasets={cell.dataset}: no such file")
        if cell.step > cell.steps:
            raise UserError(f"--max_steps={cell.steps}: {cell} has {cell.step:,}; give another --save_dir")
    return cells


def refreshed(cells: Sequence[Cell], save_dir: str) -> list[Cell]:
    """Returns the cells with their present states, and with the runs that exist by now."""
    records, left_out = find_runs([save_dir]) if located(save_dir).is_dir() else ([], [])
    for name, reason in left_out:
        LOG.warning(f"{name}: {reason}; left out")
    known_cells = []
    for cell in cells:
        record, missing = _record_of(cell, records), _missing(cell.settings)
        state = BEGUN if record else ABSENT
        if record and record.summary.get("status") == "finished" and record.summary["step"] == cell.steps:
            state, missing = FINISHED, ""  # its data are no longer needed
        elif missing:
            state = NO_DATA
        known_cells.append(dataclasses.replace(cell, state=state, run=record, missing=missing))
    return known_cells


def check_methods(methods: Sequence[str], known: Collection[str] = (*OFFLINE, *ONLINE, TUNED)) -> None:
    """Raises UserError if a name is not among the known."""
    for method in methods:
        name = method_of(re.split(FIELD_SEPARATOR, method)[0])
        if name not in known and ":" not in name:  # `choose_config` looks at users' own
            raise UserError(f"--methods: unknown method {name!r}; nearest known: {nearest(name, known)}")


def config_for(typed: str, task: Task, finetune: bool, network: str = "paper") -> Config:
    name = re.split(FIELD_SEPARATOR, typed)[0]
    method, tuned = ("xql", True) if name == TUNED else (name, False)
    kind = Online if method_of(method) in ONLINE else Finetune if finetune else Offline
    return choose_config(kind, method, env_name=task.name, network=network, tuned=tuned)


def run_settings(dataset: str, typed: str, grid: str, seeds: range, settings: Sweep) -> Training:
    name, _, file = dataset.partition("=")
    method, *fields = re.split(FIELD_SEPARATOR, typed)
    task, values = get_task(name), {field.partition("=")[0]: field.partition("=")[2] for field in fields}
    if len(values) < len(fields):
        raise UserError(f"--methods={typed}: gives a field twice: give it once")
    network = values.pop("network", "paper") if method in ONLINE else "paper"
    chosen = config_for(typed, task, settings.finetune, network)
    shared: Json = {
        setting_name: getattr(settings, setting_name)
        for setting_name in ("max_steps", "checkpoint_interval", *settings_of(Kept))
    }
    shared |= {"sweep": grid, "env_name": name, "resume": True}
    shared |= {
        "seed": seeds[0],
        "num_seeds": len(seeds),
        "log_interval": min(1_000, settings.max_steps),
        "eval_interval": settings.eval_interval or max(1, settings.max_steps // 10),
        "eval_episodes": settings.eval_episodes or task.suite.eval_episodes,
    }
    if issubclass(chosen.kind, Online):
        if file:
            raise UserError(f"--datasets={dataset}: {method} learns online, from no file")
        shared |= {"network": network}
    else:
        shared |= {"dataset": (file,) if file else (), "tuned": method == TUNED}
        shared |= {"unused_arrays": settings.unused_arrays}
    if issubclass(chosen.kind, Finetune) and settings.num_pretraining_steps is not None:
        shared |= {"num_pretraining_steps": settings.num_pretraining_steps}
    if own := sorted(values.keys() & {*shared, "method", "config"} - chosen.may_be_in_files.keys()):
        raise UserError(f"--methods={typed}: {own[0]} is the sweep's own, for all methods: leave it out")
    try:
        return settings_from(chosen, {**shared, **values}, values)
    except UserError as error:
        raise UserError(f"--methods: {error}") from None


def _variants(method: str, config: Config, sweep: str) -> Iterator[tuple[str, str]]:
    """Yields pairs (method with fields, grid), one for each run that the sweep needs of a method.

    Each combination of static fields needs a program and a run; traced fields form its grid. Fields that the
    method does not have are left out.
    """
    traced = {name for name, declaration in settings_of(config.learner).items() if declaration.traced}
    parts = fields_of(sweep)
    grid = " ".join(f"{name}={values}" for name, values in parts if name in traced)
    static = {*config.may_be_in_files} - traced
    own = [[f"{name}={value}" for value in values.split(",")] for name, values in parts if name in static]
    for chosen in itertools.product(*own):
        yield ":".join((method, *chosen)), grid


def _record_of(cell: Cell, records: Sequence[Run]) -> Run | None:
    """Returns the cell's run; reads data whose files have changed since, to tell whether they are others.

    Of several, as there are where somebody has copied a run, it is the furthest.
    """
    any_data = dict.fromkeys(OF_DATA)
    same = [
        record
        for record in records
        if {**record.identity_now, **any_data} == {**cell.identity, **any_data}
        and bool(record.record.get("dataset")) == bool(cell.identity.get("dataset"))
    ]
    settings = cell.settings
    now = stamps(settings.task, settings.dataset) if isinstance(settings, FromData) else None
    if now is None:
        names = cell.identity.get("dataset")
        own = [record for record in same if record.record.get("dataset") == names]
    else:
        own = [record for record in same if digests_of(record.record.get("data_files")) == digests_of(now)]
        if same and not own:
            made = resolved(settings)
            run_id = RunFolder(made, load_data(made, None)).run_id
            own = [record for record in same if record.run_id == run_id]
    return max(own, key=lambda run: (run.steps[-1:], run.status == "finished"), default=None)


def _missing(settings: Training) -> str:
    """Returns the path of the run's data file if it does not exist, and nothing here would make it."""
    task = settings.task
    if not isinstance(settings, FromData) or task is None:
        return ""
    files = [file for file in settings.dataset if isinstance(file, str)]
    if files and files[0].startswith(SOURCE_PREFIXES):
        return ""  # a library of datasets manages the file
    place = located(files[0]) if files else cached_file(task)
    return "" if place.exists() or not (files or task.dataset_url) else str(place)
