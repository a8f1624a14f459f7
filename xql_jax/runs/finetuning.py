"""Fine-tuning run: members trained offline, here or by another run, continue to learn online."""

import dataclasses
import logging
import math
from collections.abc import Collection
from typing import Any

import jax

from xql_jax.data.replay import PriorData
from xql_jax.errors import UserError
from xql_jax.learners.registry import make_learner
from xql_jax.runs.beginning import log_beginning
from xql_jax.runs.config_files import choose_config, settings_from
from xql_jax.runs.folder import RunFolder
from xql_jax.runs.kinds import METHOD_SETTINGS, Finetune, Offline
from xql_jax.runs.load import Run, load_run
from xql_jax.runs.online import host_population
from xql_jax.runs.run import Populations
from xql_jax.runs.run_data import RunData
from xql_jax.settings import settings_of, values_of
from xql_jax.suites.tasks import has_own_scores
from xql_jax.training.data_kinds import offline_population
from xql_jax.training.members import fields_given
from xql_jax.training.population import Population
from xql_jax.training.values import watch_values

LOG = logging.getLogger(__name__)


def populate_both_phases(folder: RunFolder, data: RunData) -> Populations:
    """Makes the population that learns from the data, and then the one that learns online.

    Observations and rewards of the environments pass through the preprocessing of the data. The optimisers'
    states are kept. Learning rates do not decay in the online phase.
    """
    settings: Any = folder.settings
    learner, members, handover = settings.learner, settings.members, settings.num_pretraining_steps
    log_beginning(folder, data.dataset, streamed=False)
    batch = jax.device_put(data.dataset.batch)
    population = offline_population(learner, members, batch, settings.batch_size)

    def make_online(first: Population) -> Population:
        """Returns the population of the second phase, with the states of the first phase's members."""
        online = host_population(
            learner.scheduled(math.inf),
            folder,
            handover=handover,
            prior_data=PriorData(batch, settings.offline_fraction, settings.replay_buffer_size),
            preprocessing=data.preprocessing,
        )
        online.take_over(first)
        return online

    # The ramps of --online begin after the hand-over.
    watch = watch_values(learner, members, data.rewards, until=handover)
    return Populations(population, (watch,), make_online)


def with_source(settings: Finetune) -> Finetune:
    """Returns the settings with those of --checkpoint's run, where it decides; UserError if it cannot be."""
    if settings.checkpoint is not None:
        settings = _settings_of(_source(settings), settings)
    elif settings.member is not None:
        raise UserError("--member chooses among those of --checkpoint, which is not given")
    if "online" in settings.given:
        return settings
    return dataclasses.replace(settings, online=_online_of_config(settings.online, settings.chosen))


def _source(settings: Finetune) -> Run:
    """Opens the run of --checkpoint."""
    source = load_run(settings.checkpoint or "", member=settings.member, env_name=settings.env_name)
    known = settings_of(make_learner(source.method))  # UserError for a user's own method that is not imported
    changeable = {name for name, one in settings_of(Finetune).items() if not one.of_checkpoint}
    if settings.method == source.method:
        changeable.add("method")
    if unfit := sorted(settings.given - changeable, key=lambda name: (name != "hidden_dims", name)):
        remedy, swept = "it stays, so leave this out", dict(fields_given(source.content["sweep"]))
        if unfit[0] in known.keys() - swept and known[unfit[0]].traced:
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


def _settings_of(source: Run, settings: Finetune) -> Finetune:
    """Returns the settings of a run that goes on from `source`."""
    content, seeds, sweep = source.content, source.seeds, source.content["sweep"]
    if settings.member is not None:
        [member] = source.members
        seeds = range(member.seed, member.seed + 1)
        sweep = " ".join(f"{name}={value:.9g}" for name, value in member.hyperparameters.items())
    env_name = settings.env_name or (source.env_name and source.task.name)
    references = settings.random_return, settings.expert_return
    is_scored_alike = env_name == source.env_name and not has_own_scores(source.dataset)  # else by its data's
    if references == (None, None) and source.references and is_scored_alike:
        references = source.references
    by_file = choose_config(Finetune, source.method, env_name=env_name, dataset=True)
    now = values_of(source.learner)  # type: ignore[arg-type]  # a `Part`; with the last values of its --ramp
    learner, online = make_learner(source.method, now), by_file.online
    if "online" not in settings.given:
        kind = Offline if source.handover is None else Finetune
        usual = choose_config(kind, source.method, env_name=source.env_name, dataset=True).values
        here = {**by_file.values, **now, "batch_size": content["batch_size"]}
        names = {*now, *METHOD_SETTINGS} & usual.keys()
        online = _online_of_config(online, {name for name in names if here.get(name) != usual[name]})
    by_file = dataclasses.replace(
        by_file, learner=learner, batch_size=content["batch_size"], online=online, source=source
    )
    known = settings_of(Finetune)
    given = {
        name: getattr(settings, name)
        for name, one in known.items()
        if name in settings.given or not (one.by_config or name in now)
    }
    stored = {name: content.get(name, one.neutral) for name, one in known.items() if one.of_checkpoint}
    decided = {
        **{name: value for name, value in stored.items() if value is not None},
        "env_name": env_name,
        "dataset": settings.dataset or source.sources,
        "seed": seeds[0],
        "num_seeds": len(seeds),
        "num_pretraining_steps": 0,
        "sweep": sweep,
        "init_dataset_size": settings.init_dataset_size or content.get("init_dataset_size"),
        "random_return": references[0],
        "expert_return": references[1],
    }
    value = dataclasses.replace(by_file, by_file=by_file)
    return settings_from(value, {**given, **decided}, settings.given)


def _online_of_config(online: str, chosen: Collection[str]) -> str:
    """Returns the config's changes at the hand-over, without those of what the user has chosen."""
    for name, value in fields_given(online):
        if name in chosen:
            LOG.info(f"{name} stays after the hand-over: --online={name}={value} was the config's")
    return " ".join(f"{name}={value}" for name, value in fields_given(online) if name not in chosen)
