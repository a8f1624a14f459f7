"""The settings of training, offline here. Each has a default, valid values and a meaning.

From them come the flags of the commands, the arguments of `xql_jax.train`, the checks, and what
`--print_config` prints. `resolved` decides what a user leaves open; `identity` is what config.json records.
"""

import dataclasses
from collections.abc import Sequence
from typing import Self

from ml_collections import ConfigDict

from xql_jax.config_files import with_every_width
from xql_jax.configuration import ConfigFile, check_suite, tuned
from xql_jax.data.dataset import Dataset, name_of
from xql_jax.envs import BACKENDS, Simulation
from xql_jax.errors import UserError
from xql_jax.jax_settings import MATMUL_PRECISIONS
from xql_jax.method_settings import METHOD_SETTINGS, DataSettings, LearningSettings
from xql_jax.settings import (
    ANY,
    COUNT,
    COUNT_OR_NONE,
    EITHER,
    NOT_NEGATIVE,
    SEVERAL,
    TEXT,
    Checked,
    one_of,
    recorded,
    setting,
    settings_of,
    within,
)
from xql_jax.tasks import TASKS, Task, get_task
from xql_jax.training.checkpoints import KEPT
from xql_jax.training.schedule import Schedule
from xql_jax.types import Json

EVALUATION_SEED = 10_000  # of the initial states; the same for every member, evaluation and run
DEFAULT_ENV_NAME = "pointmaze-umaze-v0"  # if neither a task nor data are given; it needs no download


@dataclasses.dataclass(frozen=True, kw_only=True)
class SimulationSettings(Checked):
    """Settings of everything that chooses among the environments of a task, see `Simulation`."""

    env_backend: str = setting(
        "mujoco",
        one_of(*BACKENDS),
        "mujoco: the environments of this project; d4rl: those of the d4rl package with gym and mujoco-py.",
    )
    legacy_inertia: bool = setting(
        False,
        EITHER,
        "Give Hopper, Walker2d, HalfCheetah and Ant the capsule masses of the MuJoCo that made D4RL's data.",
    )

    @property
    def simulation(self) -> Simulation:
        return Simulation(self.env_backend, self.legacy_inertia)


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunSettings(LearningSettings):
    """Settings of every training. Optional ones are None until `resolved` has decided them."""

    config: ConfigDict  # hyperparameters and settings' defaults, see `configuration`
    config_file: ConfigFile | None = None  # what the config was before the user changed it
    given: frozenset[str] = frozenset()  # names of settings and hyperparameters that the user gave
    save_dir: str = setting(
        "results", TEXT, "Folder under which runs are written.", theirs="out output output_dir logdir log_dir"
    )
    seed: int = setting(42, COUNT_OR_NONE, "First random seed.")
    num_seeds: int = setting(
        1, within(1, 100_000), "Number of seeds in one run: seed, seed + 1, ...", theirs="n_seeds seeds"
    )
    matmul_precision: str = recorded(
        "default",
        one_of(*MATMUL_PRECISIONS),
        "How the updates multiply matrices: highest (float32), tf32 (GPUs), bfloat16 (GPUs, TPUs); default: "
        "TF32 on GPUs, bfloat16 on TPUs, float32 on CPUs.",
        neutral="default",
    )
    sweep: str = recorded("", ANY, "Grid over numeric hyperparameters: 'beta=0.6,1,2 tau=0.005,0.01'.")
    eval_episodes: int = recorded(
        10,
        within(0, 1_000_000),
        "Episodes of each evaluation, per seed; 0: none.",
        theirs="episodes n_episodes",
    )
    random_return: float | None = setting(
        None, ANY, "Return of score 0, for a task that has none. Needs --expert_return, too.", kind=float
    )
    expert_return: float | None = setting(None, ANY, "Return of score 100, see --random_return.", kind=float)
    max_steps: int = setting(
        1_000_000,
        COUNT,
        "Number of {steps}.",
        theirs="steps num_steps total_steps total_timesteps epochs updates num_updates",
    )
    log_interval: int = recorded(
        1_000, COUNT, "{Steps} between rows of metrics.csv.", theirs="log_freq log_every"
    )
    eval_interval: int = recorded(
        5_000,
        COUNT,
        "{Steps} between evaluations; checkpoints are saved by --checkpoint_interval.",
        theirs="eval_freq eval_every eval_period",
    )
    eval_at_start: bool = recorded(False, EITHER, "Also evaluate before the first step: a row for step 0.")
    checkpoint_interval: int = setting(
        5_000, COUNT, "{Steps} between checkpoints.", theirs="save_freq save_interval"
    )
    checkpoint_minutes: float = setting(
        10.0, NOT_NEGATIVE, "Also save when the last checkpoint is so old; 0: never."
    )
    keep_checkpoints: int = setting(
        KEPT, COUNT_OR_NONE, "Checkpoints to keep, the last and a hand-over's; 0: all."
    )
    tqdm: bool = setting(
        True, EITHER, "Show a progress bar, if stderr is a terminal.", theirs="verbose quiet progress tqdm"
    )
    wandb: bool = setting(False, EITHER, "Also log to Weights & Biases; WANDB_MODE=offline needs no network.")
    wandb_project: str = setting("xql_jax", TEXT, "Project on Weights & Biases.")
    wandb_group: str = setting("", ANY, "Group of runs there.")
    resume: bool = setting(False, EITHER, "Go on from the run's last checkpoint, or start if there is none.")

    unit = "update"  # the name of one step

    @property
    def seeds(self) -> range:
        return range(self.seed, self.seed + self.num_seeds)

    @property
    def returns_given(self) -> tuple[float | None, float | None]:
        """The user's returns of scores 0 and 100."""
        return self.random_return, self.expert_return

    @property
    def schedule(self) -> Schedule:
        names = [field.name for field in dataclasses.fields(Schedule) if hasattr(self, field.name)]
        return Schedule(**{name: getattr(self, name) for name in names})

    @property
    def simulation(self) -> Simulation:
        """Which environments of the task are used."""
        return Simulation()

    @property
    def task(self) -> Task | None:
        """The task, without returns of scores 0 and 100 that the user or the data give."""
        raise NotImplementedError

    def resolved(self) -> Self:
        """Returns the settings with all decided that they leave open; UserError for contradictions."""
        return self._decided(self.config)

    def _decided(self, config: ConfigDict) -> Self:
        """Returns the settings with this config, from which come those that are None."""
        decided = {}
        known = settings_of(type(self))
        for name in METHOD_SETTINGS.keys() & known.keys():
            value = getattr(self, name)
            decided[name] = config.get(name, known[name].usual) if value is None else value
        hyperparameters = {name: value for name, value in config.items() if name not in METHOD_SETTINGS}
        file = self.config_file or ConfigFile(None, self.config)
        decided["given"] = frozenset(with_every_width(dict.fromkeys(self.given), hyperparameters))
        return dataclasses.replace(self, config=ConfigDict(hyperparameters), config_file=file, **decided)

    @property
    def identity(self) -> Json:
        """The settings that a run's numbers depend on; `resolved` must have decided what they leave open."""
        known = settings_of(type(self))
        values = {name: getattr(self, name) for name in known}
        config = {name: value for name, value in self.config.to_dict().items() if name != "suite"}
        return {
            **{name: value for name, value in values.items() if known[name].is_recorded(value)},
            "env_name": self.task.name if self.task else None,
            "config": config,
            "seeds": [self.seeds[0], self.seeds[-1]],
            "max_steps": self.schedule.max_steps,
            "evaluation_seed": EVALUATION_SEED,
            **self.simulation._asdict(),
        }


@dataclasses.dataclass(frozen=True, kw_only=True)
class OfflineSettings(SimulationSettings, DataSettings, RunSettings):
    """Settings of `xql-train-offline`."""

    env_name: str | None = setting(
        None,
        TEXT,
        "Task: a name of D4RL or OGBench, pointmaze-{umaze,medium,large,large-rare}-v0, or MODULE:ID, which "
        "MODULE registers with Gymnasium. If neither this "
        f"flag nor --dataset is given, uses {DEFAULT_ENV_NAME}. With --dataset alone, nothing is evaluated.",
        theirs="env env_id env_names task tasks",
    )
    dataset: Sequence[str | Dataset] = setting(
        (),
        SEVERAL,
        "Data to use instead of the task's own: FILE.hdf5 in D4RL's layout, FILE.npz, a folder of .npz "
        "episodes, minari:ID, minari:FOLDER or ogbench:FILE.npz. Several --dataset flags are joined. A file "
        "has observations, actions, rewards, terminals, and next_observations or timeouts (docs/data.md).",
        theirs="data file data_path dataset_path",
    )
    dataset_url: str | None = setting(None, TEXT, "Where to download the task's own dataset from.")
    data_on: str = setting(
        "auto",
        one_of("auto", "device", "host"),
        "device: the data are in its memory; host: streamed from the host's; auto: device if there is room.",
    )
    ramp: str = recorded(
        "",
        ANY,
        "Hyperparameters that change with the update: 'beta=2:0.5' goes linearly from 2 to 0.5, "
        "'beta=2:0.5@0.3:2' to 0.5 in the first 0.3 of --max_steps, and then back.",
        neutral="",
    )
    tuned: bool = setting(
        False, EITHER, "Apply the paper's per-dataset values (Table 4, in parentheses) to XQL."
    )
    background_evaluation: bool = setting(
        False,
        EITHER,
        "Evaluate on the host's cores while training goes on: for accelerators. The numbers are the same; a "
        "stop goes back to the step of an evaluation that is not over.",
    )

    @property
    def task(self) -> Task | None:
        """None if only data are given: then rewards are unchanged and nothing is evaluated."""
        return None if self.env_name is None and self.dataset else get_task(self.env_name or DEFAULT_ENV_NAME)

    def resolved(self) -> Self:
        task = self.task
        if task is None:
            for name in ("random_return", "expert_return", "eval_at_start"):
                if getattr(self, name) not in (None, False):
                    raise UserError(f"--{name}: nothing is evaluated without a task: give --env_name")
        elif task.name not in TASKS and not self.dataset:
            raise UserError(
                f"--env_name={task.name}: an online task, which has no dataset: xql-train-online "
                "trains in it; to learn from data of your own give --dataset"
            )
        config = self.config.copy_and_resolve_references()
        if task:
            check_suite(config, task)
        if self.tuned:
            values = tuned(config, task.name if task else None)
            config.update({name: value for name, value in values.items() if name not in self.given})
        resolved = self._decided(config)
        return dataclasses.replace(resolved, env_name=task.name if task else None)

    @property
    def identity(self) -> Json:
        return {**super().identity, "dataset": [name_of(source) for source in self.dataset]}
