"""The folder of a run, with its config.json (the settings) and its summary.json (the results)."""

import contextlib
import dataclasses
import functools
import hashlib
import itertools
import json
import logging
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import jax
import numpy as np

from xql_jax.data.dataset import FILE_SUFFIXES, SOURCE_PREFIXES, name_of
from xql_jax.data.loading import stamps
from xql_jax.data.preprocessing import Preprocessing
from xql_jax.errors import Damaged, UserError
from xql_jax.files import as_json, digest, locked, read_record, write_record
from xql_jax.files.paths import as_written, located
from xql_jax.logs.csv_rows import TIMES
from xql_jax.runs.kinds import EVALUATION_SEED, METHOD_SETTINGS, Acting, Finetune, FromData, Training
from xql_jax.runs.layers import CHECKPOINT, FILE
from xql_jax.runs.load import DATA_ROWS, FINGERPRINT, LOCK, OF_DATA, PREPROCESSING, Run, load_run
from xql_jax.runs.machine import differences, other_code, surroundings
from xql_jax.runs.run_data import RunData
from xql_jax.runs.varied import as_recorded, fields_of, parse_ramps
from xql_jax.settings import as_typed, recorded_values, settings_of
from xql_jax.training.checkpoints import Checkpoints, TrainingFiles
from xql_jax.types import Json

LOG = logging.getLogger(__name__)
LONGEST_LABEL = 60  # characters
LABELLED = *METHOD_SETTINGS, "ramp", "network"  # settings that a label can contain besides hyperparameters


@dataclasses.dataclass(frozen=True)
class RunFolder:
    """The folder SAVE_DIR/TASK/METHOD/SEEDS_KIND[_LABEL]_DIGEST/ of a run.

    DIGEST is that of `identity`, which holds everything that the run's numbers depend on. So `--resume` finds
    the run again, and a run with other settings never changes it.
    """

    settings: Training  # resolved
    data: RunData

    @functools.cached_property
    def env_name(self) -> str:
        """TASK in its path: the task's name or, without a task, the name of the data."""
        return self.settings.env_name or _name_of(self._sources)

    @property
    def _sources(self) -> list[str]:
        """The names of the data that the user gave."""
        settings = self.settings
        return [name_of(source) for source in settings.dataset] if isinstance(settings, FromData) else []

    @functools.cached_property
    def identity(self) -> Json:
        """What the run's numbers depend on, as config.json has it: the settings and the data's digests.

        Two runs have the same identity exactly if their learners get the same data, and the numbers fitted to
        the data are the same. If an earlier version wrote this run, the identity stays as it was.
        """
        settings, task, dataset = self.settings, self.data.task, self.data.dataset
        identity = identity_of(settings)
        if isinstance(settings, FromData) and dataset is not None:
            identity[FINGERPRINT] = dataset.fingerprint()
            numbers = self.data.preprocessing.numbers_digest()
            if settings.unit_rewards or numbers != Preprocessing().numbers_digest():
                identity[PREPROCESSING] = numbers
            if settings.dataset:  # the user's own data: their digests tell, whatever the files are called
                del identity["dataset"]
                identity["dataset_episodes"] = dataset.episodes_digest()
        if task and settings.task and task != settings.task:  # the data's references
            identity["references"] = [task.min_return, task.max_return]
        identity = json.loads(as_json(identity))
        earlier = None if self._folders(digest(identity)[:8]) else self._of_earlier_version(identity)
        return earlier.identity if earlier else identity

    def _of_earlier_version(self, identity: Json) -> Run | None:
        """Returns the run whose identity this is, although an earlier version wrote it in another form."""
        for folder in self._folders():
            with contextlib.suppress(UserError):
                run = load_run(folder)
                if {**run.identity_now, PREPROCESSING: None} != {**identity, PREPROCESSING: None}:
                    continue
                try:
                    if run.numbers_digest == self.data.preprocessing.numbers_digest():
                        return run
                except Damaged:
                    LOG.warning(
                        f"{folder}: whether it had the same data is not known without its "
                        "preprocessing.json, so a new run begins"
                    )
        return None

    @functools.cached_property
    def run_id(self) -> str:
        """A digest of the identity; all files of the run contain it."""
        return digest(self.identity)[:16]

    @property
    def max_steps(self) -> int:
        """Part of the identity only if `why_its_length_is_fixed` says why."""
        return self.settings.schedule.max_steps

    @property
    def parent(self) -> Path:
        """The folder that this run and similar ones are in."""
        names = self.env_name.replace(":", "."), self.settings.method.replace(":", ".")
        return located(self.settings.save_dir).joinpath(*names)

    @functools.cached_property
    def path(self) -> Path:
        """The run's existing folder, whatever its label; if there is none, the path of the new folder."""
        short_id = self.run_id[:8]
        if there := self._folders(short_id):
            return there[0]
        return self.parent / (self._start + "_".join(filter(None, (run_label(self.settings), short_id))))

    @property
    def _start(self) -> str:
        """The beginning of its folder's name."""
        seeds = self.settings.seeds
        numbers = f"seed{seeds[0]}" if len(seeds) == 1 else f"seeds{seeds[0]}-{seeds[-1]}"
        return f"{numbers}_{self.settings.kind}_"

    def _folders(self, ending: str = "") -> list[Path]:
        """Returns the folders of runs of its task, method, seeds and kind, with this ending."""
        # Data without a task are named by their file alone, so the run may be under another name.
        others = [] if self.settings.task else sorted(self.parent.parents[1].glob(f"*/{self.parent.name}"))
        paths = (sorted(each.glob(f"{self._start}*{ending}")) for each in (self.parent, *others))
        return list(dict.fromkeys(itertools.chain.from_iterable(paths)))

    @property
    def files(self) -> TrainingFiles:
        return TrainingFiles(self.path, self.run_id)

    @property
    def steps(self) -> list[int]:
        """The steps of its checkpoints, ascending."""
        with Checkpoints(self.files.checkpoints) as checkpoints:
            return checkpoints.steps

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Creates the folder, locks it against other processes, and writes or updates config.json.

        Raises:
            Busy: if another process uses the folder.
            UserError: if the run exists and is not to be resumed, or if the folder cannot be created or is in
                another run, where commands do not look for runs.
        """
        here = located(self.settings.save_dir).resolve()
        for place in () if self.files.config.exists() else (here, *here.parents):
            if (place / LOCK).exists() and (place / "config.json").exists():
                raise UserError(f"--save_dir={here} is in a run, whose own is {place.parents[2]}")
        if self.settings.resume and not self._has_begun:
            self._check_unfinished()
        with contextlib.ExitStack() as held:
            try:
                self.path.mkdir(parents=True, exist_ok=True)
                held.enter_context(locked(self.path / LOCK, f"run: {self.path}"))
            except OSError as error:
                raise UserError(f"cannot write to --save_dir: {error}") from None
            self._record_start()
            yield

    @property
    def _has_begun(self) -> bool:
        return self.files.config.exists() or self.files.checkpoints.exists()

    def _check_unfinished(self) -> None:
        """Raises UserError if fine-tuning was to go on, but the data of that name have other numbers now."""
        if not isinstance(self.settings, Finetune) or self.data.dataset is None:
            return
        names, any_data = self._sources, dict.fromkeys(OF_DATA)
        for folder in self._folders():
            is_this = False
            with contextlib.suppress(UserError):
                run = load_run(folder)
                is_alike = {**run.identity_now, **any_data} == {**self.identity, **any_data}
                is_this = is_alike and run.record["dataset"] == names and run.status == "interrupted"
            if is_this:
                raise UserError(
                    f"{folder} cannot go on: its data, {self.data.dataset.source}, have other numbers than "
                    "before: give those, or begin another run without --resume"
                )

    def _record_start(self) -> None:
        """Writes config.json or, if the run continues, records that there."""
        settings, has_begun = self.settings, self._has_begun
        if has_begun and not settings.resume:
            raise UserError(f"this run exists: {self.path}; go on with --resume, or give another --seed")
        if settings.resume and not has_begun:
            self._warn_of_shorter_run()
        here = surroundings(settings.task, settings.method)
        if not self.files.config.exists():
            self._write_config(here, [])
            return
        with _told_to_delete():
            began = read_record(self.files.config)
        step = max(self.steps, default=0)
        if changed := differences(began, here):
            LOG.warning(
                f"the run began with another setup, so its numbers may differ after step {step:,} (another "
                f"--save_dir begins anew): {changed}"
            )
        self._write_config(began, [*began["resumed"], {**here, "after_step": step}])

    def record_step(self, step: int) -> None:
        """Corrects the step after which the run goes on in config.json, if later checkpoints were damaged."""
        with _told_to_delete():
            record = read_record(self.files.config)
        if record["resumed"] and record["resumed"][-1]["after_step"] != step:
            record["resumed"][-1]["after_step"] = step
            write_record(self.files.config, record)

    def _warn_of_shorter_run(self) -> None:
        """Warns if there is a run that differs in its length alone, and says why it cannot go on."""
        for file in sorted(self.parent.glob("*/config.json")):
            with contextlib.suppress(UserError):
                if {**load_run(file.parent).identity_now, "max_steps": self.max_steps} == self.identity:
                    LOG.warning(
                        f"{file.parent} has the same settings but for --max_steps, and cannot go on to "
                        f"{self.max_steps:,}: {why_its_length_is_fixed(self.settings)}; so a new run begins"
                    )

    def _write_config(self, began: Json, resumed: Sequence[Json]) -> None:
        settings, data = self.settings, self.data
        content = {
            "max_steps": self.max_steps,
            "sizes": list(data.sizes),
            "warnings": list(dict.fromkeys(map(as_written, data.warnings))),
            **self.identity,
            "name": self.env_name,
            "run": self.run_id,
            "defining": list(self.identity),
            "columns": {"times": TIMES, "settings": ["seed", *settings.grid]},
            "resumed": resumed,
        }
        if isinstance(settings, FromData) and data.dataset is not None:
            content["data_files"] = stamps(data.task, settings.dataset)
            content["observations"] = data.ranges.as_json() if data.ranges else None
            if data.rows:
                content[DATA_ROWS] = data.rows
            content["data_source"] = as_written(data.dataset.source)
            content["dataset"] = self._sources
        if isinstance(settings, Finetune):
            content["data_seed"] = settings.data_seed
        if settings.source:  # what runs of other seeds have, too
            content["checkpoint_settings"] = digest({**settings.source.settings_text, "sweep": ""})[:16]
        write_record(self.files.config, {**began, **content})

    def finished(self) -> Run | None:
        """Returns the run if it has finished; None if it must go on.

        Damaged if summary.json or config.json is; UserError if the run is longer than asked for.
        """
        if self.steps and self.steps[-1] > self.max_steps:
            raise UserError(
                f"{self.path} is at update {self.steps[-1]:,} already: give --max_steps={self.steps[-1]} or "
                "more, or for a shorter run another --save_dir"
            )
        if not (self.files.summary.exists() and self.files.config.exists()):
            return None
        with _told_to_delete():
            run = load_run(self.path)
            summary = run.summary
        if summary["status"] != "finished" or summary["step"] < self.max_steps:
            return None
        if changed := other_code(run.record, self.settings.task):
            LOG.warning(
                f"{self.path} was trained by other code ({changed}), and is only loaded: to train anew, give "
                "another --save_dir, or delete it"
            )
        run.had_ended = True
        return run

    def write_summary(self, summary: Json, logs: Iterable[Path] = ()) -> None:
        """Writes summary.json, with digests of the CSV files."""
        digests = {log.name: hashlib.sha256(log.read_bytes()).hexdigest() for log in logs if log.exists()}
        write_record(self.files.summary, {**summary, "logs": digests, "run": self.run_id})


@contextlib.contextmanager
def _told_to_delete() -> Iterator[None]:
    """Context manager around reading what --resume writes again if it is not there."""
    try:
        yield
    except Damaged as error:
        raise Damaged(f"{error}; delete it: --resume writes it again") from None


def _name_of(sources: Sequence[str]) -> str:
    """Returns a folder's name for data without a task.

    For example mine for mine.npz, and door-human-v2 for minari:door/human-v2.
    """
    has_kind = sources[0].startswith(SOURCE_PREFIXES)
    kind, _, name = sources[0].rpartition(":") if has_kind else ("", "", sources[0])
    if kind == "minari" and not located(name).exists():
        stem = name.replace("/", "-")
    else:
        path = located(name).resolve()
        stem = path.stem if path.suffix.lower() in FILE_SUFFIXES else path.name
    stem = stem.strip(".") or "data"
    return stem if len(sources) == 1 else f"{stem}-and-{len(sources) - 1}-more"


def identity_of(settings: Training) -> Json:
    """Returns what a run's numbers depend on, of its resolved settings; a `RunFolder` adds what data say."""
    own, values = settings_of(settings), recorded_values(settings)
    identity: Json = {name: value for name, value in values.items() if own[name].recorded}
    identity |= {
        "env_name": settings.env_name,
        # All hyperparameters: with another beta it is another run. Files of runs say "algorithm".
        "config": {"algorithm": settings.method, **dict(sorted(recorded_values(settings.learner).items()))},
        "seeds": [settings.seeds[0], settings.seeds[-1]],
        "max_steps": settings.schedule.max_steps,
        "evaluation_seed": EVALUATION_SEED,
        "env_backend": "mujoco",  # constants, which digests of runs contain
        "legacy_inertia": False,
    }
    if isinstance(settings, FromData):
        identity |= {"unit_rewards": True} if settings.unit_rewards else {}
        identity["dataset"] = [name_of(source) for source in settings.dataset]
    if settings.source:
        identity["checkpoint"] = {"run": settings.source.run_id, "step": settings.source.step}
    if isinstance(settings, Acting):
        identity["round_steps"] = settings.round_steps
    if not why_its_length_is_fixed(settings):
        del identity["max_steps"]
    return identity


def why_its_length_is_fixed(settings: Training) -> str:
    """Returns why a longer run has other numbers than this one from the start; "" if it has the same."""
    if settings.unit == "step":
        return "a run that acts would begin its episodes again there"
    if any(len(ramp.values) > 1 for ramp in settings.ramps):
        return "--ramp changes over all updates"
    learners = settings.learner, settings.learner.scheduled(math.inf)  # to compare, not to train
    if not all(np.array_equal(a, b) for a, b in zip(*map(jax.tree.leaves, learners), strict=True)):
        return "its actor's learning rate falls to 0 at the last update (decay_actor_lr; false keeps it)"
    return ""


def run_label(settings: Training) -> str:
    """Returns the settings that differ from the suite's or the named file's, such as beta=0.5_tau=0.1.

    Swept settings come first, then the others by name, as many as fit into LONGEST_LABEL characters. The
    label depends only on the settings, not on how they were typed. Characters that some file systems do not
    allow are left out.
    """
    identity, known = identity_of(settings), settings_of(settings) | settings_of(settings.learner)
    of_source = settings.layers[CHECKPOINT].items()
    base = {"network": "paper", **settings.layers.up_to(FILE)}
    base |= {name: value for name, value in of_source if not known[name].of_checkpoint}
    if usual := base.get(settings.changing):  # in the form that `resolved` gives
        ramps = parse_ramps(usual, known, settings.max_steps, f"--{settings.changing}")
        base[settings.changing] = as_recorded(ramps)
    swept = dict(fields_of(identity["sweep"]))
    ours = {name: value for name, value in identity["config"].items() if name in base and value is not None}
    of_run = {name: identity[name] for name in LABELLED if name in identity}
    changed = {
        name: as_typed(value)
        for name, value in {**ours, **of_run}.items()
        if name not in swept and value != base.get(name)
    }
    widths = [name for name in base if name.endswith("_hidden_dims")]
    if all(name in changed for name in widths) and len({changed[name] for name in widths}) == 1:
        [width] = {changed.pop(name) for name in widths}
        changed["hidden_dims"] = width
    label: list[str] = []
    for name, value in [*swept.items(), *sorted(changed.items())]:
        part = re.sub(r"[^\w=.,+-]", "", f"{name}={value}", flags=re.ASCII)
        if len("_".join([*label, part])) <= LONGEST_LABEL:
            label.append(part)
    return "_".join(label)
