"""Collection of a dataset: made by a policy, or taken from the replay buffer of an online run."""

import contextlib
import dataclasses
import json
import logging
from collections.abc import Callable, Sequence

import jax
import numpy as np

from xql_jax.data.dataset import checked_references
from xql_jax.data.replay import empty
from xql_jax.data.rows import (
    Rows,
    ends_of,
    rows_of_replay,
    whole_returns_of,
    write_hdf5,
)
from xql_jax.envs import environment_maker, versions_of
from xql_jax.errors import UserError
from xql_jax.files.outputs import check_output, writing_output
from xql_jax.numerics.jax_settings import settings_of_jax
from xql_jax.rollout.evaluation import episode_seed, warn_of_its_seeds
from xql_jax.runs.kinds import other_bounds
from xql_jax.runs.machine import versions
from xql_jax.settings import (
    ANY,
    COUNT,
    COUNT_OR_NONE,
    EITHER,
    MOST,
    NOT_NEGATIVE,
    TEXT,
    Checked,
    setting,
    within,
)
from xql_jax.suites.tasks import Task, get_task, own_attribute, referenced
from xql_jax.training.progress import progress_bar
from xql_jax.training.replay_files import ReplayFiles
from xql_jax.training.signals import StopSignals
from xql_jax.types import Batch, EpisodeBatch, Json
from xql_jax.workshop.tools.behaviours import Amount, collecting_env, episodes_of, open_behaviour
from xql_jax.workshop.tools.opening import open_run, own_method

LOG = logging.getLogger(__name__)
HDF5_SUFFIXES = (".hdf5", ".h5")
NOT_OF_REPLAY = ("policy", "noise", "deterministic", "transitions", "episodes")


@dataclasses.dataclass(frozen=True, kw_only=True)
class CollectionSettings(Checked):
    method: str | None = own_method()
    random_return: float | None = setting(
        None, ANY, "Return of score 0, written with the data.", value_type=float
    )
    expert_return: float | None = setting(
        None, ANY, "Return of score 100, see --random_return.", value_type=float
    )
    output: str | None = setting(None, TEXT, "FILE.hdf5; it must not exist yet.")
    env_name: str | None = setting(
        None, TEXT, "Task, as for xql-evaluate. --policy needs it; with --replay, the run's own."
    )
    policy: str | None = setting(
        None,
        TEXT,
        "Policy that acts: a run's folder or one of its checkpoints; `random`; or FILE.npz, a Gaussian MLP.",
    )
    allow_other_bounds: bool = other_bounds()
    noise: float = setting(
        0.0, NOT_NEGATIVE, "Standard deviation of noise on actions; 1 is half their range."
    )
    deterministic: bool = setting(False, EITHER, "Use the policy's mode instead of sampling.")
    transitions: int | None = setting(None, COUNT, "Transitions to collect; the last episode is cut off.")
    episodes: int | None = setting(None, COUNT, "Whole episodes to collect.")
    seed: int = setting(0, COUNT_OR_NONE, "Random seed. Episode e depends on (seed, e) alone.")
    replay: str | None = setting(None, TEXT, "Folder of an online run whose replay buffer is written.")
    until: int | None = setting(
        None,
        within(2, MOST),
        "With --replay, the buffer after N transitions. Default: all, or those of RUN/checkpoints/STEP.",
        value_type=int,
    )
    member: int | None = setting(
        None, COUNT_OR_NONE, "Member, counted from 0. Needed if the run has several."
    )
    tqdm: bool = setting(True, EITHER, "Show a progress bar, if stderr is a terminal.")


@dataclasses.dataclass(frozen=True)
class Source:
    task: Task
    rows: Callable[[StopSignals], Rows]
    metadata: Json  # of the rows, which the dataset's file will contain
    cuts: Sequence[int] = (-1,)  # rows at which an episode may be cut off, see `whole_returns_of`
    headless: Sequence[int] = ()  # rows of episodes whose first steps are lost


@settings_of_jax()
def collect(settings: CollectionSettings) -> Json:
    """Makes a dataset; returns a summary of its rows. UserError comes before these."""
    if settings.method:
        own_attribute(settings.method, "--method")  # imports it, before a run names it
    source = _replay_buffer(settings) if settings.replay else _policy(settings)
    if not settings.output:
        raise UserError("give --output: the file to write")
    output = check_output("output", settings.output, HDF5_SUFFIXES)
    if output.exists():
        raise UserError(f"--output={output}: exists already: give another name")
    of_scores = settings.random_return, settings.expert_return
    references = checked_references(of_scores, "returns of scores 0 and 100")
    with StopSignals() as stop:  # the episodes that have ended are not lost
        rows = source.rows(stop)
    task = referenced(source.task, references)
    returns = whole_returns_of(rows, task.longest, source.cuts, source.headless)
    summary = {
        "transitions": len(rows["rewards"]),
        "episodes": int(ends_of(rows).sum()),
        "mean_return": float(returns.mean()),
    }
    report = summary | {
        "output": str(output),
        "whole_episodes": len(returns),  # episodes of the mean return
        "terminals": int(rows["terminals"].sum()),
        "mean_score": float(task.normalized_score(returns).mean()) if task.scores_returns else None,
        "stopped_by": stop.received,
    }
    metadata: Json = {
        "env_name": task.name,
        "environment": json.dumps({"versions": versions_of(task)}, sort_keys=True),
        "versions": json.dumps(versions(), sort_keys=True),
        **source.metadata,
        **summary,
    }
    if references:
        metadata |= references._asdict()
    with writing_output("output", output) as unfinished:
        write_hdf5(unfinished, rows, metadata)
    return report


def _policy(settings: CollectionSettings) -> Source:
    if settings.until:
        raise UserError("--until: only with --replay")
    if not settings.policy:
        raise UserError("no policy: give --policy=random, FILE.npz or a run's folder, or --replay=RUN")
    if not settings.env_name:
        raise UserError("--policy needs --env_name")
    if (settings.transitions is None) == (settings.episodes is None):
        raise UserError("give either --transitions or --episodes: how much to collect")
    amount = Amount(settings.episodes or 0)
    if settings.transitions:
        amount = Amount(settings.transitions, "transition")
    task, seed, noise = get_task(settings.env_name), settings.seed, settings.noise
    maker = environment_maker(task)
    behaviour = open_behaviour(
        settings.policy,
        task,
        maker,
        member=settings.member,
        deterministic=settings.deterministic,
        allow_other_bounds=settings.allow_other_bounds,
    )._replace(noise=noise)

    with contextlib.closing(maker.vector_env(task, 1)) as env:
        caveats = warn_of_its_seeds(env, task, episode_seed(seed, 0))

    def rows(stop: StopSignals) -> Rows:
        with (
            contextlib.closing(collecting_env(task, maker)) as env,
            progress_bar(*amount, settings.tqdm) as bar,
        ):
            return episodes_of(behaviour, env, seed, amount, count=bar.update, stop=stop)

    metadata = {"seed": seed, "policy": behaviour.name, "policy_is": behaviour.what, "noise": noise}
    metadata |= {"warnings": "; ".join(caveats)}
    return Source(task, rows, metadata)


def _replay_buffer(settings: CollectionSettings) -> Source:
    """Transitions from an online run's replay buffer, up to --until or all of them."""
    if unused := [name for name in NOT_OF_REPLAY if getattr(settings, name)]:
        raise UserError(f"--{', --'.join(unused)}: not with --replay")
    run = open_run(settings.replay or "", settings.method, member=settings.member, env_name=settings.env_name)
    if not run.is_online:
        raise UserError(f"--replay={run.path}: no run of xql-train-online, whose replay buffers are read")
    if settings.env_name not in (None, run.env_name):
        raise UserError(f"--env_name={settings.env_name}: the run {run.path} is of {run.env_name}")
    member = run.one_member()
    for line in run.caveats():
        LOG.warning(f"{run.path}: {line}")
    files = ReplayFiles(run.files.replay / member.name, f"{run.run_id} {member.name}")
    stored = empty(1, *run.sizes, EpisodeBatch if run.horizon.steps > 1 else Batch)
    begin, stored_rows = files.read(settings.until or run.wanted_step, stored.data)
    stop = begin + len(stored_rows.rewards)
    first = max(begin, stop - int(run.record["buffer_size"]))  # older rows were overwritten
    stored_rows = stored_rows._replace(
        actions=run.preprocessing.action_bounds.to_environment(stored_rows.actions)
    )
    transitions = jax.tree.map(lambda field: field[first - begin :], stored_rows)

    number = int(run.record.get("num_environments", 1))
    order = np.arange(first, stop)
    order = order[np.argsort(order % number, kind="stable")]  # the rows' transitions
    breaks = [stop, *(resumed["after_step"] for resumed in run.record["resumed"])]
    cuts = np.flatnonzero(np.isin(order, np.subtract.outer(breaks, range(1, number + 1)))).tolist()
    headless = np.flatnonzero(order < first + number).tolist() if first else []

    metadata = {
        "replay_of": f"{run.method}, {member}, run {run.run_id}",
        "warnings": "; ".join(run.caveats()),
        "first_transition": first,
        "stop_transition": stop,
        "episode_ends": "terminals are the buffer's, and time-outs that it knows; others were recovered: "
        "a row ends an episode where its next observation is not exactly what the next row starts from",
    }
    task, rows = get_task(run.task.name), rows_of_replay(first, transitions, number)
    return Source(task, lambda stop: rows, metadata, cuts, headless)
