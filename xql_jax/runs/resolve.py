"""What the settings of a run leave open is decided here, once, and contradictions are refused."""

import dataclasses
import math
from typing import Any, TypeVar

from xql_jax.errors import UserError, needing
from xql_jax.runs.kinds import Acting, Finetune, FromData, Training
from xql_jax.settings import settings_of, with_values
from xql_jax.suites.tasks import TASKS, name_in_dm_control
from xql_jax.types import Batch, CalibratedBatch

T = TypeVar("T", bound=Training)


def resolved(settings: T) -> T:
    """Returns the settings with all decided that they leave open; UserError for mistakes in them."""
    made: Any = settings
    if isinstance(settings, Finetune):
        from xql_jax.runs.finetuning import with_source  # which reads a run

        made = with_source(settings)
    task = made.task
    if isinstance(made, FromData):
        _check_task(made)
    made = _with_given(dataclasses.replace(made, env_name=task.name if task else None))
    if made.wandb:  # before the data are loaded
        with needing("--wandb", "wandb"):
            import wandb  # noqa: F401
    # After so many updates, learning rates that decay are 0.
    updates = (made.num_pretraining_steps or math.inf) if isinstance(made, Finetune) else made.max_steps
    sweep = " ".join(f"{name}={','.join(f'{x:.9g}' for x in values)}" for name, values in made.grid.items())
    made = dataclasses.replace(made, sweep=sweep, learner=made.learner.scheduled(updates))
    _check_varied(made)
    if isinstance(made, Finetune) and made.learner.batch_type not in (Batch, CalibratedBatch):
        raise UserError(f"{made.method} cannot be fine-tuned: it does not learn from single transitions")
    if task and task.suite.is_compiled:
        _check_compiled(made)
    if isinstance(made, Acting):
        made = dataclasses.replace(made, round_steps=_round_steps(made))
    return made


def _check_task(settings: FromData) -> None:
    """Raises UserError if nothing can be evaluated as asked, or there are no data."""
    if (task := settings.task) is None:
        if isinstance(settings, Finetune):
            raise UserError("fine-tuning needs an environment: give --env_name")
        for name in ("random_return", "expert_return", "eval_at_start"):
            if getattr(settings, name) not in (None, False):
                raise UserError(f"--{name}: nothing is evaluated without a task: give --env_name")
    elif task.name not in TASKS and not settings.dataset:
        raise UserError(
            f"--env_name={task.name}: an online task, which has no dataset: xql-train-online "
            "trains in it; to learn from data of your own give --dataset"
        )


def _with_given(settings: T) -> T:
    """Returns the settings without what is declared `instead_of` something that the user chose."""
    if settings.source:  # whose run has decided it
        return settings
    chosen, values = settings.chosen, settings.values
    off = {
        name: 0.0
        for name, one in settings_of(settings.learner).items()
        if one.instead_of in chosen and name not in chosen and values[name]
    }
    learner = with_values(settings.learner, off)
    return dataclasses.replace(settings, learner=learner, given=settings.given | {*off})


def _check_varied(settings: Training) -> None:
    """Raises UserError if a hyperparameter is given twice, or the method cannot learn over the horizon."""
    if twice := [name for name in settings.grid if name in settings.given]:
        raise UserError(f"--{twice[0]}: --sweep varies {twice[0]}, too: leave out one of them")
    ramped, flag = [ramp.name for ramp in settings.ramps], f"--{settings.changing}"
    if not settings.schedule.handover and (lost := [name for name in ramped if name in settings.given]):
        raise UserError(f"--{lost[0]}: {flag} sets {lost[0]} from the first update on: leave out one of them")
    if (horizon := settings.horizon).steps == 1:
        return
    flag = "--action_chunk" if horizon.is_chunk else "--n_step"
    if settings.learner.batch_type is not Batch:
        raise UserError(
            f"{flag}={horizon.steps}: {settings.method} cannot learn over several steps: choose a "
            "method that learns from single transitions, such as xql, iql, td3_bc or bc"
        )
    if "discount" in {*settings.grid, *ramped} and isinstance(settings, FromData):
        method = f"{settings.method}:{flag[2:]}={horizon.steps}"
        raise UserError(
            f"discount: {flag} sums the data's rewards by one value: a run for each is trained by xql-sweep "
            f"--methods={method}:discount=VALUE,{method}:discount=VALUE"
        )


def _check_compiled(settings: Any) -> None:
    """Raises UserError for what is not possible in an environment that is part of the compiled program."""
    task: Any = settings.task
    if isinstance(settings, Finetune):
        same = name_in_dm_control(task)
        raise UserError(f"--env_name={task.name}: is compiled: fine-tune in {same}, the same task")
    given = {"processes": settings.processes, "n_step": settings.n_step > 1}
    given["action_chunk"] = settings.action_chunk > 1
    if refused := [name for name, is_given in given.items() if is_given]:
        raise UserError(f"--{refused[0]} is not for {task.name}, which is part of the compiled program")


def _round_steps(settings: Any) -> int:
    """Chooses the steps of a round; UserError if settings contradict, or nothing is learned.

    Rounds are as long as --max_policy_lag allows, and every interval of the settings is a multiple of them.
    """
    number = settings.num_environments
    names = ("max_steps", "log_interval", "eval_interval", "checkpoint_interval", "bellman_error_interval")
    intervals = {name: getattr(settings, name, 0) for name in names}  # 0 is a multiple of everything
    if unfit := [f"--{name}={interval}" for name, interval in intervals.items() if interval % number]:
        raise UserError(f"{', '.join(unfit)}: must be a multiple of --num_environments={number}")
    shortest = dataclasses.replace(settings.acting, round_steps=number)
    flag = "--replay_buffer_size" if isinstance(settings, Finetune) else "--buffer_size"
    for name, least in (("--batch_size", shortest.batch_size), ("--num_environments", number)):
        if shortest.buffer_size < least:
            raise UserError(f"{flag}={shortest.buffer_size}: smaller than {name}={least}")
    if not shortest.updates_by(settings.max_steps):
        raise UserError(
            f"--max_steps={settings.max_steps}: nothing is learned in so few: --warmup_steps="
            f"{shortest.warmup_steps} are random, and --updates_per_step={shortest.updates_per_step:g}"
        )
    strides = math.gcd(*intervals.values()) // number
    for length in range(min(strides, shortest.buffer_size // number), 0, -1):
        chosen = dataclasses.replace(shortest, round_steps=number * length)
        if strides % length == 0 and chosen.policy_lag <= settings.max_policy_lag:
            return number if settings.task.suite.is_compiled else chosen.round_steps
    raise UserError(
        f"--max_policy_lag={settings.max_policy_lag}: too small for --num_environments={number}, with which "
        f"it is at least {shortest.policy_lag}"
    )
