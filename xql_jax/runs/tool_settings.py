"""The settings of the commands that do not train, see `xql_jax.settings`."""

import dataclasses
from collections.abc import Sequence

from xql_jax.envs import BACKENDS
from xql_jax.runs.settings import SimulationSettings
from xql_jax.settings import Settings, setting

EXPORT_FORMATS = ("jax", "onnx", "npz")
SORTS = ("task", "score", "when", "name")
PROGRESS = "Show a progress bar, if stderr is a terminal."
SEED = "Seed for the initial states. Evaluations during training use another one."
MEMBER = "Member of the run, counted from 0. Needed for runs with several members."
RUN = "a run's folder or one of its checkpoints"
RUNS = "folders of runs, or folders that contain runs"
REFERENCES = "TASK=RANDOM,EXPERT: the returns of scores 0 and 100 of a task without scores, in the tables."
INITIAL_STATES = 20_000  # seed of the initial states; evaluations during training use another one
MOST = 1_000_000  # episodes


@dataclasses.dataclass(frozen=True, kw_only=True)
class OfRun(Settings):
    """Settings of commands that open a run."""

    method: str | None = setting(
        None, "MODULE:NAME, the run's method if it is one of your own: MODULE is imported."
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvaluationSettings(OfRun):
    """Settings of `xql-evaluate`."""

    checkpoint: str | None = setting(None, "", positional=True)  # a run's folder or one of its checkpoints
    env_name: str | None = setting(None, "Task. Default: the run's own.")
    episodes: int = setting(100, "Episodes per member.", least=1, most=MOST)
    member: int | None = setting(None, "Member to evaluate, counted from 0. Default: all.")
    seed: int = setting(INITIAL_STATES, SEED)
    random_return: float | None = setting(None, "Return of score 0, for a task that has none.")
    expert_return: float | None = setting(None, "Return of score 100, see --random_return.")
    num_environments: int | None = setting(
        None, "Most environments at once. Default: chosen by the suite.", least=1, most=100_000
    )
    random_policy: bool = setting(
        False, "Evaluate uniformly random actions instead. They also depend on --num_environments."
    )
    env_backend: str | None = setting(
        None, "mujoco or d4rl, as for training. Default: the run's own.", choices=BACKENDS
    )
    legacy_inertia: bool | None = setting(None, "As for training. Default: the run's own.")
    video: str | None = setting(None, "Record the first member's first episodes as FILE.mp4 or FILE.gif.")
    video_episodes: int = setting(3, "Episodes of the video.", least=1, most=1_000)
    video_size: str | None = setting(
        None,
        "Width and height of the video in pixels, such as 320x240. Default: 640x480 for an MP4, 320 wide for "
        "a GIF. A GIF of more than 10 MB is reduced until it fits.",
    )
    video_fps: float | None = setting(
        None,
        "Frames per second, approximately. Steps are skipped so that the video runs in real time. Default: "
        "50 for an MP4, 25 for a GIF.",
        least=0.1,
        most=240,
    )
    output: str | None = setting(None, "Also write the results to this file, as JSON.")
    tqdm: bool = setting(True, PROGRESS)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ListSettings(Settings):
    """Settings of `xql-runs`."""

    folders: Sequence[str] = setting((), RUNS, positional=True)
    filter: str = setting(
        "",
        "List only runs with all of these: NAME=VALUE, where NAME is task, method, state or a setting such "
        "as beta.",
    )
    compare: bool = setting(False, "Show the settings that have several values among the listed runs.")
    sort: str = setting("task", "Order: by task and method, best score, newest or name.", choices=SORTS)
    csv: bool = setting(False, "Print CSV.")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExportSettings(OfRun):
    """Settings of `xql-export`."""

    given: frozenset[str] = frozenset()  # names of the settings that the user gave
    checkpoint: str = setting("", RUN, positional=True)
    env_name: str | None = setting(None, "Task of --episodes. Default: the run's own.")
    member: int | None = setting(None, MEMBER)
    formats: Sequence[str] = setting(
        EXPORT_FORMATS,
        "Files to write. jax: an artifact of jax.export; onnx: a graph, needs xql_jax[export]; npz: weights. "
        "Default: all; onnx if it is installed.",
        choices=EXPORT_FORMATS,
        by_commas=True,
    )
    output: str | None = setting(None, "Folder for the files. Default: `export` in the run's folder.")
    episodes: int = setting(0, "Evaluate the run and every file over that many episodes.", most=MOST)
    seed: int = setting(INITIAL_STATES, SEED)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ChoiceSettings(OfRun):
    """Settings of `xql-choose`."""

    checkpoint: str = setting("", RUN, positional=True)
    env_name: str | None = setting(None, "The run's task, whose module is run only if it is named here.")
    dataset: Sequence[str] = setting(
        (), "Data to use instead of the run's own, such as held-out data; as for xql-train-offline."
    )
    max_steps: int = setting(
        5_000,
        "Updates of each evaluation. Values need about 1 / (tau * (1 - discount)) of them to converge.",
        least=1,
    )
    batch_size: int = setting(256, "Transitions per update.", least=1, most=10_000_000)
    hidden_dims: str = setting("128,128", "Widths of the hidden layers of the Q that evaluates.")
    critic_layer_norm: bool = setting(True, "Use layer norm in each hidden layer.")
    critic_lr: float = setting(1e-3, "Learning rate of this Q.")
    tau: float = setting(0.02, "Polyak rate of the target network, per update.")
    discount: float | None = setting(None, "Discount of the values. Default: the run's own.")
    seed: int = setting(0, "Random seed, the same for all members.")
    output: str | None = setting(
        None, "Write the members to FILE.csv, or members and correlations to FILE.json."
    )
    tqdm: bool = setting(True, PROGRESS)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReportSettings(Settings):
    """Settings of `xql-report`."""

    folders: Sequence[str] = setting((), RUNS, positional=True)
    bootstrap_samples: int = setting(
        2_000, "Bootstrap samples for the intervals of statistics over datasets.", least=100, most=1_000_000
    )
    references: Sequence[str] = setting((), REFERENCES)
    output: str = setting("results/report", "Folder for the page and the tables.")


@dataclasses.dataclass(frozen=True, kw_only=True)
class CollectionSettings(OfRun, SimulationSettings):
    """Settings of `xql-collect`."""

    random_return: float | None = setting(None, "Return that is a score of 0. Default: measured.")
    expert_return: float | None = setting(None, "Return that is a score of 100, written with the data.")
    reference_episodes: int = setting(100, "Episodes for each measured return.", least=1, most=MOST)
    output: str | None = setting(
        None, "FILE.hdf5 to write, or a folder with --format=minari. It must not exist yet."
    )
    format: str = setting(
        "hdf5",
        "hdf5: D4RL's layout; minari: a folder, to be read as minari:FOLDER.",
        choices=("hdf5", "minari"),
    )
    env_name: str | None = setting(
        None, "Task, as for xql-evaluate. --policy needs it; with --replay, the run's own."
    )
    append: bool = setting(False, "If --output exists, add the rows to it.")
    policy: str | None = setting(
        None,
        "Policy that acts: a run's folder or one of its checkpoints; `random`; or FILE.npz, a Gaussian MLP "
        "or an exported policy.",
    )
    noise: float = setting(
        0.0, "Standard deviation of Gaussian noise on actions; 1 is half their range.", least=0
    )
    deterministic: bool = setting(False, "Use the policy's mode instead of sampling.")
    transitions: int | None = setting(
        None, "Transitions to collect; a time-out ends the last episode.", least=1
    )
    episodes: int | None = setting(None, "Whole episodes to collect.", least=1)
    seed: int = setting(
        0, "Random seed. Episode e depends on (seed, e) alone; with --waypoints, all do on the seed."
    )
    waypoints: bool = setting(
        False,
        "Make antmaze-* data as D4RL does: an ant walks between waypoints, with a policy that is included.",
    )
    oracle: bool = setting(
        False,
        "Make OGBench data with its scripted oracles: for cube-*, scene-*, puzzle-*, pointmaze-*-navigate. "
        "Default of --output: where the task's data are looked for.",
    )
    replay: str | None = setting(None, "Folder of an online run whose replay buffer is written.")
    until: int | None = setting(
        None, "With --replay, write the buffer as it was after so many transitions. Default: all.", least=2
    )
    member: int | None = setting(None, MEMBER)
    expert: Sequence[str] = setting(
        (), "Policies, as for --policy, whose returns are measured; the best is the return of score 100."
    )
    tqdm: bool = setting(True, PROGRESS)
