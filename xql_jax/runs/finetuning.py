"""Fine-tuning run: members trained offline, here or by another run, continue to learn online."""

import dataclasses
import logging
import math
from collections.abc import Mapping, Sequence

import jax

from xql_jax.data.dataset import drawn_rows
from xql_jax.data.replay import PriorData
from xql_jax.errors import UserError
from xql_jax.learners.registry import make_learner
from xql_jax.logs.csv_rows import Row
from xql_jax.rollout.evaluation import Evaluator
from xql_jax.rollout.run_summary import summarize_finetuning
from xql_jax.runs.config_files import choose_config, settings_from
from xql_jax.runs.job import Job, log_beginning, make_job
from xql_jax.runs.kinds import (
    METHOD_SETTINGS,
    OF_THE_CHECKPOINT,
    Finetune,
    Offline,
    online_of_config,
)
from xql_jax.runs.load import Run, load_run
from xql_jax.runs.machine import prepare_acting
from xql_jax.runs.online import acting_schedule, check_room, host_population
from xql_jax.runs.run import make_evaluator, run_resources, train_and_summarize
from xql_jax.runs.run_data import RunData, load_data, run_folder
from xql_jax.settings import settings_of, values_of
from xql_jax.suites.tasks import has_own_scores, name_in_dm_control
from xql_jax.training.data_kinds import offline_population
from xql_jax.training.loop import RowCallback
from xql_jax.training.members import Member, fields_given
from xql_jax.training.population import Population
from xql_jax.training.signals import StopSignals
from xql_jax.training.values import watch_values
from xql_jax.types import Batch, CalibratedBatch, Json, State

LOG = logging.getLogger(__name__)


def finetune_job(settings: Finetune) -> Job:
    """Returns the run's job; raises UserError for mistakes in the settings."""
    source = _source(settings)
    settings = (_settings_of_source(settings, source) if source else settings).resolved()
    identity = {"checkpoint": {"run": source.run_id, "step": source.step}} if source else {}
    learner = settings.learner.scheduled(settings.num_pretraining_steps or math.inf)
    job = make_job(settings, learner, settings.online, "--online", **identity)
    if job.learner.batch_type not in (Batch, CalibratedBatch):
        raise UserError(f"{settings.method} cannot be fine-tuned: it does not learn from single transitions")
    if settings.task and settings.task.suite.is_compiled:
        same = name_in_dm_control(settings.task)
        raise UserError(f"--env_name={settings.task.name}: is compiled: fine-tune in {same}, the same task")
    size = min(settings.replay_buffer_size, max(settings.max_steps, settings.batch_size))
    # A learner with noise of its own, as td3_bc, gets no other, and the noise is no spread of its policy.
    has_noise = hasattr(learner, "exploration_noise")
    own = {"exploration_noise": 0.0, "acting_temperature": 1.0} if has_noise else {}
    schedule = acting_schedule(settings, buffer_size=size, ramps=job.ramps, **own)
    rounds = {"round_steps": schedule.round_steps}
    return job._replace(identity={**job.identity, **rounds}, acting=schedule, source=source)


def run_finetuning(job: Job, stop: StopSignals | None = None, callbacks: Sequence[RowCallback] = ()) -> Run:
    """Trains a population on a dataset, or takes that of another run, and then trains it online.

    Observations and rewards of the environments pass through the preprocessing of the data. The optimisers'
    states are kept. Learning rates do not decay in the online phase. See `run_offline`.
    """
    prepare_acting()
    settings, stop = job.settings, stop or StopSignals()
    with run_resources(settings) as resources:
        evaluator = make_evaluator(job, resources)
        data = finetuning_data(job, evaluator)
        check_room(job, data.sizes, "--replay_buffer_size")
        folder = run_folder(job, data)
        if settings.resume and (finished := folder.finished()):
            return finished
        pretrained = None
        if job.source and not folder.steps:
            pretrained = _pretrained(job.source, job.members, data)

        resources.enter_context(folder.locked(settings.resume))
        data.preprocessing.save(folder.files.preprocessing, folder.run_id)
        log_beginning(job, folder.env_name, folder.path, data.dataset, streamed=False)
        batch = jax.device_put(data.dataset.batch)
        population = offline_population(job.learner, job.members, batch, job.settings.batch_size)
        if pretrained:
            population.set_in_members(state=[pretrained[member.name] for member in job.members])

        # The ramps of --online begin after the hand-over.
        watch = watch_values(
            job.learner, job.members, data.rewards, until=job.settings.schedule.handover or 0
        )

        def make_online(first: Population) -> Population:
            """Returns the population of the second phase, with the states of the first phase's members."""
            online = host_population(
                job,
                job.learner.scheduled(math.inf),
                folder,
                stop,
                handover=job.settings.schedule.handover,
                prior_data=PriorData(batch, job.settings.offline_fraction, job.settings.replay_buffer_size),
                preprocessing=data.preprocessing,
            )
            online.take_over(first)
            return online

        def details(population: Population, rows: Sequence[Row]) -> Json:
            is_normalised = data.task is not None and data.task.is_normalised
            return {
                "finetuning": summarize_finetuning(rows, job.settings.schedule.handover, is_normalised),
                "policy_lag": job.acting.policy_lag,
                "seconds_by_work": {name: round(value, 3) for name, value in population.seconds.items()},
            }

        return train_and_summarize(
            job, folder, population, evaluator, data.task, stop, data.preprocessing, (*callbacks, watch),
            details=details, make_online=make_online,
        )  # fmt: skip


def finetuning_data(job: Job, evaluator: Evaluator | None) -> RunData:
    """Loads the data of both phases, of which --init_dataset_size may leave a part."""
    data, settings = load_data(job, evaluator), job.settings
    dataset, content = data.dataset, job.source.content if job.source else {}
    number, size = settings.init_dataset_size, settings.replay_buffer_size
    if number is not None and number < dataset.size:
        # The first seed of all members, so that --member of a checkpoint keeps the source's rows.
        seed = job.source.seeds[0] if job.source else settings.seed
        dataset = dataset.part(drawn_rows(dataset.size, number, seed))
    if content and dataset.fingerprint() != content["dataset_fingerprint"]:
        LOG.warning(f"{dataset.source}: not the data that the checkpoint was trained on")
    if settings.offline_fraction is None and dataset.size > size:
        raise UserError(
            f"--replay_buffer_size={size}: smaller than the data, {dataset.size:,} transitions: give a "
            "larger one, or --init_dataset_size or --offline_fraction"
        )
    return data._replace(dataset=dataset)


def _source(settings: Finetune) -> Run | None:
    """Opens the run of --checkpoint; None if there is none."""
    if settings.checkpoint is None:
        if settings.member is not None:
            raise UserError("--member chooses among those of --checkpoint, which is not given")
        return None
    source = load_run(settings.checkpoint, member=settings.member, env_name=settings.env_name)
    known = settings_of(make_learner(source.method))  # UserError for a user's own method that is not imported
    changeable = settings_of(Finetune).keys() - OF_THE_CHECKPOINT
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


def _settings_of_source(settings: Finetune, source: Run) -> Finetune:
    """Returns the settings with those of --checkpoint's run, where it decides."""
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
    now = values_of(source.learner)  # type: ignore[arg-type]  # a `Part`
    ramped = {name: now[name] for name, _ in fields_given(content.get("ramp", ""))}
    of_source = dataclasses.replace(
        by_file,
        learner=make_learner(source.method, {**source.whole_config, **ramped}),
        batch_size=content["batch_size"],
    )
    if "online" not in settings.given:
        kind = Offline if source.handover is None else Finetune
        usual = choose_config(kind, source.method, env_name=source.env_name, dataset=True)
        theirs, here = usual.values, of_source.values
        names = {*values_of(usual.learner), *METHOD_SETTINGS} & theirs.keys()
        chosen = {name for name in names if here.get(name) != theirs[name]}
        of_source = dataclasses.replace(of_source, online=online_of_config(by_file.online, chosen))
    known = settings_of(Finetune)
    decided = {
        **{name: one.neutral for name, one in known.items() if one.of_checkpoint and one.neutral is not None},
        **{name: content[name] for name in OF_THE_CHECKPOINT & content.keys()},
        "env_name": env_name,
        "dataset": settings.dataset or source.sources,
        "seed": seeds[0],
        "num_seeds": len(seeds),
        "sweep": sweep,
        "init_dataset_size": settings.init_dataset_size or content.get("init_dataset_size"),
        "random_return": references[0],
        "expert_return": references[1],
    }
    own = [
        name for name, one in known.items() if name in settings.given or not (one.by_config or name in now)
    ]
    given = {name: getattr(settings, name) for name in own}
    of_source = dataclasses.replace(of_source, by_file=of_source)
    return settings_from(of_source, {**given, **decided}, settings.given)


def _pretrained(source: Run, members: Sequence[Member], data: RunData) -> Mapping[str, State]:
    if source.sizes != data.sizes:
        raise UserError(
            f"--checkpoint={source.path}: its observations and actions have {source.sizes} entries, those "
            f"of the data {data.sizes}"
        )
    for member in members:
        if source.progress.members[member.name]["diverged"]:
            raise UserError(f"--checkpoint={source.path}: {member} has diverged: choose another --member")
    return source.states
