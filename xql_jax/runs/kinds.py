"""The value of a run, of three kinds: each is made of groups of settings that several have, and of its own.

From the declarations come the flags of the commands, the arguments of `xql_jax.train`, the checks, what
`--print_config` prints, and what config.json records (`identity_of` in folder.py). What follows from the
settings are properties, once `resolved` (resolve.py) has decided what a user leaves open.
"""

import dataclasses
import functools
from collections.abc import Collection, Mapping, Sequence
from typing import Any, ClassVar

from xql_jax.data.dataset import Dataset
from xql_jax.data.names import unused_arrays
from xql_jax.data.preprocessing import PreprocessingSettings
from xql_jax.errors import UserError, nearest
from xql_jax.learners.registry import OFFLINE, ONLINE, make_learner, method_of
from xql_jax.numerics.jax_settings import MATMUL_PRECISIONS
from xql_jax.runs.layers import FILE, USER, Layers
from xql_jax.runs.varied import fields_of, parse_ramps, parse_sweep
from xql_jax.settings import (
    ANY,
    COUNT,
    COUNT_OR_NONE,
    EITHER,
    SEVERAL,
    TEXT,
    UNIT_INTERVAL,
    Checked,
    by_config,
    one_of,
    recorded,
    setting,
    settings_of,
    values_of,
    within,
)
from xql_jax.suites.tasks import SUITES, Task, get_task, own_attribute
from xql_jax.training.members import Member, Ramp, make_members
from xql_jax.training.schedule import (
    ActingSchedule,
    ActingSettings,
    Exploration,
    Intervals,
    Schedule,
    steps_in_words,
)
from xql_jax.types import Horizon, Json

EVALUATION_SEED = 10_000  # of the initial states; the same for every member, evaluation and run
DEFAULT_ENV_NAME = "pointmaze-umaze-v0"  # if neither a task nor data are given; it needs no download


def other_bounds() -> Any:
    """Declares the setting of whatever lets a run's policy act in an environment that a user names."""
    return setting(
        False,
        EITHER,
        "Act in the run's units although the environment takes other actions than the run learned.",
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Kept(Checked):
    """What is kept of runs, and shown while they train."""

    save_dir: str = setting("results", TEXT, "Folder under which runs are written.")
    tqdm: bool = setting(True, EITHER, "Show a progress bar, if stderr is a terminal.")
    wandb: bool = setting(False, EITHER, "Also log to Weights & Biases; WANDB_MODE=offline needs no network.")
    wandb_project: str = setting("xql_jax", TEXT, "Project on Weights & Biases.")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Training(Intervals, Kept):
    """What every training has; the value of a run.

    `settings_from` makes it of a config and of what a user gives.
    """

    kind: ClassVar[str]  # its name in that of a run's folder, and in its command's, xql-train-KIND
    methods: ClassVar[Collection[str]]
    default_method: ClassVar[str]
    unit: ClassVar[str] = "update"  # the name of one step
    changing: ClassVar[str] = ""  # the setting with hyperparameters that change with the step

    method: str = ""  # METHOD or METHOD+POLICY
    learner: Any = None  # with its hyperparameters
    suite: str = ""  # whose values the learner has, where a user gives none
    origin: str = ""  # of the values, in words: the config file, or the suite
    layers: Layers = dataclasses.field(default_factory=Layers)  # which of them each value is from
    source: Any = None  # the `Run` of --checkpoint

    env_name: str | None = setting(None, TEXT, "")
    seed: int = setting(42, COUNT_OR_NONE, "First random seed.", of_checkpoint=True)
    num_seeds: int = setting(
        1, within(1, 100_000), "Number of seeds in one run: seed, seed + 1, ...", of_checkpoint=True
    )
    matmul_precision: str = recorded(
        "default",
        one_of(*MATMUL_PRECISIONS),
        "How the updates multiply matrices: highest (float32), tf32 (GPUs), bfloat16 (GPUs, TPUs); default: "
        "TF32 on GPUs, bfloat16 on TPUs, float32 on CPUs.",
        neutral="default",
    )
    sweep: str = recorded(
        "", ANY, "Grid over numeric hyperparameters: 'beta=0.6,1,2 tau=0.005,0.01'.", of_checkpoint=True
    )
    batch_size: int = by_config(256, within(1, 100_000_000), "Transitions in a minibatch.")
    n_step: int = by_config(
        1,
        within(1, 1_000),
        "Steps of reward in the targets of V and Q. The later actions are the data's: uncorrected.",
        neutral=1,
        of_checkpoint=True,
    )
    action_chunk: int = by_config(
        1,
        within(1, 1_000),
        "Actions that the policy decides on together and carries out one after the other.",
        neutral=1,
        of_checkpoint=True,
    )
    eval_episodes: int = recorded(10, within(0, 1_000_000), "Episodes of each evaluation, per seed; 0: none.")
    resume: bool = setting(False, EITHER, "Go on from the run's last checkpoint, or start if there is none.")

    @property
    def task(self) -> Task | None:
        """The task, without returns of scores 0 and 100 that the data give."""
        return get_task(self.env_name or "")

    @property
    def values(self) -> Json:
        """All settings and hyperparameters by name."""
        return {**values_of(self), **values_of(self.learner)}

    @property
    def seeds(self) -> range:
        return range(self.seed, self.seed + self.num_seeds)

    @property
    def horizon(self) -> Horizon:
        """What a transition spans; UserError if the two settings ask for different spans."""
        if self.n_step > 1 and self.action_chunk > 1:
            raise UserError(
                f"--n_step={self.n_step}: --action_chunk={self.action_chunk} learns from the rewards of as "
                "many steps: leave out --n_step"
            )
        return Horizon(max(self.n_step, self.action_chunk), self.action_chunk > 1)

    @property
    def measured(self) -> Mapping[str, int]:
        """Steps between rows of quantities other than metrics, by the method that measures each; 0: none."""
        return {}

    @property
    def schedule(self) -> Schedule:
        measured = {name: interval for name, interval in self.measured.items() if interval}
        return Schedule(**_fields_of(Schedule, self) | {"measured": measured})

    @property
    def all_steps(self) -> str:
        """Its steps in words."""
        return steps_in_words(self.schedule.max_steps, self.unit, self.schedule.handover)

    def __str__(self) -> str:
        """A line that describes the training that is asked for."""
        seeds = self.seeds
        numbers = f"seeds {seeds[0]} to {seeds[-1]}" if len(seeds) > 1 else f"seed {seeds[0]}"
        return f"{self.method}: {self.all_steps}, {numbers}"

    @functools.cached_property
    def grid(self) -> dict[str, list[float]]:
        """The values of the swept hyperparameters, by name."""
        return parse_sweep(self.sweep, settings_of(self.learner))

    def nats(self, name: str = "beta_nats") -> Sequence[float]:
        """The values of such a setting that members have, or run through before a hand-over; 0: none."""
        ramped = [ramp.values for ramp in self.ramps if ramp.name == name and self.changing == "ramp"]
        return ramped[0] if ramped else self.grid.get(name, [self.values.get(name, 0.0)])

    @functools.cached_property
    def members(self) -> list[Member]:
        """One per seed and setting of the swept hyperparameters."""
        return make_members(self.seeds, self.grid)

    @functools.cached_property
    def ramps(self) -> Sequence[Ramp]:
        """The hyperparameters that change with the step: in fine-tuning after the hand-over."""
        text, flag = getattr(self, self.changing, ""), f"--{self.changing}"
        return parse_ramps(text, settings_of(self.learner), self.max_steps, flag, self.grid)

    @property
    def choices(self) -> dict[str, str]:
        """The layer of each value that is a user's choice: `FILE`, or `USER` by a flag, a sweep or a ramp.

        Not of what changes at a hand-over.
        """
        varied = dict(fields_of(f"{self.sweep} {getattr(self, 'ramp', '')}"))
        return dict.fromkeys(self.layers[FILE], FILE) | dict.fromkeys({*self.layers[USER], *varied}, USER)


def _fields_of(kind: type[Any], settings: Training) -> Json:
    """Returns the fields of a dataclass that the settings have."""
    names = [field.name for field in dataclasses.fields(kind)]
    return {name: getattr(settings, name) for name in names if hasattr(settings, name)}


@dataclasses.dataclass(frozen=True, kw_only=True)
class FromData(Training, PreprocessingSettings):
    """What every training on data has."""

    methods = OFFLINE
    default_method = "xql"

    env_name: str | None = setting(
        None,
        TEXT,
        "Task: a name of D4RL or OGBench, pointmaze-{umaze,medium,large,large-rare}-v0, or MODULE:ID, which "
        f"MODULE registers with Gymnasium. If neither this flag nor --dataset is given, {DEFAULT_ENV_NAME}. "
        "With --dataset alone, nothing is evaluated.",
    )
    dataset: Sequence[str | Dataset] = setting(
        (),
        SEVERAL,
        "Data to use instead of the task's own: FILE.hdf5 in D4RL's layout, FILE.npz, a folder of .npz "
        "episodes, minari:ID, minari:FOLDER or ogbench:FILE.npz. Several --dataset flags are joined. A file "
        "has observations, actions, rewards, terminals, and next_observations or timeouts (docs/data.md).",
    )
    unused_arrays: Sequence[str] = unused_arrays()
    tuned: bool = setting(
        False,
        EITHER,
        "Apply the paper's per-dataset values (Table 4, in parentheses) to XQL.",
        of_checkpoint=True,
    )

    @property
    def task(self) -> Task | None:
        """None if only data are given: then nothing is evaluated."""
        return None if self.env_name is None and self.dataset else get_task(self.env_name or DEFAULT_ENV_NAME)

    @property
    def unit_rewards(self) -> bool:
        """Whether rewards are divided by their root mean square.

        So it is for every method with a Q or V and the values of one's own data, unless the task's suite or
        --checkpoint's run says their unit. A suite's values, such as `awr_temperature`, are in its rewards.
        """
        suite = self.task.suite if self.task else None
        has_unit = self.source or (suite and (suite.scales_rewards or suite.reward_shift))
        learns = hasattr(self.learner, "critic") or hasattr(self.learner, "value")
        is_own = self.suite in SUITES and SUITES[self.suite].config == "own"
        return self.scale_rewards and learns and not has_unit and is_own


@dataclasses.dataclass(frozen=True, kw_only=True)
class Acting(Training, ActingSettings):
    """What every training has that acts in environments."""

    unit = "step"
    buffer_flag: ClassVar[str] = "buffer_size"

    round_steps: int = 1  # of acting at a time

    @property
    def acting(self) -> ActingSchedule:
        """How acting and learning alternate."""
        return ActingSchedule(**_fields_of(ActingSchedule, self))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Offline(FromData):
    """The settings of `xql-train-offline`."""

    kind = "offline"
    changing = "ramp"

    ramp: str = recorded(
        "",
        ANY,
        "Hyperparameters that change with the update: 'beta=2:0.5' goes linearly from 2 to 0.5, "
        "'beta=2:0.5@0.3:2' to 0.5 in the first 0.3 of --max_steps, and then back.",
        neutral="",
    )
    background_evaluation: bool = setting(
        False,
        EITHER,
        "Evaluate on the host's cores while training goes on: for accelerators. The numbers are the same; a "
        "stop keeps the policies whose evaluation is not over, for --resume.",
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Online(Acting):
    """The settings of `xql-train-online`."""

    kind = "online"
    methods = ONLINE
    default_method = "xsac"

    env_name: str = setting(
        "cartpole-swingup",
        TEXT,
        "Task: cheetah-run, HalfCheetah-v5, playground:CheetahRun, or MODULE:ID, which MODULE registers.",
    )
    eval_interval: int = recorded(10_000, COUNT, "")
    checkpoint_interval: int = setting(10_000, COUNT, "")
    buffer_size: int = by_config(
        1_000_000,
        within(1, 100_000_000),
        "Transitions that the replay buffer of each seed holds; the oldest are overwritten.",
    )
    network: str = recorded(
        "paper", one_of("paper", "small"), 'Size of the networks: "paper", or "small" for a laptop.'
    )
    bellman_error_interval: int = recorded(
        5_000, COUNT_OR_NONE, "{Steps} between rows of bellman_errors.csv; 0: none."
    )

    @property
    def measured(self) -> Mapping[str, int]:
        return {"bellman_errors": self.bellman_error_interval}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Finetune(FromData, Acting, Exploration):
    """The settings of `xql-train-finetune`; `max_steps` counts environment steps."""

    kind = "finetune"
    changing = "online"
    buffer_flag = "replay_buffer_size"

    checkpoint: str | None = setting(
        None,
        TEXT,
        "A run of xql-train-offline, or RUN/checkpoints/STEP of it, to go on from: its learner, "
        "hyperparameters, members, data and preprocessing.",
    )
    member: int | None = setting(
        None, COUNT_OR_NONE, "With --checkpoint, its member, counted from 0. Default: all."
    )
    allow_other_bounds: bool = other_bounds()
    num_pretraining_steps: int = by_config(
        1_000_000,
        within(0, 2**30),
        "Updates before the hand-over; none with --checkpoint.",
        of_checkpoint=True,
    )
    offline_fraction: float | None = by_config(
        None,
        UNIT_INTERVAL,
        "Share of the data in every minibatch after the hand-over, 0.5 in RLPD. None: data and online "
        "transitions are drawn with equal probability, as in IQL.",
        value_type=float,
    )
    online: str = by_config(
        "",
        ANY,
        "Hyperparameters that change at the hand-over: 'beta=0.5' sets another value, 'beta=1:0.2' goes "
        "linearly from one to another over --max_steps.",
    )
    replay_buffer_size: int = recorded(
        2_000_000,
        within(1, 100_000_000),
        "Transitions in the replay buffer, the data included unless there is an --offline_fraction.",
    )
    init_dataset_size: int | None = recorded(None, COUNT, "Transitions drawn from the data. Default: all.")

    @property
    def schedule(self) -> Schedule:
        """The schedule of both phases."""
        handover = self.num_pretraining_steps
        return dataclasses.replace(super().schedule, max_steps=handover + self.max_steps, handover=handover)

    @property
    def data_seed(self) -> int:
        """By which --init_dataset_size draws: the source's first, so that --member keeps the rows of all."""
        return self.source.record.get("data_seed", self.source.seeds[0]) if self.source else self.seed

    @property
    def buffer_size(self) -> int:
        """Transitions in the buffer of each seed."""
        return min(self.replay_buffer_size, max(self.max_steps, self.batch_size))

    @property
    def acting(self) -> ActingSchedule:
        # A learner with noise of its own, as td3_bc, gets no other, and the noise is no spread of its policy.
        has_noise = hasattr(self.learner, "exploration_noise")
        own: Json = {"exploration_noise": 0.0, "acting_temperature": 1.0} if has_noise else {}
        return dataclasses.replace(super().acting, **own)


OF_OFFLINE = {name: setting for name, setting in settings_of(Finetune).items() if setting.by_config}
OF_ONLINE = {name: setting for name, setting in settings_of(Online).items() if setting.by_config}
METHOD_SETTINGS = OF_OFFLINE | OF_ONLINE  # those that methods and config files give defaults to
KINDS: dict[str, type[Training]] = {kind.kind: kind for kind in (Offline, Online, Finetune)}
OFFLINE_TRAINING, ONLINE_TRAINING, FINE_TUNING = KINDS


def check_method(method: str, kind: type[Training]) -> None:
    """Raises UserError unless METHOD or METHOD+POLICY is one of the kind's; the line says what trains it."""
    name = method_of(method)
    if ":" in name:
        own_attribute(name, "--method")  # imports it: a user named it, not a file of a run
    if name in kind.methods:
        return
    hint = f"nearest known: {nearest(name, kind.methods)}"
    for other in (Offline, Online):
        if name in other.methods:
            hint = f"xql-train-{other.kind} trains it, in Python xql_jax.train{'_online' * (other is Online)}"
    raise UserError(f"unknown method {name!r} here: {hint}")


def as_plain(settings: Training) -> Json:
    """Returns the value of a run as JSON has it, for another process."""
    return {
        "kind": settings.kind,
        "method": settings.method,
        "settings": values_of(settings),
        "learner": values_of(settings.learner),
        "suite": settings.suite,
        "origin": settings.origin,
        "layers": settings.layers.tables,
    }


def from_plain(plain: Json) -> Training:
    """Returns the value that `as_plain` was given. Imports the module of a user's own method."""
    kind = KINDS[plain["kind"]]
    check_method(plain["method"], kind)
    tables = {layer: _with_tuples(table) for layer, table in plain["layers"].items()}
    return kind(
        method=plain["method"],
        learner=make_learner(plain["method"], plain["learner"]),
        suite=plain["suite"],
        origin=plain["origin"],
        layers=Layers(tables),
        **plain["settings"],
    )


def _with_tuples(values: Json) -> Json:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
