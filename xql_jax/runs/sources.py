"""Sources of the rows of a new dataset: policies, or the replay buffer of an online run."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import jax
import numpy as np
from tqdm import tqdm

from xql_jax.data.collecting import Amount, collect
from xql_jax.data.rows import Rows, rows_of_replay
from xql_jax.envs import Simulation
from xql_jax.errors import UserError
from xql_jax.runs.behaviours import Place, open_behaviour
from xql_jax.runs.load import SavedRun, load_run
from xql_jax.runs.settings import CollectionSettings
from xql_jax.tasks import get_task
from xql_jax.training.replay_files import ReplayFiles
from xql_jax.types import Batch


class Source(Protocol):
    """A source of a dataset's rows."""

    place: Place

    def plan(self) -> list[str]:
        """Describes, in lines, what it will do."""
        ...

    def rows(self) -> Rows: ...

    def metadata(self) -> dict[str, Any]:
        """Returns the metadata of the rows, which the dataset's file will contain."""
        ...


class PolicySource:
    """Episodes of several policies, which take turns by their shares."""

    def __init__(self, settings: CollectionSettings):
        if not settings.policy:
            raise UserError("no policy: give --policy=random, FILE.npz or a run's folder, or --replay=RUN")
        if not settings.env_name:
            raise UserError("--policy needs --env_name")
        if settings.until is not None:
            raise UserError("--until is for --replay: for policies give --transitions or --episodes")
        if (settings.transitions is None) == (settings.episodes is None):
            raise UserError("give one of --transitions and --episodes: how much to collect")
        self.settings = settings
        self.place = Place.of(get_task(settings.env_name), settings.simulation)
        count = len(settings.policy)
        self.shares = numbers("mixture", settings.mixture, count) or [1.0 / count] * count
        if abs(sum(self.shares) - 1.0) > 1e-6:
            raise UserError(
                f"--mixture={settings.mixture}: shares must sum to 1, not to {sum(self.shares):g}"
            )
        noise = numbers("noise", settings.noise, count, or_one=True) or [0.0] * count
        self.behaviours = [
            open_behaviour(
                name, self.place, member=settings.member, deterministic=settings.deterministic, noise=std
            )
            for name, std in zip(settings.policy, noise, strict=True)
        ]
        self.amount = Amount(settings.transitions, settings.episodes)

    def plan(self) -> list[str]:
        made = f"{self.amount.transitions:,} transitions" if self.amount.transitions else ""
        return [
            f"{made or f'{self.amount.episodes:,} episodes'}, seed {self.settings.seed}",
            *(
                f"  {100 * share:g}% of the episodes: {behaviour.name} ({behaviour.what})"
                + (f", noise {behaviour.noise:g}" if behaviour.noise else "")
                for share, behaviour in zip(self.shares, self.behaviours, strict=True)
            ),
        ]

    def rows(self) -> Rows:
        settings, amount = self.settings, self.amount
        unit = " transitions" if amount.transitions else " episodes"
        disable = None if settings.show_progress else True
        with tqdm(total=amount.transitions or amount.episodes, unit=unit, disable=disable) as bar:
            return collect(
                self.place.task,
                self.place.suite,
                self.behaviours,
                self.shares,
                amount,
                settings.seed,
                on_steps=lambda made, ended: bar.update(made if amount.transitions else ended),
            )

    def metadata(self) -> dict[str, Any]:
        return {
            "seed": self.settings.seed,
            "policies": [behaviour.name for behaviour in self.behaviours],
            "policies_are": [behaviour.what for behaviour in self.behaviours],
            "shares_of_episodes": list(self.shares),
            "noise": [behaviour.noise for behaviour in self.behaviours],
        }


class WaypointSource:
    """AntMaze episodes by the embedded ant of `xql_jax.data.antmaze`, which walks between waypoints."""

    def __init__(self, settings: CollectionSettings):
        unfit = ("policy", "mixture", "noise", "deterministic", "until", "replay", "episodes")
        _refuse(settings, unfit, "--waypoints, where an ant of ours walks")
        if not settings.env_name or settings.transitions is None:
            raise UserError("--waypoints needs --env_name and --transitions")
        task = get_task(settings.env_name)
        if task.suite != "antmaze" or settings.simulation != Simulation():
            raise UserError(f"--env_name={task.name}: --waypoints is for antmaze-* by --env_backend=mujoco")
        self.settings, self.number = settings, settings.transitions
        self.place = Place.of(task, settings.simulation)

    def plan(self) -> list[str]:
        return [f"{self.number:,} transitions by the embedded ant, seed {self.settings.seed}"]

    def rows(self) -> Rows:
        # Imports MuJoCo, which chooses how it draws when it is imported, see `prepare_to_draw`.
        from xql_jax.data import antmaze

        disable = None if self.settings.show_progress else True
        with tqdm(total=self.number, unit=" transitions", disable=disable) as bar:
            return antmaze.generate(self.place.task, self.number, self.settings.seed, bar.update)

    def metadata(self) -> dict[str, Any]:
        from xql_jax.data.antmaze import ACTION_NOISE

        return {"seed": self.settings.seed, "policies": ["ant_walker"], "noise": [ACTION_NOISE]}


class ReplaySource:
    """Transitions from an online run's replay buffer, up to --until or all of them."""

    def __init__(self, settings: CollectionSettings):
        unfit = ("policy", "mixture", "noise", "deterministic", "transitions", "episodes")
        _refuse(settings, unfit, "--replay, whose rows are there already: use --until")
        assert settings.replay is not None
        self.settings = settings
        run = online_run(Path(settings.replay).expanduser(), "replay", settings.member, settings.env_name)
        self.record = record = run
        self.member = run.members[0]
        self.place = Place.of(get_task(record.env_name or ""), run.simulation)
        folder = record.files.replay / self.member.name
        files = ReplayFiles(folder, f"{record.run} {self.member.name}")
        sizes = {"observations": self.place.observation_dim, "next_observations": self.place.observation_dim}
        sizes["actions"] = self.place.action_dim
        like: Any = Batch(
            *(
                jax.ShapeDtypeStruct((1, sizes[name]) if name in sizes else (1,), np.float32)  # type: ignore[arg-type]
                for name in Batch._fields
            )
        )
        first, transitions = files.read(settings.until, like)
        self.stop = first + len(transitions.rewards)
        self.first = max(first, self.stop - int(record.config["buffer_size"]))  # older ones were overwritten
        self.transitions = jax.tree.map(lambda field: field[self.first - first :], transitions)

    def plan(self) -> list[str]:
        whose = f"{self.record.algorithm}, {self.member}, {self.record.path}"
        return [f"transitions {self.first:,} to {self.stop:,} of the replay buffer of {whose}"]

    def rows(self) -> Rows:
        number = int(self.record.content.get("num_environments", 1))
        return rows_of_replay(self.first, self.transitions, number)

    def metadata(self) -> dict[str, Any]:
        return {
            "replay_of": f"{self.record.algorithm}, {self.member}, run {self.record.run}",
            "first_transition": self.first,
            "stop_transition": self.stop,
            "episode_ends": "terminals are the buffer's; time-outs, which it does not know, were recovered: "
            "a row is one where its next observation is not exactly what the next row starts from",
        }


def _refuse(settings: CollectionSettings, names: Sequence[str], with_what: str) -> None:
    """Raises UserError if any of the named settings is given."""
    given = [f"--{name}" for name in names if getattr(settings, name)]
    if given:
        raise UserError(f"{', '.join(given)}: not with {with_what}")


def online_run(path: Path, flag: str, member: int | None, env_name: str | None) -> SavedRun:
    """Opens an online run, reduced to one member (one seed and hyperparameter setting).

    Args:
        flag: the flag that gave `path`, for messages.
        member: its index; None if the run has only one.
        env_name: the expected task; None for any.
    Raises:
        UserError: if it is not an online run, or of another task, or has several members and `member` is
            None.
    """
    run = load_run(path, member=member)
    if not run.is_online:
        raise UserError(f"--{flag}={path}: {run.algorithm} is no online learner: it has no replay buffer")
    if env_name not in (None, run.env_name):
        raise UserError(f"--env_name={env_name}: the run {path} is of {run.env_name}")
    run.one_member(f"--{flag}=")
    return run


def numbers(flag: str, text: str, count: int, or_one: bool = False) -> list[float]:
    """Parses a flag's numbers, one per policy; returns [] if the flag is not given.

    Args:
        count: the number of policies.
        or_one: accept a single number for all policies.
    Raises:
        UserError: if there are not `count` numbers, or one is negative or not finite.
    """
    if not text:
        return []
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        values = [np.nan]
    if not all(np.isfinite(value) and value >= 0 for value in values):
        raise UserError(f"--{flag}={text}: must be numbers from 0 on, separated by commas")
    if or_one and len(values) == 1:
        return values * count
    if len(values) != count:
        raise UserError(f"--{flag}={text}: {len(values)} numbers for {count} policies")
    return values
