"""The value of a run: what a user gives over the method's values, and what both leave open.

`settings_from` makes it. `resolved` decides, once, what is left open, and refuses contradictions.
"""

import dataclasses
import itertools
import logging
import math
from collections.abc import Collection, Iterable, Mapping
from typing import TYPE_CHECKING, TypeVar, cast

from xql_jax.errors import UserError
from xql_jax.learners.registry import make_learner, unknown_setting
from xql_jax.runs.config_files import Config, choose_config
from xql_jax.runs.kinds import Acting, Finetune, FromData, Offline, Training
from xql_jax.runs.layers import CALLER, CHECKPOINT, OFF, SUITE, USER, is_above, with_every_width
from xql_jax.runs.varied import as_recorded, fields_of, joined
from xql_jax.settings import settings_of, values_of, with_values
from xql_jax.suites.online import DM_CONTROL_NAMES
from xql_jax.suites.tasks import TASKS, Task
from xql_jax.types import Batch, CalibratedBatch, Json

if TYPE_CHECKING:
    from xql_jax.runs.load import Run  # imported where a checkpoint is given: few runs need it

LOG = logging.getLogger(__name__)
T = TypeVar("T", bound=Training)


def settings_from(
    config: Config, values: Mapping[str, object], names: Iterable[str] | None = None
) -> Training:
    """Returns the value of a run; UserError for a name or a value that cannot be.

    Args:
        config: what the method has for the task, see `choose_config` (config_files.py).
        values: settings and hyperparameters by name, which may be text. They lie over the config's.
        names: the names that the user gave, `method` and `config` among them; None: those of all values.
    """
    known = config.may_be_given
    for name in values:
        if name not in known:
            raise unknown_setting(name, [*known, "method"], config.method)
    of_run, of_learner = settings_of(config.kind), settings_of(config.learner)
    laid = with_every_width(values, of_learner)
    # The part that holds a hyperparameter checks and converts it here, as it is made anew (`Checked`).
    learner = with_values(config.learner, {name: laid[name] for name in of_learner if name in laid})
    over_config = config.values | laid
    own = {name: over_config[name] for name in of_run if name in laid or name not in of_learner}
    made = config.kind(method=config.method, learner=learner, suite=config.suite, origin=config.origin, **own)
    every = made.values | {"method": config.method, "config": config.origin}
    of_user = {*(values if names is None else names)}
    of_user |= {*with_every_width(dict.fromkeys(of_user), of_learner)}
    layers = config.layers.with_changes(CALLER, {name: every[name] for name in laid if name not in of_user})
    layers = layers.recording(USER, {name: every.get(name) for name in sorted(of_user)})
    return dataclasses.replace(made, layers=layers)


def resolved(settings: T) -> T:
    """Returns the settings with all decided that they leave open; UserError for mistakes in them."""
    made: Training = _with_checkpoint(settings) if isinstance(settings, Finetune) else settings
    task = made.task
    if isinstance(made, FromData):
        _check_task(made)
    made = switched_off(dataclasses.replace(made, env_name=task.name if task else None))
    # After so many updates, learning rates that decay are 0; `scheduled` changes nothing else.
    updates = (made.num_pretraining_steps or math.inf) if isinstance(made, Finetune) else made.max_steps
    sweep = joined((name, ",".join(f"{x:.9g}" for x in values)) for name, values in made.grid.items())
    made = dataclasses.replace(made, sweep=sweep, learner=made.learner.scheduled(updates))
    changing: Json = {made.changing: as_recorded(made.ramps)} if made.changing else {}
    made = dataclasses.replace(made, **changing)
    _check_varied(made)
    if isinstance(made, Finetune):
        _check_finetuning(made)
    if task and task.suite.is_compiled:
        _check_compiled(made, task)
    if isinstance(made, Acting):
        if "environment_timeout" in made.layers[USER] and not made.processes:
            raise UserError("--environment_timeout: has no effect without --processes")
        made = dataclasses.replace(made, round_steps=_round_steps(made))
    return cast("T", made)


def _check_task(settings: FromData) -> None:
    """Raises UserError if nothing can be evaluated as asked, or there are no data."""
    if (task := settings.task) is None:
        if isinstance(settings, Finetune):
            raise UserError("fine-tuning needs an environment: give --env_name")
        if settings.eval_at_start:
            raise UserError("--eval_at_start: nothing is evaluated without a task: give --env_name")
    elif task.name not in TASKS and not settings.dataset:
        raise UserError(
            f"--env_name={task.name}: an online task, which has no dataset: xql-train-online "
            "trains in it; to learn from data of your own give --dataset"
        )


def switched_off(settings: T) -> T:
    """Returns the settings with `beta_nats`, which finds `beta`, at 0 if a later layer chooses `beta`.

    So a user's `beta`, a single value, a sweep or a ramp, switches off the `beta_nats` of a suite or a file,
    and a file's `beta` switches off a suite's. A `beta_nats` that is chosen in the layer of `beta`, or in a
    later layer, stays. The same holds for each other number that declares `finds`.
    """
    if settings.source:  # whose run has decided it
        return settings
    choices, values = settings.choices, settings.values
    off = {
        name: 0.0
        for name, setting in settings_of(settings.learner).items()
        if setting.finds in choices and values[name]
        if is_above(choices[setting.finds], choices.get(name, SUITE))
    }
    learner, layers = with_values(settings.learner, off), settings.layers.recording(OFF, off)
    return dataclasses.replace(settings, learner=learner, layers=layers)


def _check_varied(settings: Training) -> None:
    """Raises UserError for a hyperparameter given twice, and for nats or a horizon that cannot be."""
    of_user = settings.layers[USER]
    if twice := [name for name in settings.grid if name in of_user]:
        raise UserError(f"--{twice[0]}: --sweep varies {twice[0]}, too: leave out one of them")
    ramped, flag = [ramp.name for ramp in settings.ramps], f"--{settings.changing}"
    if not settings.schedule.handover and (lost := [name for name in ramped if name in of_user]):
        raise UserError(f"--{lost[0]}: {flag} sets {lost[0]} from the first update on: leave out one of them")
    _check_nats(settings)
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


def _check_nats(settings: Training) -> None:
    """Raises UserError for nats that no minibatch can show, or where a found beta would be thrown away."""
    later = {ramp.name: ramp.values for ramp in settings.ramps}
    for name, instead in (("beta_nats", "--beta"), ("policy_nats", "--awr_temperature")):
        most, size = max(*settings.nats(name), *later.get(name, ()), 0.0), settings.batch_size
        if most and math.log(size) <= most:
            raise UserError(
                f"{name}={most:g}: minibatches of {size} rows can show less than log({size}) = "
                f"{math.log(size):.3g} nats: give fewer nats, a larger --batch_size, or {instead}"
            )
    if "beta" in later or "beta_nats" not in later:
        return
    nats = [*([max(settings.nats())] if isinstance(settings, Finetune) else []), *later["beta_nats"]]
    if any(before and not after for before, after in itertools.pairwise(nats)):
        raise UserError(
            f"--{settings.changing}: at beta_nats=0 beta would go from the one that was found back to where "
            "it began: give beta=VALUE beside it; value/beta of metrics.csv is what was found"
        )


def _check_finetuning(settings: Finetune) -> None:
    """Raises UserError for a method that cannot be fine-tuned so, and for what would have no effect."""
    learner, fraction, size = settings.learner, settings.offline_fraction, settings.batch_size
    if learner.batch_type not in (Batch, CalibratedBatch):
        raise UserError(f"{settings.method} cannot be fine-tuned: it does not learn from single transitions")
    if "acting_temperature" in settings.layers[USER] and hasattr(learner, "exploration_noise"):
        raise UserError(
            f"--acting_temperature: {settings.method} has no spread of its own: give --exploration_noise"
        )
    if fraction is not None and 0 < fraction < 1 and round(fraction * size) in (0, size):
        raise UserError(
            f"--offline_fraction={fraction:g}: of --batch_size={size} that is {round(fraction * size)}: give "
            "0, 1, or larger batches"
        )


def _check_compiled(settings: Training, task: Task) -> None:
    """Raises UserError for what is not possible in an environment that is part of the compiled program."""
    if isinstance(settings, Finetune):
        same = DM_CONTROL_NAMES.get(task.name)
        instead = f"{same}, the same task" if same else "one of Gymnasium's registry"
        raise UserError(f"--env_name={task.name}: is compiled: fine-tune in {instead}")
    for name in ("processes", "n_step", "action_chunk"):
        if getattr(settings, name) > settings_of(Acting)[name].default:
            raise UserError(f"--{name} is not for {task.name}, which is part of the compiled program")


def _round_steps(settings: Acting) -> int:
    """Chooses the steps of a round; UserError if settings contradict, or nothing is learned.

    Rounds are as long as --max_policy_lag allows, and every interval of the settings is a multiple of them.
    """
    number = settings.num_environments
    intervals = {"max_steps": settings.max_steps} | settings.intervals  # 0 is a multiple of everything
    if unfit := [f"--{name}={interval}" for name, interval in intervals.items() if interval % number]:
        raise UserError(f"{', '.join(unfit)}: must be a multiple of --num_environments={number}")
    shortest = dataclasses.replace(settings.acting, round_steps=number)
    for name, least in (("--batch_size", shortest.batch_size), ("--num_environments", number)):
        if shortest.buffer_size < least:
            raise UserError(f"--{settings.buffer_flag}={shortest.buffer_size}: smaller than {name}={least}")
    if not shortest.updates_by(settings.max_steps):
        raise UserError(
            f"--max_steps={settings.max_steps}: nothing is learned in so few: --warmup_steps="
            f"{shortest.warmup_steps} are random, and --updates_per_step={shortest.updates_per_step:g}"
        )
    strides = math.gcd(*intervals.values()) // number
    for length in range(min(strides, shortest.buffer_size // number), 0, -1):
        if strides % length:
            continue
        chosen = dataclasses.replace(shortest, round_steps=number * length)
        if chosen.policy_lag <= settings.max_policy_lag:
            is_compiled = settings.task is not None and settings.task.suite.is_compiled
            return number if is_compiled else chosen.round_steps
    raise UserError(
        f"--max_policy_lag={settings.max_policy_lag}: too small for --num_environments={number}, with which "
        f"it is at least {shortest.policy_lag}"
    )


def _with_checkpoint(settings: Finetune) -> Finetune:
    """Returns the settings with the values of --checkpoint's run, where it decides, and with the hand-over's.

    UserError if there can be no such run.
    """
    if settings.checkpoint is not None:
        settings = _settings_after(_source(settings), settings)
    elif settings.member is not None:
        raise UserError("--member chooses among those of --checkpoint, which is not given")
    layer, choices = settings.layers.layer("online"), settings.choices
    kept = {name for name, of_choice in choices.items() if is_above(of_choice, layer)}
    if layer == SUITE and min(settings.nats()) > 0 and "beta_nats" not in dict(fields_of(settings.online)):
        kept.add("beta")  # which goes on to be found
    return dataclasses.replace(settings, online=_changes_at_handover(settings.online, kept))


def _source(settings: Finetune) -> "Run":
    """Opens the run of --checkpoint."""
    from xql_jax.runs.load import load_run  # only a checkpoint needs it

    source = load_run(
        settings.checkpoint or "",
        member=settings.member,
        env_name=settings.env_name,
        allow_other_bounds=settings.allow_other_bounds,
    )
    of_run = settings_of(Finetune)
    changeable = {name for name, setting in of_run.items() if not setting.of_checkpoint}
    if settings.method == source.method:
        changeable.add("method")
    if unfit := sorted(
        settings.layers[USER].keys() - changeable, key=lambda name: (name != "hidden_dims", name)
    ):
        remedy, known = "it stays, so leave this out", settings_of(make_learner(source.method))
        is_fixed = unfit[0] in source.training.grid or (unfit[0] in known and known[unfit[0]].of_start)
        if unfit[0] in known and known[unfit[0]].traced and not is_fixed:
            remedy = f"--online={unfit[0]}=VALUE changes it at the hand-over"
        raise UserError(f"--{unfit[0]}: the run of --checkpoint has its own; {remedy}")
    if source.is_online:
        raise UserError(f"--checkpoint={source.path}: {source.method} learned online; give an offline run")
    if source.handover is not None and source.step > source.handover:
        raise UserError(
            f"--checkpoint={source.path}: step {source.step:,} is after its hand-over; what it collected "
            f"since would be lost: give an offline run, or a checkpoint up to step {source.handover:,}"
        )
    return source


def _settings_after(source: "Run", settings: Finetune) -> Finetune:
    """Returns the settings of a run that goes on from `source`, whose values are a layer below the user's."""
    trained, seeds, sweep = source.training, source.seeds, source.training.sweep
    if settings.member is not None:
        [member] = source.members
        seeds = range(member.seed, member.seed + 1)
        sweep = joined((name, f"{value:.9g}") for name, value in member.hyperparameters.items())
    env_name = settings.env_name or (source.env_name and source.task.name)
    config = choose_config(Finetune, source.method, env_name=env_name, dataset=True)
    known, of_source, of_user = settings_of(Finetune), values_of(trained), settings.layers[USER]
    # As they are now: a --ramp has ended at its last values.
    learned = {**values_of(source.learner), "batch_size": trained.batch_size}  # type: ignore[arg-type]  # a `Part`
    decided = {
        **learned,
        **{name: of_source[name] for name in known.keys() & of_source if known[name].of_checkpoint},
        "seed": seeds[0],
        "num_seeds": len(seeds),
        "num_pretraining_steps": 0,
        "sweep": sweep,
    }
    left_open = {  # where the user does not say otherwise
        "env_name": env_name,
        "dataset": () if settings.dataset else tuple(source.sources),
        "unused_arrays": tuple(source.unused_arrays),
        "init_dataset_size": source.record.get("init_dataset_size"),
    }
    layers = config.layers.recording(CHECKPOINT, learned).with_changes(CHECKPOINT, decided | left_open)
    if "online" not in of_user:  # the suite's changes give way to the values that were chosen for `source`
        kind = Offline if source.handover is None else Finetune
        usual = choose_config(kind, source.method, env_name=source.env_name, dataset=True).values
        chosen = {name for name, value in learned.items() if value != usual[name]}
        online = _changes_at_handover(config.values["online"], chosen)
        layers = layers.without(SUITE, "online").with_changes(SUITE, {"online": online})
    asked = {
        name: getattr(settings, name)
        for name, setting in known.items()
        if name in of_user or not (setting.by_config or name in decided)
    }
    asked = {name: value for name, value in asked.items() if value or name not in left_open}
    made = settings_from(dataclasses.replace(config, layers=layers), asked, of_user)
    return cast("Finetune", dataclasses.replace(made, source=source))


def _changes_at_handover(online: str, chosen: Collection[str]) -> str:
    """Returns the suite's changes at the hand-over, without the hyperparameters that the user has chosen."""
    for name, value in fields_of(online):
        if name in chosen:
            LOG.info(f"{name} stays after the hand-over: --online={name}={value} was the suite's")
    return joined(pair for pair in fields_of(online) if pair[0] not in chosen)
