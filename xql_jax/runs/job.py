"""A run as far as its settings tell: its learner, its members, its identity."""

import logging
import math
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import numpy as np

from xql_jax.data.dataset import Dataset
from xql_jax.errors import UserError, needing
from xql_jax.learners.registry import FIRST_PHASES, LEADING, method_of
from xql_jax.rollout.scores import steps_in_words
from xql_jax.runs.kinds import FromData, Training
from xql_jax.settings import as_typed, settings_of, values_of
from xql_jax.training.members import Member, fields_given, make_members, parse_sweep
from xql_jax.training.schedule import Ramp, parse_ramps
from xql_jax.types import Batch, Json

if TYPE_CHECKING:  # what reads a run is needed where one goes on from another
    from xql_jax.runs.load import Run

LOG = logging.getLogger(__name__)


class Job(NamedTuple):
    """A run as far as its settings tell, before data are read or environments made."""

    settings: Any  # resolved; of the run's kind
    learner: Any
    members: list[Member]  # one per seed and setting of the swept hyperparameters
    identity: Json  # what its numbers depend on, except the data's content
    fixed_length: str = ""  # why a longer run has other numbers from the start; "": it has not
    ramps: Sequence[Ramp] = ()  # hyperparameters that change with the update
    acting: Any = None  # the `ActingSchedule`, how acting and learning alternate, if it acts
    source: "Run | None" = None  # the run of --checkpoint whose members it fine-tunes


def make_job(
    settings: Training, learner: Any, ramps: str = "", flag: str = "--ramp", **identity: object
) -> Job:
    """Makes the members of resolved settings.

    Args:
        ramps, flag: see `parse_ramps`.
        identity: what the run's numbers depend on besides the settings.
    """
    if settings.wandb:  # before the data are loaded
        with needing("--wandb", "wandb"):
            import wandb  # noqa: F401
    known = settings_of(learner)
    grid = parse_sweep(settings.sweep, known)
    if twice := [name for name in grid if name in settings.given]:
        raise UserError(f"--{twice[0]}: --sweep varies {twice[0]}, too: leave out one of them")
    members = make_members(settings.seeds, grid)
    parsed = parse_ramps(ramps, known, settings.max_steps, flag, grid)
    lost = [] if settings.schedule.handover else [ramp.name for ramp in parsed if ramp.name in settings.given]
    if lost:
        raise UserError(f"--{lost[0]}: {flag} sets {lost[0]} from the first update on: leave out one of them")
    _check_horizon(settings, learner, {*grid, *(ramp.name for ramp in parsed)})
    sweep = " ".join(f"{name}={','.join(f'{x:.9g}' for x in values)}" for name, values in grid.items())
    identity = {**settings.identity, "sweep": sweep, **identity}
    if not (fixed_length := _why_its_length_is_fixed(settings, learner, parsed)):
        del identity["max_steps"]
    return Job(settings, learner, members, identity, fixed_length, parsed)


def _why_its_length_is_fixed(settings: Training, learner: Any, ramps: Sequence[Ramp]) -> str:
    """Returns why a longer run has other numbers than this one from the start; "" if it has the same."""
    if settings.unit == "step":
        return "a run that acts would begin its episodes again there"
    if any(len(ramp.values) > 1 for ramp in ramps):
        return "--ramp changes over all updates"
    unending = jax.tree.leaves(learner.scheduled(math.inf))
    if not all(np.array_equal(a, b) for a, b in zip(jax.tree.leaves(learner), unending, strict=True)):
        return "its actor's learning rate falls to 0 at the last update (decay_actor_lr; false keeps it)"
    return ""


def _check_horizon(settings: Training, learner: Any, varied: Collection[str]) -> None:
    """Raises UserError if the method cannot learn from transitions that span several steps.

    Args:
        varied: hyperparameters of which members, or updates, have different values.
    """
    horizon = settings.horizon
    if horizon.steps == 1:
        return
    flag = "--action_chunk" if horizon.is_chunk else "--n_step"
    if learner.batch_type is not Batch:
        raise UserError(
            f"{flag}={horizon.steps}: {settings.method} cannot learn over several steps: choose a "
            "method that learns from single transitions, such as xql, iql, td3_bc or bc"
        )
    if "discount" in varied and isinstance(settings, FromData):
        method = f"{settings.method}:{flag[2:]}={horizon.steps}"
        raise UserError(
            f"discount: {flag} sums the data's rewards by one value: a run for each is trained by xql-sweep "
            f"--methods={method}:discount=VALUE,{method}:discount=VALUE"
        )


def request(settings: Training) -> str:
    """Returns a line that describes the training that is asked for."""
    seeds = settings.seeds
    numbers = f"seeds {seeds[0]} to {seeds[-1]}" if len(seeds) > 1 else f"seed {seeds[0]}"
    return f"{settings.method}: {_all_steps(settings)}, {numbers}"


def _all_steps(settings: Training) -> str:
    return steps_in_words(settings.schedule.max_steps, settings.unit, settings.schedule.handover)


def log_settings(job: Job) -> None:
    """Logs the hyperparameters that vary, the leading ones, and those that the user gave."""
    settings = job.settings
    values = {**job.identity["config"], **job.identity}
    shown = dict(fields_given(f"{settings.sweep} {job.identity.get('ramp', '')}"))
    if job.identity.get("online"):
        shown["online"] = repr(job.identity["online"])
    for name in (*LEADING, *sorted(settings.given & {*values_of(settings.learner)})):
        if values.get(name) is not None and name not in shown:
            shown[name] = as_typed(values[name])
    line = " ".join(f"{name}={value}" for name, value in shown.items())
    LOG.info(f"settings: {line}; --print_config lists all")


def log_beginning(job: Job, name: str, path: Path, dataset: Dataset, streamed: bool) -> None:
    """Logs what is trained on which data and where, and warns of settings that seldom are as meant."""
    settings = job.settings
    where = "in the host's memory, streamed in blocks" if streamed else "on the device"
    LOG.info(f"{name}: {dataset.size:,} transitions from {dataset.source}")
    LOG.info(
        f"{settings.method}: {len(job.members)} member(s), {_all_steps(settings)}, "
        f"data {where}; files in {path}"
    )
    if not job.source:  # else the phase began in another run
        _warn_of_first_phases(job)
        _warn_of_beta(job)


def _warn_of_first_phases(job: Job) -> None:
    """Warns if the run, or its offline phase, ends before a first phase of learning does."""
    updates = job.settings.schedule.handover or job.settings.max_steps
    base = values_of(job.learner)
    for name in FIRST_PHASES:
        if name not in base:
            continue
        longest = max(float(member.hyperparameters.get(name, base[name])) for member in job.members)
        if longest >= updates:
            LOG.warning(
                f"{name}={longest:g}: this first phase of learning takes all {updates:,} updates: shorten it "
                f"by --{name}=N, or train for longer"
            )


def _warn_of_beta(job: Job) -> None:
    """Warns where XQL's `beta` is for the rewards of single steps, and of an unused temperature."""
    settings, values = job.settings, job.settings.values
    ramped = [name for name, _ in fields_given(job.identity.get("ramp", ""))]
    chosen = {*settings.given, *job.members[0].hyperparameters, *ramped}
    nats = [one.hyperparameters.get("beta_nats", values.get("beta_nats", 0.0)) for one in job.members]
    is_found = "beta_nats" in ramped or min(nats) > 0
    if "awr_temperature" in chosen and max(nats) > 0 and not settings.method.endswith("+flow"):
        LOG.warning("awr_temperature is not used where beta_nats finds beta: --policy_sharpness is for that")
    later = dict(fields_given(f"{job.identity.get('ramp', '')} {job.identity.get('online', '')}"))
    if "beta" in later and "beta_nats" not in later and max(nats) > 0:
        LOG.warning(
            f"beta={later['beta']} is not used where beta_nats finds beta: beta_nats=0 beside it keeps it"
        )
    if method_of(settings.method) != "xql" or is_found or {"beta", "config"} & chosen:
        return
    beta = values["beta"]
    if (steps := settings.horizon.steps) > 1:
        LOG.warning(
            f"beta={beta:g} is for single steps, and rewards of {steps} steps spread more: give about "
            f"--beta={steps * beta:g}, or --beta_nats=1, which finds it from the data"
        )
