"""`Run`: what is in a run's folder, finished or not. Nothing here changes a file."""

import contextlib
import dataclasses
import functools
import hashlib
import itertools
import json
import logging
import signal
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import jax
import jax.numpy as jnp

from xql_jax.data.action_units import check_bounds, check_units
from xql_jax.data.comparison import RESETS, Ranges, compared
from xql_jax.data.dataset import SOURCE_PREFIXES
from xql_jax.data.preprocessing import Preprocessing
from xql_jax.envs import action_bounds
from xql_jax.envs.vector import VectorEnv
from xql_jax.errors import Damaged, UserError
from xql_jax.files import is_locked, read_record, with_numbers
from xql_jax.files.paths import as_written, located
from xql_jax.learners.registry import ONLINE, make_learner
from xql_jax.logs.csv_rows import Row, parse_rows
from xql_jax.numerics.jax_settings import check_platforms, settings_of_jax
from xql_jax.rollout.acting import Act, deciding, deterministic_policy, finite_policy, open_loop
from xql_jax.rollout.evaluation import episode_seed
from xql_jax.runs.kinds import (
    EVALUATION_SEED,
    FINE_TUNING,
    KINDS,
    OFFLINE_TRAINING,
    ONLINE_TRAINING,
    Training,
)
from xql_jax.runs.varied import as_recorded
from xql_jax.settings import neutral_values, settings_of
from xql_jax.suites.tasks import LISTED_TASKS, References, Task, get_task, module_to_run, referenced
from xql_jax.training.checkpoints import Checkpoints, Progress, TrainingFiles
from xql_jax.training.members import Divergence, Member, learners_of, ramped, stacked
from xql_jax.training.schedule import steps_in_words
from xql_jax.types import ActionBounds, Horizon, Json, Learner, State

LOG = logging.getLogger(__name__)
LEFT = ("policy_sharpness",)  # hyperparameters that runs of earlier versions have
LOCK = ".lock"  # a file that a run holds as long as it lives
FINGERPRINT, PREPROCESSING = "dataset_fingerprint", "preprocessing"  # the digests of data in an identity
DATA_ROWS = "data_rows"  # the digest, in config.json, of transitions as they were read, without a task
# Entries of an identity that the data give.
OF_DATA = (FINGERPRINT, PREPROCESSING, "dataset_episodes", "references", "dataset")
# Entries of an identity that are none of a method's settings.
NO_SETTINGS = ("env_name", "seeds", "dataset", "dataset_episodes", PREPROCESSING, "config", "unit_rewards")


def as_text(value: object) -> str:
    """Returns a setting as text for showing and comparing; equal numbers give the same text."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return f"{value:.9g}"
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True)


def digests_of(stamps: Sequence[Sequence[object]] | None) -> list[object]:
    """Returns the digests of data files, without the files' names."""
    return [file_digest for *_, file_digest in stamps or ()]


def load_run(
    path: str | Path,
    step: int | None = None,
    member: int | None = None,
    env_name: str | None = None,
    allow_other_bounds: bool = False,
) -> "Run":
    """Opens a run, for reading.

    Args:
        path: the run's folder, or RUN/checkpoints/STEP.
        step: of the checkpoint to read; None: the step in `path`, else the last step.
        member: index of the only member (one seed and setting of the sweep) to read; None: all.
        env_name: the task that its policies are to act in; None: the run's own, for which no code of a user's
            module is run.
        allow_other_bounds: act in the run's units if that task takes other actions than the run learned;
            else its `preprocessing` is a UserError then.
    Raises:
        UserError: if it is not a run's folder, or its config.json cannot be read. Other files are read when
            they are first used.
    """
    path = located(path)
    if path.parent.name == "checkpoints" and path.name.isdigit():
        path, step = path.parent.parent, int(path.name) if step is None else step
    elif path.name == "checkpoints":
        path = path.parent
    config = path / "config.json"
    if not config.is_file():
        near = sorted(str(file.parent) for file in itertools.islice(path.rglob("config.json"), 3))
        below = f"; runs below it: {', '.join(near)} (xql-runs lists all)" if near else ""
        raise UserError(f"{path}: not the folder of a run: it has no config.json{below}")
    content = read_record(config)
    try:
        run = Run(path, content, step, member, env_name)
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{config}: of another version: {error!r}") from error
    run.allows_other_bounds = allow_other_bounds
    return run


def _neutral_of_method(method: str) -> Json:
    """Returns its neutral hyperparameters, which runs do not record; none of a method that is not here."""
    try:
        return neutral_values(make_learner(method))
    except UserError:  # a user's own, which is not imported, or one of another version
        return {}


def _without_what_left(config: Json) -> Json:
    """Returns a recorded config without hyperparameters that left, unless they had an effect."""
    has_effect = bool(config.get("beta_nats"))  # with it a policy followed beta
    return {name: value for name, value in config.items() if has_effect or name not in LEFT}


class Run:
    """A run in its folder; see `load_run`. What is not in config.json is read when it is first asked for.

    A member is one seed with one setting of the swept hyperparameters. `states`, `progress` and `policy` are
    of the checkpoint at `step`.
    """

    def __init__(self, path: Path, record: Json, step: int | None, member: int | None, env_name: str | None):
        self.path, self.record = path, record  # of config.json
        self.name = as_written(str(path))  # for lists
        self.had_ended = False  # before the training that returned it, so that nothing was done
        self.allows_other_bounds = False
        self.stopped_by: signal.Signals | None = None  # the signal that ended that training early
        self.wanted_step, self._wanted_member = step, member  # None: the last step, all members
        self.identity = {name: record[name] for name in record["defining"]}  # what its numbers depend on
        self.run_id: str = record["run"]  # the digest of its identity, which all files of the run contain
        self.files = TrainingFiles(path, self.run_id)
        self.method: str = record["config"]["algorithm"]
        self.env_name: str | None = record["env_name"]  # None for a run on data without a task
        self.dataset: str = record["name"]  # the task's name or, without a task, the data's
        self._acts_in: str | None = env_name or self.env_name
        self._is_named = env_name is not None  # by the user, who may have the run from somebody else
        self.references = References(*record["references"]) if "references" in record else None
        first, last = record["seeds"]
        self.seeds = range(first, last + 1)
        observation_dim, action_dim = record["sizes"]
        self.sizes: tuple[int, int] = observation_dim, action_dim
        self.handover: int | None = record.get("num_pretraining_steps")  # updates before the first step
        self.is_online = self.method in ONLINE  # it learned from its own replay buffer alone
        of_data = OFFLINE_TRAINING if self.handover is None else FINE_TUNING
        self.kind = ONLINE_TRAINING if self.is_online else of_data  # one of `KINDS`
        self.max_steps = int(record["max_steps"])
        self.unit = KINDS[self.kind].unit

    @functools.cached_property
    def hyperparameters(self) -> Json:
        """The method and its hyperparameters, without what left after the run's version."""
        recorded = {**_neutral_of_method(self.method), **self.record["config"]}
        return {name: value for name, value in recorded.items() if name not in LEFT}

    @functools.cached_property
    def identity_now(self) -> Json:
        """Its identity with changing hyperparameters in this version's form; earlier ones: as typed.

        A hyperparameter that left is not in it, if it had no effect.
        """
        changing, config = KINDS[self.kind].changing, _without_what_left(self.identity["config"])
        with contextlib.suppress(UserError):  # the value of a user's own method may not be known here
            if self.identity.get(changing):
                return self.identity | {"config": config, changing: as_recorded(self.training.ramps)}
        return self.identity | {"config": config}

    @functools.cached_property
    def numbers_digest(self) -> str:
        """That of its preprocessing. Damaged if it is not known, as earlier versions did not record it."""
        return self.identity.get(PREPROCESSING) or self.fitted.numbers_digest()

    @functools.cached_property
    def settings_text(self) -> dict[str, str]:
        """All settings that its numbers depend on, as text, by their names on the command line."""
        values = neutral_values(KINDS[self.kind])
        recorded = {**self.identity_now, "max_steps": self.max_steps}
        values |= {name: value for name, value in recorded.items() if name not in NO_SETTINGS}
        of_method = self.hyperparameters | _without_what_left(self.record["config"])
        values |= {f"config.{name}": value for name, value in of_method.items()}
        if "checkpoint" in values:  # its seeds are no setting
            values["checkpoint"] = {**values["checkpoint"], "run": self.record["checkpoint_settings"]}
        widths = [name for name in values if name.endswith("_hidden_dims")]
        if len(widths) > 1 and len({as_text(values[name]) for name in widths}) == 1:
            values["config.hidden_dims"] = values[widths[0]]
            values = {name: value for name, value in values.items() if name not in widths}
        return {name: as_text(value) for name, value in values.items()}

    @property
    def sources(self) -> list[str]:
        """The sources of its data, none for the task's own; UserError if they were arrays in memory."""
        sources, stamps = self.record.get("dataset", []), self.record.get("data_files", ())
        if sources and stamps is None and not any(source.startswith(SOURCE_PREFIXES) for source in sources):
            raise UserError(f"{self.path}: its data were arrays in memory: give dataset= again, or --dataset")
        return sources

    @property
    def unused_arrays(self) -> Sequence[str]:
        """The names of arrays that were not read of its data."""
        return self.record.get("unused_arrays", ())

    @property
    def summary(self) -> Json:
        """The content of summary.json, {} if there is none; Damaged if it changed, or is another run's."""
        if not self.files.summary.exists():
            return {}
        summary = read_record(self.files.summary)
        if summary.get("run") != self.run_id:
            raise Damaged(f"{self.files.summary}: of another run, {summary.get('run')}: not {self.run_id}")
        return with_numbers(summary)

    @property
    def status(self) -> str:
        """`finished`, `running` or `interrupted`."""
        if summary := self.summary:
            return summary["status"]
        return "running" if is_locked(self.path / LOCK) else "interrupted"

    @property
    def reached(self) -> int:
        """The last step that its files know of."""
        evaluated = (row.step for row in self.rows(self.files.evaluations))
        return max([int(self.summary.get("step", 0)), *self.steps, *evaluated])

    @property
    def written(self) -> float:
        """When its files last changed, in seconds since the epoch."""
        files = self.files.config, self.files.summary, self.files.evaluations, self.files.metrics
        return max(file.stat().st_mtime for file in files if file.exists())

    @functools.cached_property
    def is_normalised(self) -> bool:
        """Whether 100 is an expert's score; else a score is the return itself."""
        if self.references or self.dataset in LISTED_TASKS:
            return bool(self.references) or LISTED_TASKS[self.dataset].is_normalised
        results = (row.results for row in self.rows(self.files.evaluations))  # a user's own is not imported
        return any(of_row["score"] != of_row["return"] for of_row in results)

    def rows(self, file: Path) -> list[Row]:
        """Returns the rows of a CSV file; Damaged if they changed after the run's end."""
        text = file.read_bytes() if file.is_file() else b""
        if self.summary.get("logs", {}).get(file.name) not in (None, hashlib.sha256(text).hexdigest()):
            raise Damaged(
                f"{file}: damaged: it is not as the run wrote it; delete it and "
                "summary.json: --resume writes them again"
            )
        return parse_rows(text, self.record["columns"]["settings"], file)

    @property
    def task(self) -> Task:
        """The task to act in, scored as in the run if it is the run's own; UserError if there is none."""
        name = self._acts_in
        if name is None:
            raise UserError(f"{self.path}: the run was trained without an environment: give --env_name")
        if not self._is_named and (module := module_to_run(name)):
            raise UserError(
                f"{self.path}: its environment {name} would run the code of {module}.py or of a package "
                f"{module}: if you trust that, give --env_name={name}, or in Python import {module} before"
            )
        task = get_task(name)
        return referenced(task, self.references) if task.name == self.env_name else task

    def check_fits(self, task: Task, observation_dim: int, action_dim: int) -> None:
        """Raises UserError if the policies do not fit a task with these sizes."""
        if (observation_dim, action_dim) != self.sizes:
            raise UserError(
                f"{task.name} does not fit the run, which was trained on {self.env_name or 'data alone'}: "
                f"the task's observations have {observation_dim} entries and its actions {action_dim}, those "
                f"of the run {self.sizes[0]} and {self.sizes[1]}"
            )

    @functools.cached_property
    def training(self) -> Training:
        """The value that was trained. Settings on which no number depends have their defaults."""
        check_platforms()
        kind, content = KINDS[self.kind], with_numbers(self.record)
        recorded = [
            name for name, setting in settings_of(kind).items() if setting.recorded or name == "dataset"
        ]
        own = {
            name: value for name, value in with_numbers(self.hyperparameters).items() if name != "algorithm"
        }
        try:
            return kind(
                method=self.method,
                learner=make_learner(self.method, own),
                env_name=self.env_name,
                seed=self.seeds[0],
                num_seeds=len(self.seeds),
                max_steps=self.max_steps - (self.handover or 0),
                **{name: content[name] for name in recorded if name in content},
            )
        except UserError as error:  # a user's own method, or one of another version
            raise UserError(f"{self.files.config}: {error}") from error

    @property
    def horizon(self) -> Horizon:
        """What its transitions span."""
        return self.training.horizon

    @functools.cached_property
    def learner(self) -> Learner:
        """The learner with the values of its --ramp or --online at the step that is read."""
        learner, since = self.training.learner.scheduled(self.max_steps), self.step - (self.handover or 0)
        is_before = self.handover is not None and since <= 0
        return learner if is_before else ramped(learner, self.training.ramps, since)

    @functools.cached_property
    def members(self) -> list[Member]:
        """The members, or the wanted member alone."""
        every, index = self.training.members, self._wanted_member
        if index is None:
            return every
        if not 0 <= index < len(every):
            raise UserError(f"--member={index}: the run has members 0 to {len(every) - 1}")
        return [every[index]]

    def one_member(self) -> Member:
        """Returns the only member; raises UserError if there are several and none was chosen."""
        if (number := len(self.members)) > 1:
            raise UserError(f"{self.path}: the run has {number} members: choose one with --member")
        return self.members[0]

    @functools.cached_property
    def preprocessing(self) -> Preprocessing:
        """Its transforms. Bounds of actions that are not known are those of the task that a user names.

        UserError if that task takes other actions than the run learned.
        """
        if not self._is_named:
            return self.fitted
        bounds = self.bounds_in(self.task.name, action_bounds(self.task))
        return dataclasses.replace(self.fitted, action_bounds=bounds)

    @functools.cached_property
    def fitted(self) -> Preprocessing:
        """Its transforms as saved. Without bounds of actions, it learned from data alone, within ±1."""
        file = self.files.preprocessing
        try:
            return Preprocessing.load(file, self.run_id)
        except Damaged as error:
            first = "delete it: " if file.exists() else ""
            raise Damaged(f"{error}; {first}--resume writes it again") from None

    def bounds_in(self, environment: str, bounds: ActionBounds) -> ActionBounds:
        """Returns the bounds of its actions in an environment with these; UserError if that has others.

        Actions of unknown bounds are scaled to the environment's. Bounds of other suites than Gymnasium's
        registry are ±1. With `allows_other_bounds` its own remain in any case.
        """
        own, is_known = self.fitted.action_bounds, self.fitted.action_bounds.low or self.env_name
        if self.allows_other_bounds:
            return own
        if is_known:
            check_bounds(own, bounds, str(self.path), environment)
            return own
        check_units(self.fitted.action_range, bounds, str(self.path), environment)
        if not bounds.are_unit:
            LOG.warning(
                f"{self.path}: trained on data alone: its actions, within ±1, are scaled to the bounds of "
                "the environment. If those of the data are in its units, train with --env_name"
            )
        return bounds

    @property
    def ranges(self) -> Ranges | None:
        """Its data's observations, by entry; None if an older run did not record them."""
        content = self.record.get("observations")
        return Ranges.of_json(content) if content else None

    def compared_with(self, task: Task, env: VectorEnv) -> list[str]:
        """Warns if its data's observations cannot be another task's; returns the line, if any."""
        if not self.ranges or task.name == self.env_name:  # which was compared when it began
            return []
        seeds = [episode_seed(EVALUATION_SEED, episode) for episode in range(RESETS)]
        return compared(self.ranges, env, seeds, task.name)

    @property
    def steps(self) -> list[int]:
        """The steps of its checkpoints, ascending."""
        with Checkpoints(self.files.checkpoints, self.run_id) as checkpoints:
            return checkpoints.steps

    @functools.cached_property
    def step(self) -> int:
        """The step of the checkpoint that is read: the wanted step, else the last."""
        if self.wanted_step is not None:
            return self.wanted_step
        if not (steps := self.steps):
            raise UserError(f"{self.path}: the run has no checkpoint yet")
        return steps[-1]

    @functools.cached_property
    @settings_of_jax()  # on which shapes and types depend
    def _checkpoint(self) -> tuple[Mapping[str, State], Progress]:
        observation_dim, action_dim = self.sizes
        sizes = observation_dim, action_dim * self.horizon.action_chunk
        init, example = self.learner.init, [jnp.zeros((1, size)) for size in sizes]
        shapes = jax.eval_shape(init, jax.random.key(0), *example)
        with Checkpoints(self.files.checkpoints, self.run_id) as checkpoints:
            names = [member.name for member in self.members]
            items, progress = checkpoints.read(self.step, {"states": shapes}, names)
        for leaf in jax.tree.leaves(items):
            leaf.setflags(write=False)  # whoever asks for the states gets these arrays
        states = {
            name: jax.tree.map(lambda leaf, place=place: leaf[place, ...], items["states"])
            for place, name in enumerate(names)
        }
        return states, progress

    @functools.cached_property
    def states(self) -> Mapping[str, State]:
        """The members' states, by name. Who uses a policy needs them, so here its `caveats` are told.

        Raises the errors of `Checkpoints.read`.
        """
        for line in self.caveats(self.members):
            LOG.warning(f"{self.path}: {line}")
        return self._checkpoint[0]

    @property
    def progress(self) -> Progress:
        """The progress of the whole run."""
        return self._checkpoint[1]

    def caveats(self, members: Sequence[Member] | None = None) -> list[str]:
        """Returns what to know of the policies of members at `step`, or of the run by its summary, in lines.

        That is which diverged, and what training warned of in the data and the environment.
        """
        if members is None:
            diverged = self.summary.get("diverged", [])
        else:
            pairs = ((str(member), self.progress.members[member.name]["diverged"]) for member in members)
            diverged = [{"member": name, **entry} for name, entry in pairs if entry]
        lines = []
        for entry in diverged:
            when = Divergence(entry["step"], entry["quantity"], entry.get("after")).when(self.unit)
            lines.append(
                f"diverged: {entry['member']} {when} ({entry['quantity']}); its policy is from before"
            )
        return [*lines, *self.record.get("warnings", ())]

    @property
    def what(self) -> str:
        """A description of the policies, for messages."""
        return f"{self.method}, {self.in_words(self.step)}, {as_written(str(self.path))}"

    def in_words(self, step: int) -> str:
        """Returns a number of its steps in words, such as "200 updates + 600 steps"."""
        return steps_in_words(step, self.unit, self.handover)

    def policy(
        self, members: Sequence[Member] | None = None, report: Callable[[int], object] | None = None
    ) -> Act:
        """Returns the deterministic policies of some members, or of all: f32[M, K, O] to f32[M, K, A].

        With `report` their actions are finite, as in training's evaluations: see `finite_policy`. Policies
        that decide on chunks of actions carry them out.
        """
        return open_loop(self.deciding_policy(members, report), self.preprocessing.action_chunk)

    @settings_of_jax()
    def deciding_policy(
        self, members: Sequence[Member] | None = None, report: Callable[[int], object] | None = None
    ) -> Act:
        """Returns the policies as they decide: f32[M, K, O] to f32[M, K, h * A], chunks of h actions."""
        members = self.members if members is None else members
        states = stacked([self.states[member.name] for member in members])
        act = deterministic_policy(stacked(learners_of(self.learner, members)), states)
        return deciding(finite_policy(act, report) if report else act, self.preprocessing)
