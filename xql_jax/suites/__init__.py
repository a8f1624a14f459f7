"""What a task is, and what all tasks of a suite share: its record.

Every other file of this folder with a tuple `RECORDS` is found by itself. A new suite needs its record and an
environment; test_a_suite_is_its_record_and_its_environment makes a suite.
"""

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

LONGEST = 10_000  # steps of an episode without a limit, which might never end
RETURN_ITSELF = (None, None)  # the references of tasks that have none: a score is the return itself


class DataFolder(NamedTuple):
    """Where the files of a suite's datasets lie."""

    variable: str  # of the environment: names another folder
    default: str


# Values by method: "all", "in_sample" (with users' own), or names of methods by spaces. A method's row
# is also for methods that are `like` it. Later rows win.
Rows = Mapping[str, Mapping[str, Any]]
NONE: Mapping[str, Any] = {}


class Values(NamedTuple):
    """A suite's values for its methods, which `layers_of` (runs/layers.py) lays over the methods' own."""

    rows: Rows = NONE
    # Rows by the beginning of a tag: a task, its suite, or what is done (`finetune`, `small` networks).
    when: Mapping[str, Rows] = NONE
    tuned: Rows = NONE  # XQL's by task, for --tuned


METHODS_OWN = Values()


D4RL_FOLDER = DataFolder("D4RL_DATASET_DIR", "~/.d4rl/datasets")


@dataclasses.dataclass(frozen=True)
class Suite:
    """All that the tasks of a suite share. Code is named "module:name", and imported at its first use."""

    name: str
    config: str  # configs/CONFIG_config.py returns its values, for --config; a test compares
    environment: str  # the class, as a rule a `SimulatedEnv` of envs/simulated.py; takes a `Task`
    takes_any_config: bool = False  # configs of other suites, too
    # For offline methods, in fine-tuning, too. Not compared, so that a suite and its tasks have a hash.
    values: Values = dataclasses.field(default=METHODS_OWN, compare=False, repr=False)
    tasks: Callable[[], Iterable["Task"]] = tuple  # the tasks that can be listed

    jax_environment: str = ""  # if `environment` is `CompiledEnv`: a `JaxEnvironment`, which takes a `Task`
    is_compiled: bool = False  # environments in JAX, which are part of the program that learns
    packages: tuple[str, ...] = ()  # the simulator, if it is a package, then others with models or rules
    max_threads: int = 1  # threads pay for steps of a millisecond, and slow steps of microseconds
    max_environments: int = 64  # at once, or as many as evaluated policies, if these are more: few if costly
    # Whether they are in Gymnasium's registry: bounds of actions are their own, else ±1, and they draw if
    # `render_mode` asks for it, else `SimulatedEnv` does.
    is_registered: bool = False

    eval_episodes: int = 10  # of an evaluation in a sweep
    success: str = (
        ""  # when an episode counts as a success, a sentence that evaluations print; "": none is printed
    )
    tells_success_late: bool = False  # it may be reported for the first time after some evaluations

    data_folder: DataFolder = D4RL_FOLDER
    reader: str = ""  # the function that reads a task's own file, of its path and the task; "": by suffix
    # Whether its files are read by D4RL's rule: observations, actions, rewards, terminals and timeouts alone,
    # the next row's observation is the next. Else as any file of their suffix.
    reads_as_d4rl: bool = False
    labels: str = ""  # the function that computes the rewards of data that have none, for `read_ogbench`
    # The function that writes the HDF5 file of a task without an address, or makes it of files of others.
    generates: str = ""

    reward_shift: float = 0.0  # added to rewards
    scales_rewards: bool = False  # so that the data's returns span 1000
    data_rewards: str = ""  # the function that computes its data's rewards, if they are not the environment's


@dataclasses.dataclass(frozen=True)
class Task:
    """A task of D4RL or for online learning, an embedded `pointmaze-*` (maze2d's rules), or a user's own."""

    name: str
    suite: Suite = dataclasses.field(repr=False)
    # Address of the file, whose last part is its name in the suite's `data_folder`. None: the data are
    # generated, or there are none.
    dataset_url: str | None
    min_return: float | None  # D4RL's reference returns: random policy ...
    max_return: float | None  # ... and expert; of tasks without a dataset see their suites
    episode_limit: int | None  # steps; None: the environment ends its episodes itself
    by_success: bool = False  # whether an episode's score is 100 if it succeeds, else 0, as on OGBench

    @property
    def has_data(self) -> bool:
        return self.dataset_url is not None or bool(self.suite.generates)

    @property
    def longest(self) -> int:
        """The most steps that an episode is run for."""
        return self.episode_limit or LONGEST

    @property
    def is_normalised(self) -> bool:
        """Whether a score is not the return itself: it has reference returns, or is scored by success."""
        return self.by_success or self.scores_returns

    @property
    def scores_returns(self) -> bool:
        """Whether it has reference returns, between which a return is a score."""
        return self.min_return is not None

    @property
    def quantity(self) -> str:
        return "score" if self.is_normalised else "return"

    def normalized_score(self, returns: np.ndarray, successes: np.ndarray | None = None) -> np.ndarray:
        """D4RL's score of undiscounted returns, 0 at `min_return`, 100 at `max_return`; or by success."""
        if self.by_success:
            return 100.0 * np.asarray(successes, float)
        if self.min_return is None or self.max_return is None:
            return returns
        return 100.0 * (returns - self.min_return) / (self.max_return - self.min_return)
