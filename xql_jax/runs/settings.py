"""What a run is asked to do. The mains' flags explain each field."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from ml_collections import ConfigDict

from xql_jax.training.loop import Schedule

# Where the transitions are while a run learns from them: auto is the fastest place that has room.
DATA_ON = ("auto", "device", "host", "disk")
ON_DIVERGENCE = ("freeze", "restart")
ON_DAMAGED_REPLAY = ("stop", "drop")
FORMATS = ("hdf5", "minari")


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunSettings:
    """Those of every training."""

    config: ConfigDict
    schedule: Schedule
    config_overrides: frozenset[str] = frozenset()  # fields that the user gave, which nothing else changes
    save_dir: str = "results"
    seed: int = 42
    num_seeds: int = 1
    sweep: str = ""
    eval_episodes: int = 10
    resume: bool = False
    show_progress: bool = False

    @property
    def seeds(self) -> range:
        return range(self.seed, self.seed + self.num_seeds)


@dataclasses.dataclass(frozen=True, kw_only=True)
class OfflineSettings(RunSettings):
    """Those of `experiments/train_offline.py`."""

    env_name: str | None = None
    dataset: Sequence[str] = ()
    dataset_url: str | None = None
    data_on: str = "auto"  # one of `DATA_ON`
    external_data: bool = False
    normalize_observations: bool | None = None  # None, as the next and `batch_size`: the method's own
    top_returns: float | None = None  # share of the transitions that are learned from, see `RunDefaults`
    env_backend: str = "mujoco"
    legacy_inertia: bool = False
    batch_size: int | None = None
    tuned: bool = False
    checkpoint: str | Path | None = None  # the folder of a run that has the members of this one


@dataclasses.dataclass(frozen=True, kw_only=True)
class OnlineSettings(RunSettings):
    """Those of `experiments/train_online.py`."""

    env_name: str
    num_environments: int = 1
    processes: bool = False
    environment_timeout: float = 60.0  # seconds; of environments in processes of their own
    max_policy_lag: int = 100  # updates
    on_divergence: str = "freeze"  # one of `ON_DIVERGENCE`
    on_damaged_replay: str = "stop"  # one of `ON_DAMAGED_REPLAY`
    bellman_error_interval: int = 5_000  # steps; 0: none


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvaluationSettings:
    """Those of `experiments/evaluate.py`."""

    checkpoint: str | None = None  # a run's folder or one of its checkpoints
    env_name: str | None = None
    episodes: int = 100
    member: int | None = None
    seed: int = 20_000
    num_environments: int | None = None
    random_policy: bool = False
    env_backend: str | None = None  # None, as the next: the run's own
    legacy_inertia: bool | None = None
    video: str | None = None
    video_episodes: int = 3
    output: str | None = None
    show_progress: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReproductionSettings:
    """Those of `experiments/reproduce.py`."""

    table: str = "1"  # one of `paper_tables.TABLES`
    methods: Sequence[str] = ()  # as the next: of the paper's table, if none are given
    datasets: Sequence[str] = ()  # a task, or TASK=FILE
    sweep: str = ""  # for the methods that have the field
    seed: int = 0
    num_seeds: int = 6
    max_steps: int = 1_000_000
    eval_interval: int | None = None  # None: a tenth of the updates
    eval_episodes: int | None = None  # None: the suite's
    checkpoint_interval: int = 5_000
    save_dir: str = "results"
    config_dir: str = "configs"
    show_progress: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReferenceSettings:
    """Those of `experiments/collect.py` that say which returns a score of 0 and of 100 stand for."""

    random_return: float | None = None  # None: measured
    expert_return: float | None = None
    reference_episodes: int = 100


@dataclasses.dataclass(frozen=True, kw_only=True)
class CollectionSettings(ReferenceSettings):
    """Those of a set that is made by policies, or of a replay buffer."""

    output: str | None = None
    format: str = "hdf5"  # one of `FORMATS`
    env_name: str | None = None
    policy: Sequence[str] = ()  # random, FILE.npz, a run's folder or one of its checkpoints
    mixture: str = ""  # the policies' shares of the episodes; "": equal ones
    noise: str = ""  # standard deviation of what is added to actions, one or one a policy; "": 0
    deterministic: bool = False
    transitions: int | None = None
    episodes: int | None = None
    seed: int = 0
    replay: str | None = None  # the folder of an online run
    until: int | None = None  # transitions of its buffer
    member: int | None = None
    expert: Sequence[str] = ()  # policies, of which the best is the expert
    env_backend: str = "mujoco"
    legacy_inertia: bool = False
    show_progress: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True)
class RecipeSettings(ReferenceSettings):
    """Those of all of D4RL's sets of a task, made from one online run."""

    run: str | None = None
    env_name: str | None = None
    save_dir: str = "data"
    transitions: int | None = None  # of the random, medium and expert set, each
    member: int | None = None
    seed: int = 0
    show_progress: bool = False
