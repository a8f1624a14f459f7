"""Sources of the rows of a new dataset: a policy, the embedded ant, or the replay buffer of an online run."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from tqdm import tqdm

from xql_jax.data.rows import Rows, rows_of_replay
from xql_jax.envs import Simulation
from xql_jax.errors import UserError
from xql_jax.runs.behaviours import Place, open_behaviour
from xql_jax.runs.collecting import collect
from xql_jax.runs.load import load_run
from xql_jax.runs.tool_settings import CollectionSettings
from xql_jax.tasks import get_task
from xql_jax.training.replay_files import ReplayFiles
from xql_jax.types import Batch


@dataclasses.dataclass(frozen=True)
class Source:
    """A source of a dataset's rows."""

    place: Place
    plan: str  # what it will do
    rows: Callable[[], Rows]
    metadata: dict[str, Any]  # of the rows, which the dataset's file will contain
    cuts_episodes: bool  # anywhere, not only the last one, see `whole_returns_of`


def open_source(settings: CollectionSettings) -> Source:
    """Opens the source that the settings ask for; UserError if they do not go together."""
    if settings.waypoints:
        return _waypoints(settings)
    return _replay_buffer(settings) if settings.replay else _policy(settings)


def _policy(settings: CollectionSettings) -> Source:
    """Episodes of one policy."""
    if not settings.policy:
        raise UserError("no policy: give --policy=random, FILE.npz or a run's folder, or --replay=RUN")
    if not settings.env_name:
        raise UserError("--policy needs --env_name")
    if settings.until is not None:
        raise UserError("--until is for --replay: for a policy give --transitions or --episodes")
    if (settings.transitions is None) == (settings.episodes is None):
        raise UserError("give one of --transitions and --episodes: how much to collect")
    place = Place.of(get_task(settings.env_name), settings.simulation)
    behaviour = open_behaviour(
        settings.policy,
        place,
        member=settings.member,
        deterministic=settings.deterministic,
        noise=settings.noise,
    )
    unit = "transitions" if settings.transitions else "episodes"
    number = getattr(settings, unit)

    def rows() -> Rows:
        with _progress(settings, number, unit) as bar:
            return collect(
                place.task,
                place.suite,
                behaviour,
                settings.seed,
                transitions=settings.transitions,
                episodes=settings.episodes,
                on_steps=lambda made, ended: bar.update(made if settings.transitions else ended),
            )

    noise = f", noise {behaviour.noise:g}" if behaviour.noise else ""
    plan = f"{number:,} {unit}, seed {settings.seed}, by {behaviour.name} ({behaviour.what}){noise}"
    about = {
        "seed": settings.seed,
        "policy": behaviour.name,
        "policy_is": behaviour.what,
        "noise": behaviour.noise,
    }
    return Source(place, plan, rows, about, cuts_episodes=False)


def _waypoints(settings: CollectionSettings) -> Source:
    """AntMaze episodes by the embedded ant of `xql_jax.data.antmaze`, which walks between waypoints."""
    unfit = ("policy", "noise", "deterministic", "until", "replay", "episodes")
    _refuse(settings, unfit, "--waypoints, where an ant of ours walks")
    if not settings.env_name or settings.transitions is None:
        raise UserError("--waypoints needs --env_name and --transitions")
    task, number = get_task(settings.env_name), settings.transitions
    if task.suite != "antmaze" or settings.simulation != Simulation():
        raise UserError(f"--env_name={task.name}: --waypoints is for antmaze-* by --env_backend=mujoco")
    # Imports MuJoCo, which chooses how it draws when it is imported, see `prepare_to_draw`.
    from xql_jax.data import antmaze

    def rows() -> Rows:
        with _progress(settings, number, "transitions") as bar:
            return antmaze.generate(task, number, settings.seed, bar.update)

    plan = f"{number:,} transitions by the embedded ant, seed {settings.seed}"
    about = {"seed": settings.seed, "policy": "ant_walker", "noise": antmaze.ACTION_NOISE}
    return Source(Place.of(task, settings.simulation), plan, rows, about, cuts_episodes=False)


def _replay_buffer(settings: CollectionSettings) -> Source:
    """Transitions from an online run's replay buffer, up to --until or all of them."""
    unfit = ("policy", "noise", "deterministic", "transitions", "episodes")
    _refuse(settings, unfit, "--replay, whose rows are there already: use --until")
    path = Path(settings.replay or "").expanduser()
    run = load_run(path, member=settings.member)
    if not run.is_online:
        raise UserError(f"--replay={path}: {run.algorithm} is no online learner: it has no replay buffer")
    if settings.env_name not in (None, run.env_name):
        raise UserError(f"--env_name={settings.env_name}: the run {path} is of {run.env_name}")
    member = run.one_member("--replay=")
    place = Place.of(get_task(run.env_name or ""), run.simulation)
    sizes = {"observations": place.observation_dim, "next_observations": place.observation_dim}
    sizes["actions"] = place.action_dim
    shapes = ((1, sizes[name]) if name in sizes else (1,) for name in Batch._fields)
    like: Any = Batch(*(jax.ShapeDtypeStruct(shape, np.float32) for shape in shapes))  # type: ignore[arg-type]
    files = ReplayFiles(run.files.replay / member.name, f"{run.run} {member.name}")
    begin, found = files.read(settings.until, like)
    stop = begin + len(found.rewards)
    first = max(begin, stop - int(run.config["buffer_size"]))  # older ones were overwritten
    transitions = jax.tree.map(lambda field: field[first - begin :], found)

    def rows() -> Rows:
        return rows_of_replay(first, transitions, int(run.content.get("num_environments", 1)))

    whose = f"{run.algorithm}, {member}"
    plan = f"transitions {first:,} to {stop:,} of the replay buffer of {whose}, {run.path}"
    about = {
        "replay_of": f"{whose}, run {run.run}",
        "first_transition": first,
        "stop_transition": stop,
        "episode_ends": "terminals are the buffer's; time-outs, which it does not know, were recovered: "
        "a row is one where its next observation is not exactly what the next row starts from",
    }
    return Source(place, plan, rows, about, cuts_episodes=True)


def _refuse(settings: CollectionSettings, names: Sequence[str], with_what: str) -> None:
    """Raises UserError if any of the named settings is given."""
    given = [f"--{name}" for name in names if getattr(settings, name)]
    if given:
        raise UserError(f"{', '.join(given)}: not with {with_what}")


def _progress(settings: CollectionSettings, total: int | None, unit: str) -> tqdm:
    return tqdm(total=total, unit=f" {unit}", disable=None if settings.tqdm else True)
