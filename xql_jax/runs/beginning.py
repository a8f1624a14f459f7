"""What a run says when it begins."""

import logging

from xql_jax.data.dataset import Dataset
from xql_jax.learners.registry import FIRST_PHASES, LEADING, method_of
from xql_jax.rollout.scores import steps_in_words
from xql_jax.runs.folder import RunFolder
from xql_jax.runs.kinds import Training
from xql_jax.settings import as_typed, values_of
from xql_jax.training.members import fields_given

LOG = logging.getLogger(__name__)


def request(settings: Training) -> str:
    """Returns a line that describes the training that is asked for."""
    seeds = settings.seeds
    numbers = f"seeds {seeds[0]} to {seeds[-1]}" if len(seeds) > 1 else f"seed {seeds[0]}"
    return f"{settings.method}: {_all_steps(settings)}, {numbers}"


def _all_steps(settings: Training) -> str:
    return steps_in_words(settings.schedule.max_steps, settings.unit, settings.schedule.handover)


def log_settings(settings: Training) -> None:
    """Logs the hyperparameters that vary, the leading ones, and those that the user gave."""
    values = settings.values
    shown = dict(fields_given(f"{settings.sweep} {values.get('ramp', '')}"))
    if values.get("online"):
        shown["online"] = repr(values["online"])
    for name in (*LEADING, *sorted(settings.given & {*values_of(settings.learner)})):
        if values.get(name) is not None and name not in shown:
            shown[name] = as_typed(values[name])
    line = " ".join(f"{name}={value}" for name, value in shown.items())
    LOG.info(f"settings: {line}; --print_config lists all")


def log_beginning(folder: RunFolder, dataset: Dataset, streamed: bool) -> None:
    """Logs what is trained on which data and where, and warns of settings that seldom are as meant."""
    settings = folder.settings
    where = "in the host's memory, streamed in blocks" if streamed else "on the device"
    LOG.info(f"{folder.env_name}: {dataset.size:,} transitions from {dataset.source}")
    LOG.info(
        f"{settings.method}: {len(settings.members)} member(s), {_all_steps(settings)}, "
        f"data {where}; files in {folder.path}"
    )
    if not settings.source:  # else the phase began in another run
        _warn_of_first_phases(settings)
        _warn_of_beta(settings)


def _warn_of_first_phases(settings: Training) -> None:
    """Warns if the run, or its offline phase, ends before a first phase of learning does."""
    updates = settings.schedule.handover or settings.max_steps
    base = values_of(settings.learner)
    for name in FIRST_PHASES:
        if name not in base:
            continue
        longest = max(float(member.hyperparameters.get(name, base[name])) for member in settings.members)
        if longest >= updates:
            LOG.warning(
                f"{name}={longest:g}: this first phase of learning takes all {updates:,} updates: shorten it "
                f"by --{name}=N, or train for longer"
            )


def _warn_of_beta(settings: Training) -> None:
    """Warns where XQL's `beta` is for the rewards of single steps, and of an unused temperature."""
    values, chosen, nats = settings.values, settings.chosen, settings.nats
    later = dict(fields_given(values.get(settings.changing, "")))
    is_found = min(nats) > 0 or (settings.changing == "ramp" and "beta_nats" in later)
    if "awr_temperature" in chosen and max(nats) > 0 and not settings.method.endswith("+flow"):
        LOG.warning("awr_temperature is not used where beta_nats finds beta: --policy_sharpness is for that")
    if "beta" in later and "beta_nats" not in later and max(nats) > 0:
        LOG.warning(
            f"beta={later['beta']} is not used where beta_nats finds beta: beta_nats=0 beside it keeps it, "
            "in units of the rewards as they are learned from"
        )
    if max(nats) > 0 == min(nats):
        LOG.warning("beta is not always found for every member: so the rewards stay as they are for all")
    if method_of(settings.method) != "xql" or is_found or {"beta", "config"} & chosen:
        return
    beta = values["beta"]
    if (steps := settings.horizon.steps) > 1:
        LOG.warning(
            f"beta={beta:g} is for single steps, and rewards of {steps} steps spread more: give about "
            f"--beta={steps * beta:g}, or --beta_nats=1, which finds it from the data"
        )
