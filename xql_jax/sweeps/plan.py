"""The plan of a sweep: its cells (one run each), and which of their runs already exist."""

import dataclasses
import itertools
import json
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from xql_jax.config_files import OFFLINE as OFFLINE_CONFIG
from xql_jax.config_files import ONLINE as ONLINE_CONFIG
from xql_jax.config_files import file_for, load_config
from xql_jax.configuration import field_names, with_fields
from xql_jax.data.dataset import PREFIXES
from xql_jax.data.loading import cached_file, stamps
from xql_jax.errors import UserError, nearest
from xql_jax.files import as_json
from xql_jax.learners.fields import traced_names
from xql_jax.learners.registry import OFFLINE, ONLINE, make_learner, method_of
from xql_jax.runs.acting_settings import FinetuneSettings, OnlineSettings
from xql_jax.runs.load import SavedRun, all_runs
from xql_jax.runs.settings import OfflineSettings, RunSettings
from xql_jax.runs.train import data_run_folder, job_of
from xql_jax.sweeps.settings import SweepSettings
from xql_jax.tasks import Task, get_task
from xql_jax.training.members import fields_given

TUNED = "xql_t"  # XQL with the values of Table 4 for each dataset
EPISODES = {"antmaze": 100}  # episodes per evaluation, by suite; 10 for all others
FINISHED, BEGUN, ABSENT, NO_DATA = "finished", "begun", "to do", "no data"
SOMETIMES = ("scale_rewards", "checkpoint", "eval_at_start")  # in an identity only if not at the default


@dataclasses.dataclass(frozen=True)
class Cell:
    """One run of a sweep: a method on a dataset, with the seeds and settings that share a program."""

    dataset: str  # the task's name, with =FILE for the user's own data
    method: str  # METHOD+POLICY:FIELD=VALUE, as a user types it
    settings: RunSettings
    steps: int  # of the whole run
    identity: Mapping[str, Any]  # the settings that define its run, without a digest of the data
    state: str
    record: SavedRun | None  # its run's files, if the run was begun
    missing: str = ""  # the data file, if it does not exist

    def __str__(self) -> str:
        seeds = self.settings.seeds
        numbers = f"seeds {seeds[0]} to {seeds[-1]}" if len(seeds) > 1 else f"seed {seeds[0]}"
        return " ".join(filter(None, (self.dataset, self.method, self.settings.sweep, numbers)))

    @property
    def algorithm(self) -> str:
        return self.identity["config"]["algorithm"]

    @property
    def members(self) -> int:
        """The number of members that the run trains: seeds times settings of the sweep."""
        grid = (len(part.split(",")) for part in self.settings.sweep.split())
        return self.settings.num_seeds * math.prod(grid)

    @property
    def step(self) -> int:
        """The step of its last checkpoint; 0 if there is none."""
        return self.record.steps[-1] if self.record and self.record.steps else 0

    @property
    def updates(self) -> int:
        """The number of updates still to be done, summed over members."""
        return 0 if self.state == FINISHED else (self.steps - self.step) * self.members


@dataclasses.dataclass(frozen=True)
class Plan:
    """All cells of a sweep, with their runs as far as they exist."""

    cells: Sequence[Cell]
    seconds_an_update: Mapping[
        str, float
    ]  # by method: of one seed, evaluations included, measured on finished runs

    def seconds(self, cell: Cell) -> float | None:
        """Returns the time that the cell is expected to take; None if no run has finished in this folder."""
        if not self.seconds_an_update:
            return None
        mean = sum(self.seconds_an_update.values()) / len(self.seconds_an_update)
        return cell.updates * self.seconds_an_update.get(cell.algorithm, mean)

    @property
    def to_do(self) -> list[Cell]:
        return [cell for cell in self.cells if cell.state not in (FINISHED, NO_DATA)]


def make_plan(settings: SweepSettings) -> Plan:
    """Returns the plan of the sweep. Nothing is trained, loaded or downloaded.

    Raises:
        UserError: if a dataset, method or field is unknown, a value is impossible, or the user's data file,
            which an unfinished run needs, does not exist.
    """
    records = list(all_runs(Path(settings.save_dir).expanduser()))
    check_methods(settings.methods)
    datasets, methods = (list(dict.fromkeys(names)) for names in (settings.datasets, settings.methods))
    asked = [
        (dataset, *variant)
        for dataset in datasets
        for method in methods
        for variant in _variants(method, dataset, settings)
    ]
    _check_swept(settings, datasets, methods)
    cells = [_cell(*one, seeds, settings, records) for one in asked for seeds in _seeds(settings)]
    return Plan(cells, _measured(records, settings.finetune))


def refreshed(plan: Plan, save_dir: str) -> Plan:
    """Returns the plan with the runs that exist by now."""
    records = list(all_runs(Path(save_dir).expanduser()))
    return dataclasses.replace(plan, cells=[_as_it_is(cell, records) for cell in plan.cells])


def has_identity(record: SavedRun, identity: Mapping[str, Any]) -> bool:
    """Whether the run has that identity. The content of the data is not compared: only the run reads it."""
    if _is_finetuning(record) != ("num_pretraining_steps" in identity):
        return False  # its identity contains that of an offline run
    if any(record.content.get(name) != identity.get(name) for name in SOMETIMES):
        return False
    if record.content.get("given_references", record.is_online and record.references is not None):
        return False  # a sweep gives none
    return all(record.content.get(name) == value for name, value in identity.items())


def check_methods(methods: Sequence[str], known: Collection[str] = (*OFFLINE, *ONLINE, TUNED)) -> None:
    """Raises UserError if one is not among the known."""
    for method in methods:
        name = method_of(method.split(":")[0])
        if name.isdigit():  # the second width of METHOD:hidden_dims=256,256
            raise UserError(f"--methods: {name} is no method: type several widths as hidden_dims=256/256")
        if name not in known:
            raise UserError(f"--methods: unknown method {name!r}; nearest known: {nearest(name, known)}")


def _algorithm(method: str) -> str:
    """Returns METHOD or METHOD+POLICY of METHOD:FIELD=VALUE."""
    algorithm = method.split(":")[0]
    return "xql" if algorithm == TUNED else algorithm


def config_of(method: str, task: Task, finetune: bool) -> ConfigDict:
    """Returns the method's config for the task's suite, for fine-tuning if there is one; online its own."""
    algorithm = _algorithm(method)
    file = file_for(algorithm, task, finetune)
    if file is None:
        raise UserError(f"--datasets: there is no config for {task.name}, of the suite {task.suite}")
    kind = ONLINE_CONFIG if method_of(algorithm) in ONLINE else OFFLINE_CONFIG
    return load_config(f"{file}:{algorithm}", kind)


def _settable(config: ConfigDict) -> list[str]:
    """Returns the names that METHOD:FIELD=VALUE may set."""
    return [*field_names(config), *config.about.get("run", {})]


def _check_swept(settings: SweepSettings, datasets: Sequence[str], methods: Sequence[str]) -> None:
    task = get_task(datasets[0].partition("=")[0])
    configs = [config_of(method, task, settings.finetune) for method in methods]
    known = {name for config in configs for name in _settable(config)}
    for name, values in fields_given(settings.sweep):
        if len({_as_number(value) for value in values.split(",")}) <= values.count(","):
            raise UserError(f"--sweep gives {name} the same value twice: '{name}={values}'")
        if name not in known:
            raise UserError(
                f"--sweep: no method asked for has {name!r}; nearest: {nearest(name, sorted(known))}"
            )


def _as_number(value: str) -> Any:
    """Returns the value in float32, as settings are compared; the text if it is no number."""
    try:
        return np.float32(value)
    except ValueError:
        return value


def _variants(method: str, dataset: str, settings: SweepSettings) -> Iterator[tuple[str, str]]:
    """Yields pairs (method with fields, grid), one for each run that the sweep needs of a method.

    Static fields need a program for each value, so each combination of theirs is a run. Traced fields share
    a program, so they form the grid of a run. Fields that the method does not have are left out.
    """
    known = _settable(config_of(method, get_task(dataset.partition("=")[0]), settings.finetune))
    traced = traced_names(make_learner(_algorithm(method)))
    parts = fields_given(settings.sweep)
    grid = " ".join(f"{name}={values}" for name, values in parts if name in traced)
    own = [
        [f"{name}={value}" for value in values.split(",")]
        for name, values in parts
        if name not in traced and name in known
    ]
    for chosen in itertools.product(*own):
        yield ":".join((method, *chosen)), grid


def _seeds(settings: SweepSettings) -> Iterator[range]:
    last = settings.seed + settings.num_seeds
    step = settings.seeds_per_run or settings.num_seeds
    for first in range(settings.seed, last, step):
        yield range(first, min(first + step, last))


def run_settings(dataset: str, method: str, grid: str, seeds: range, settings: SweepSettings) -> RunSettings:
    """Returns the settings of one run of the sweep."""
    name, _, file = dataset.partition("=")
    task, overrides = get_task(name), [text.partition("=") for text in method.split(":")[1:]]
    config = config_of(method, task, settings.finetune)
    given = [field for field, _, _ in overrides] + [field for field, _ in fields_given(grid)]
    for field in given:
        if given.count(field) > 1:
            with_sweep = f" with --sweep='{grid}'" if grid else ""
            raise UserError(f"--methods={method}{with_sweep}: gives {field} twice: give it once")
        if field not in _settable(config):
            known = nearest(field, _settable(config))
            raise UserError(f"--methods: unknown config field {field!r}; nearest known: {known}")
    values = {field: value for field, _, value in overrides}
    try:
        of_run = {field: values.pop(field) for field in list(values) if field not in field_names(config)}
        config = with_fields(config, values)
        if of_run:
            with config.unlocked():
                config.about.run = with_fields(config.about.run, of_run)
    except UserError as error:
        raise UserError(f"--methods: {error}") from None
    shared: dict[str, Any] = {
        "config": config,
        "given": frozenset(field for field, _, _ in overrides),
        "sweep": grid,
        "max_steps": settings.max_steps,
        "log_interval": min(1_000, settings.max_steps),
        "eval_interval": settings.eval_interval or max(1, settings.max_steps // 10),
        "checkpoint_interval": settings.checkpoint_interval,
        "env_name": name,
        "seed": seeds[0],
        "num_seeds": len(seeds),
        "eval_episodes": settings.eval_episodes or EPISODES.get(task.suite, 10),
        "save_dir": settings.save_dir,
        "resume": True,
        "tqdm": settings.tqdm,
    }
    algorithm = method.split(":")[0]
    if algorithm in ONLINE:
        if file:
            raise UserError(f"--datasets={dataset}: {algorithm} learns online, from no file")
        return OnlineSettings(**shared)
    of_data: dict[str, Any] = {"dataset": (file,) if file else (), "tuned": algorithm == TUNED}
    if settings.finetune:
        of_data["num_pretraining_steps"] = settings.num_pretraining_steps
        return FinetuneSettings(**shared, **of_data)
    return OfflineSettings(**shared, **of_data)


def _cell(
    dataset: str,
    method: str,
    grid: str,
    seeds: range,
    settings: SweepSettings,
    records: Sequence[SavedRun],
) -> Cell:
    wanted = run_settings(dataset, method, grid, seeds, settings)
    job = job_of(wanted)  # raises UserError for mistakes before anything is trained
    identity, steps = json.loads(as_json(job.identity)), job.settings.schedule.max_steps
    cell = _as_it_is(Cell(dataset, method, wanted, steps, identity, ABSENT, None), records)
    if "=" in dataset and cell.state == NO_DATA:
        raise UserError(f"--datasets={dataset}: no such file")
    return cell


def _as_it_is(cell: Cell, records: Sequence[SavedRun]) -> Cell:
    """Returns the cell with its present state, and with its run if that is among the records."""
    record = next((record for record in records if has_identity(record, cell.identity)), None)
    task, _, file = cell.dataset.partition("=")
    place = _place(cell.settings, get_task(task), file)
    if record and _may_differ(record, cell.settings):
        digest = data_run_folder(cell.settings).run
        record = next((record for record in records if record.run == digest), None)
    missing = ""
    if record and record.summary.get("status") == "finished":
        state = FINISHED
    elif (
        place and not place.exists() and (file or get_task(task).dataset_url)
    ):  # else the data are made when they are needed
        state, missing = NO_DATA, str(place)
    else:
        state = BEGUN if record else ABSENT
    return dataclasses.replace(cell, state=state, record=record, missing=missing)


def _may_differ(record: SavedRun, settings: RunSettings) -> bool:
    """Whether the data's files are there and not those, unchanged, from which the run has learned."""
    if not isinstance(settings, OfflineSettings):
        return False
    now = stamps(get_task(settings.env_name) if settings.env_name else None, settings.dataset)
    return now is not None and now != record.content.get("data_files")


def _place(settings: RunSettings, task: Task, file: str) -> Path | None:
    """Returns the path of the run's data file; None if it needs none or a library manages it."""
    if isinstance(settings, OnlineSettings):
        return None
    if file.startswith(PREFIXES):
        return None  # a library of datasets manages the file
    return Path(file).expanduser() if file else cached_file(task)


def _is_finetuning(record: SavedRun) -> bool:
    return "num_pretraining_steps" in record.content


def _measured(records: Sequence[SavedRun], is_finetuning: bool) -> dict[str, float]:
    """Returns the seconds per update of one seed by method: means over the finished runs of that kind."""
    seconds: dict[str, list[float]] = {}
    for record in records:
        summary = record.summary
        if summary.get("status") != "finished" or record.algorithm not in {*OFFLINE, *ONLINE}:
            continue
        if _is_finetuning(record) != is_finetuning:
            continue
        members = sum(len(result["seeds"]) for result in summary["results"])
        spent = sum(summary["seconds"].values()) / (max(members, 1) * summary["step"])
        seconds.setdefault(record.algorithm, []).append(spent)
    return {method: sum(values) / len(values) for method, values in seconds.items()}
