"""Settings of all kinds of runs. The help of the commands' flags explains each field."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from ml_collections import ConfigDict

from xql_jax.data.dataset import Dataset
from xql_jax.envs import Simulation
from xql_jax.training.schedule import Schedule

# Where the transitions are kept during training; auto is the fastest place with enough room.
DATA_ON = ("auto", "device", "host")
ON_DIVERGENCE = ("freeze", "restart")
ON_DAMAGED_REPLAY = ("stop", "drop")
FORMATS = ("hdf5", "minari")
EXPORT_FORMATS = ("jax", "onnx", "npz")

# Default numbers of steps.
MAX_STEPS = 1_000_000
OFFLINE_INTERVALS = {"eval_interval": 5_000, "checkpoint_interval": 5_000}
ONLINE_INTERVALS = {"eval_interval": 10_000, "checkpoint_interval": 10_000}
LOG_INTERVAL = 1_000


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunSettings:
    """Settings of every training."""

    config: ConfigDict
    schedule: Schedule
    config_overrides: frozenset[str] = frozenset()  # fields that the user set; they are never changed
    save_dir: str = "results"
    seed: int = 42
    num_seeds: int = 1
    sweep: str = ""
    eval_episodes: int = 10
    random_return: float | None = None  # score 0 of a task without reference returns; needs expert_return
    expert_return: float | None = None  # score 100 of a task without reference returns
    resume: bool = False
    show_progress: bool = False

    @property
    def seeds(self) -> range:
        return range(self.seed, self.seed + self.num_seeds)


@dataclasses.dataclass(frozen=True, kw_only=True)
class SimulationSettings:
    """Settings of everything that chooses among the environments of a task, see `Simulation`."""

    env_backend: str = "mujoco"
    legacy_inertia: bool = False

    @property
    def simulation(self) -> Simulation:
        return Simulation(self.env_backend, self.legacy_inertia)


@dataclasses.dataclass(frozen=True, kw_only=True)
class OfflineSettings(SimulationSettings, RunSettings):
    """Settings of `experiments/train_offline.py`."""

    env_name: str | None = None
    dataset: Sequence[str | Dataset] = ()
    dataset_url: str | None = None
    data_on: str = "auto"  # one of `DATA_ON`
    normalize_observations: bool | None = None  # None: the method's default
    top_returns: float | None = None  # share of the transitions to learn from; None: the method's default
    batch_size: int | None = None  # None: the method's default
    tuned: bool = False
    checkpoint: str | Path | None = None  # the folder of a run that includes the members of this one
    extend: bool = False  # add updates or seeds to an existing run, see `runs.extension`


@dataclasses.dataclass(frozen=True, kw_only=True)
class ActingSettings:
    """Settings of every training that acts in environments."""

    num_environments: int = 1
    processes: bool = False
    environment_timeout: float = 60.0  # seconds; for environments that run in their own processes
    max_policy_lag: int = 100  # updates
    on_damaged_replay: str = "stop"  # one of `ON_DAMAGED_REPLAY`


@dataclasses.dataclass(frozen=True, kw_only=True)
class OnlineSettings(RunSettings, ActingSettings):
    """Settings of `experiments/train_online.py`."""

    env_name: str
    on_divergence: str = "freeze"  # one of `ON_DIVERGENCE`
    bellman_error_interval: int = 5_000  # steps; 0: none


@dataclasses.dataclass(frozen=True, kw_only=True)
class FinetuneSettings(OfflineSettings, ActingSettings):
    """Settings of `experiments/train_finetune.py`; `schedule.max_steps` counts environment steps."""

    data_on: str = "device"  # where the online phase adds to them
    member: int | None = None  # index of the member of --checkpoint's run; None: all members
    num_pretraining_steps: int | None = None  # updates; None: the method's default
    replay_buffer_size: int = 2_000_000  # transitions; with an `offline_fraction`, online ones alone
    init_dataset_size: int | None = None  # transitions of the data, drawn at random; None: all
    offline_fraction: float | None = None  # of every minibatch, see `PriorData`; None: the method's default
    warmup_steps: int | None = None  # of random actions; None: the method's default
    updates_per_step: float | None = None  # None: the method's default
    exploration_noise: float = 0.0  # standard deviation of Gaussian noise added to actions
    # Hyperparameters that change in the online phase, see `parse_ramps`; None: the method's default.
    online: str | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvaluationSettings:
    """Settings of `experiments/evaluate.py`."""

    checkpoint: str | None = None  # a run's folder or one of its checkpoints
    env_name: str | None = None
    episodes: int = 100
    member: int | None = None
    seed: int = 20_000
    num_environments: int | None = None
    random_policy: bool = False
    env_backend: str | None = None  # None: the run's own
    legacy_inertia: bool | None = None  # None: the run's own
    video: str | None = None
    video_episodes: int = 3
    video_size: str | None = None  # WIDTHxHEIGHT, pixels
    video_fps: float | None = None
    output: str | None = None
    show_progress: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True)
class ListSettings:
    """Settings of `experiments/runs.py`."""

    folders: Sequence[str]  # folders of runs, or folders that contain runs
    filter: str = ""
    compare: bool = False
    sort: str = "task"
    csv: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExportSettings:
    """Settings of `experiments/export.py`."""

    checkpoint: str  # a run's folder or one of its checkpoints
    env_name: str | None = None
    member: int | None = None  # None: the only one
    formats: Sequence[str] = EXPORT_FORMATS
    output: str | None = None  # a folder; None: `export` in the run's folder
    episodes: int = 0  # of an evaluation of each format; 0: none
    seed: int = 20_000


@dataclasses.dataclass(frozen=True, kw_only=True)
class ChoiceSettings:
    """Settings of `experiments/choose.py`."""

    checkpoint: str  # a run's folder or one of its checkpoints
    dataset: Sequence[str] = ()  # (): the run's own
    max_steps: int = 5_000  # updates of each evaluation
    batch_size: int = 256
    hidden_dims: str = "128,128"  # widths of Q's hidden layers
    critic_layer_norm: bool = True
    critic_lr: float = 1e-3
    tau: float = 0.02
    discount: float | None = None  # None: the run's own
    seed: int = 0
    output: str | None = None  # .csv or .json
    show_progress: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True)
class SweepSettings:
    """Settings of `experiments/sweep.py`."""

    methods: Sequence[str] = ()
    datasets: Sequence[str] = ()  # a task, or TASK=FILE
    sweep: str = ""  # for the methods that have the field
    seed: int = 0
    num_seeds: int = 6
    seeds_per_run: int | None = None  # None: all, in one program
    finetune: bool = False
    num_pretraining_steps: int | None = None  # of fine-tuning; None: the method's default
    max_steps: int = 1_000_000  # updates; environment steps in fine-tuning and online training
    eval_interval: int | None = None  # None: a tenth of max_steps
    eval_episodes: int | None = None  # None: the suite's default
    checkpoint_interval: int = 5_000
    save_dir: str = "results"
    config_dir: str = "configs"
    show_progress: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReportSettings:
    """Settings of `experiments/report.py`."""

    folders: Sequence[str]  # folders of runs, or folders that contain runs
    bootstrap_samples: int = 2_000
    out: str = "results/report"


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReproductionSettings(SweepSettings):
    """Settings of `experiments/reproduce.py`; methods and datasets default to the paper's."""

    table: str = "1"  # one of `paper_tables.TABLES`


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReferenceSettings:
    """Settings of `experiments/collect.py` for the reference returns, which stand for scores 0 and 100."""

    random_return: float | None = None  # score 0; None: measured
    expert_return: float | None = None  # score 100
    reference_episodes: int = 100


@dataclasses.dataclass(frozen=True, kw_only=True)
class CollectionSettings(SimulationSettings, ReferenceSettings):
    """Settings for making a dataset with a policy or from a replay buffer."""

    output: str | None = None
    format: str = "hdf5"  # one of `FORMATS`
    env_name: str | None = None
    append: bool = False  # add to the output if it exists
    policy: str | None = None  # random, FILE.npz, a run's folder or one of its checkpoints
    noise: float = 0.0  # standard deviation of noise added to actions
    deterministic: bool = False
    transitions: int | None = None
    episodes: int | None = None
    seed: int = 0
    waypoints: bool = False  # for AntMaze: use the embedded ant that walks from waypoint to waypoint
    replay: str | None = None  # the folder of an online run
    until: int | None = None  # take the buffer's transitions up to this number; None: all
    member: int | None = None
    expert: Sequence[str] = ()  # policies; the best of them is the expert
    show_progress: bool = False
