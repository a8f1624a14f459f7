"""Fine-tuning run: members trained offline, here or by another run, continue to learn online."""

import contextlib
import dataclasses
import functools
import logging
import math
from collections.abc import Mapping

import jax
from ml_collections import ConfigDict

from xql_jax.configuration import OnlineFields
from xql_jax.data.dataset import Dataset, drawn_rows
from xql_jax.data.preprocessing import Preprocessing, counts_kitchen_tasks
from xql_jax.data.prior import PriorData
from xql_jax.envs import choose_suite
from xql_jax.envs.vector import Patience
from xql_jax.errors import UserError
from xql_jax.files import with_numbers
from xql_jax.learners.registry import OFFLINE, method_of
from xql_jax.reports.summary import summarize_finetuning
from xql_jax.rollout.evaluation import Evaluator
from xql_jax.runs.acting_settings import FinetuneSettings
from xql_jax.runs.folder import RunFolder
from xql_jax.runs.load import SavedRun, load_run
from xql_jax.runs.machine import prepare_acting, settings_of_jax
from xql_jax.runs.offline import RunData, data_folder, draw_maze, load_data, place
from xql_jax.runs.online import check_room, online_schedule
from xql_jax.runs.run import (
    Job,
    Summary,
    draw_curve,
    evaluating,
    make_job,
    naming_lack_of_memory,
    train,
    write_summary,
)
from xql_jax.settings import settings_of
from xql_jax.tasks import Task, get_task
from xql_jax.training.host import Host
from xql_jax.training.loop import TrainingLoop
from xql_jax.training.offline import offline
from xql_jax.training.population import Population
from xql_jax.training.ramps import parse_ramps
from xql_jax.training.replay_files import ReplayFiles
from xql_jax.training.signals import StopSignals
from xql_jax.types import Batch, State

LOG = logging.getLogger(__name__)
# Settings that are those of --checkpoint's run, as are all hyperparameters.
OF_THE_CHECKPOINT = {
    *("seed", "num_seeds", "sweep", "num_pretraining_steps", "tuned", "normalize_observations"),
    *("top_returns", "env_backend", "legacy_inertia"),
}


def finetune_job(settings: FinetuneSettings) -> Job:
    """Returns the run's job; raises UserError for mistakes in the settings."""
    source = _source(settings)
    settings = (_settings_of_source(settings, source) if source else settings).resolved()
    identity = {"checkpoint": {"run": source.run, "step": source.step}} if source else {}
    job = make_job(settings, settings.num_pretraining_steps or math.inf, **identity)
    if job.learner.batch_type is not Batch:
        raise UserError(
            f"{settings.config.algorithm} cannot be fine-tuned: a replay buffer has single transitions, and "
            f"it learns from {job.learner.batch_type.__name__}"
        )
    fields = OnlineFields(
        batch_size=settings.batch_size,
        buffer_size=min(settings.replay_buffer_size, max(settings.max_steps, settings.batch_size)),
        warmup_steps=settings.warmup_steps,
        updates_per_step=settings.updates_per_step,
    )
    swept = job.members[0].hyperparameters
    schedule = online_schedule(
        settings,
        settings.online_schedule,
        fields,
        prefix="--",
        exploration_noise=settings.exploration_noise,
        ramps=tuple(parse_ramps(settings.online, job.learner, settings.max_steps, swept)),
    )
    rounds = {"round_steps": schedule.round_steps}
    return job._replace(identity={**job.identity, **rounds}, acting=schedule, source=source)


def train_finetuned(settings: FinetuneSettings, stop: StopSignals | None = None) -> Summary:
    """Trains a population on a dataset, or takes that of another run, and then trains it online.

    Observations and rewards of the environments pass through the preprocessing of the data. The optimisers'
    states are kept. Learning rates do not decay in the online phase.

    Args:
        stop: as for `train_offline`.
    Raises:
        UserError: if a setting or the data are invalid; earlier runs are not changed then.
    """
    prepare_acting()
    job, stop = finetune_job(settings), stop or StopSignals()
    schedule, handover = job.acting, job.settings.num_pretraining_steps
    assert schedule is not None
    with contextlib.ExitStack() as held, naming_lack_of_memory():
        held.enter_context(settings_of_jax())
        evaluator = held.enter_context(evaluating(job))
        data = finetuning_data(job, evaluator)
        check_room(data.sizes, schedule.buffer_size, len(job.members), "--replay_buffer_size")
        folder = data_folder(job, data)
        if settings.resume and (finished := folder.finished_summary()):
            return Summary(folder.path, settings.unit, finished, had_ended=True)
        pretrained = None if folder.has_checkpoints else _pretrained(job, data)

        held.enter_context(folder.locked(settings.resume))
        data.preprocessing.save(folder.files.preprocessing, folder.run)
        batch = jax.device_put(place(data.dataset, job, folder))
        population = Population(job.learner, job.members, offline(batch, job.settings.batch_size))
        if pretrained:
            population.replace(state=[pretrained[member.name] for member in job.members])
        held.callback(population.close)
        loop = TrainingLoop(
            population,
            evaluator,
            data.task,
            job.settings.schedule,
            folder.files,
            preprocessing=data.preprocessing,
            hand_over=functools.partial(_handed_over, job, data, batch, folder, stop),
        )
        held.enter_context(loop)
        rows = train(loop, job, folder, stop)
        if loop.finished:  # an interrupted run skips the pictures
            draw_curve(rows, job, data.task, folder)
            draw_maze(loop.population, evaluator, job, data, folder)
        return write_summary(
            loop,
            rows,
            job,
            folder,
            stop,
            finetuning=summarize_finetuning(rows, handover),
            policy_lag=schedule.policy_lag,
            seconds_by_work={
                name: round(value, 3) for name, value in loop.population.strategy.seconds.items()
            },
        )


def finetuning_data(job: Job, evaluator: Evaluator | None) -> RunData:
    """Loads the data of both phases, with the preprocessing of --checkpoint's run if there is one."""
    source = job.source

    def adapted(dataset: Dataset, task: Task | None, usual: Preprocessing) -> Preprocessing:
        fitted = source.preprocessing_of(dataset) if source else usual
        if task is None or task.suite != "kitchen":
            return fitted
        # If the kitchen's data have D4RL's rewards, which are not the environment's, online rewards become
        # those of the data. Those of the source may be other data.
        counts = counts_kitchen_tasks(dataset, task)
        LOG.info(
            "online rewards: the number of tasks that are done, as in the data"
            if counts
            else "online rewards: the environment's; those of the data are not the number of tasks done"
        )
        return dataclasses.replace(fitted, counts_kitchen_tasks=counts)

    data = load_data(job, evaluator, adapted)
    settings, dataset, content = job.settings, data.dataset, source.content if source else {}
    number, size = settings.init_dataset_size, settings.replay_buffer_size
    if number is not None and number < dataset.size:
        # The first seed of all members, so that --member of a checkpoint keeps the source's rows.
        seed = content["seeds"][0] if content else settings.seed
        dataset = dataset.part(drawn_rows(dataset.size, number, seed))
    if content and dataset.fingerprint() != content["dataset_fingerprint"]:
        LOG.warning(f"{dataset.source}: not the data that the checkpoint was trained on")
    if settings.offline_fraction is None and dataset.size > size:
        raise UserError(
            f"--replay_buffer_size={size}: smaller than the data, {dataset.size:,} transitions: give a "
            "larger one, or --init_dataset_size or --offline_fraction"
        )
    return data._replace(dataset=dataset)


def _handed_over(
    job: Job, data: RunData, batch: Batch, folder: RunFolder, stop: StopSignals, first: Population
) -> Population:
    """Returns the population of the second phase, with the states of the first phase's members."""
    settings, task, schedule = job.settings, job.settings.task, job.acting
    assert schedule is not None
    prior = PriorData(batch, settings.offline_fraction, settings.replay_buffer_size)
    LOG.info(
        f"hand-over: rounds of {schedule.round_steps} step(s), the policy that acts is at most "
        f"{schedule.policy_lag} updates behind"
    )
    strategy = Host(
        functools.partial(choose_suite(task, settings.simulation).make, task),
        schedule,
        ReplayFiles(folder.files.replay, folder.run),
        Patience(settings.environment_timeout, lambda: stop.received is not None),
        first_step=settings.num_pretraining_steps,
        prior_data=prior,
        preprocessing=data.preprocessing,
    )
    online = Population(job.learner.scheduled(math.inf), job.members, strategy)
    online.take_over(first)
    return online


def _source(settings: FinetuneSettings) -> SavedRun | None:
    """Opens the run of --checkpoint; None if there is none."""
    if settings.checkpoint is None:
        if settings.member is not None:
            raise UserError("--member chooses among those of --checkpoint, which is not given")
        return None
    changeable = settings_of(FinetuneSettings).keys() - OF_THE_CHECKPOINT
    if unfit := sorted(settings.given - changeable):
        raise UserError(
            f"--{unfit[0]}: the run of --checkpoint has its own; what may change is given by --online"
        )
    source = load_run(settings.checkpoint, member=settings.member)
    if source.is_online:
        raise UserError(f"--checkpoint={source.path}: {source.algorithm} learned online; give an offline run")
    if source.handover is not None and source.step > source.handover:
        raise UserError(
            f"--checkpoint={source.path}: step {source.step:,} is after its hand-over; what it collected "
            f"since would be lost: give an offline run, or a checkpoint up to step {source.handover:,}"
        )
    return source


def _settings_of_source(settings: FinetuneSettings, source: SavedRun) -> FinetuneSettings:
    """Returns the settings with those of --checkpoint's run, where it decides."""
    content, seeds, sweep = source.content, source.content["seeds"], source.content["sweep"]
    if settings.member is not None:
        [member] = source.members
        seeds = [member.seed, member.seed]
        sweep = " ".join(f"{name}={value:.9g}" for name, value in member.hyperparameters.items())
    env_name = settings.env_name or source.env_name
    given = settings.random_return, settings.expert_return
    is_same_task = env_name == source.env_name  # another one is not scored by its references
    random_return, expert_return = (
        source.references if source.references and is_same_task and given == (None, None) else given
    )
    method = OFFLINE[method_of(source.algorithm)]
    about = {
        "suites": (get_task(env_name).suite,) if env_name else (),
        "run": dataclasses.asdict(method.run),
        "finetune": dataclasses.asdict(method.finetune),
        "base": {},
        "tuned": {},
    }
    return dataclasses.replace(
        settings,
        config=ConfigDict({**with_numbers(source.config), "about": about}),
        env_name=env_name,
        dataset=settings.dataset or source.sources,
        normalize_observations=content["normalize_observations"],
        top_returns=content["top_returns"],
        **source.simulation._asdict(),
        batch_size=settings.batch_size or content["batch_size"],
        seed=seeds[0],
        num_seeds=seeds[-1] - seeds[0] + 1,
        sweep=sweep,
        init_dataset_size=settings.init_dataset_size or content.get("init_dataset_size"),
        random_return=random_return,
        expert_return=expert_return,
    )


def _pretrained(job: Job, data: RunData) -> Mapping[str, State] | None:
    """Returns the members' states in --checkpoint's run; None if there is none."""
    source = job.source
    if source is None:
        return None
    if source.sizes != data.sizes:
        raise UserError(
            f"--checkpoint={source.path}: its observations and actions have {source.sizes} entries, those "
            f"of the data {data.sizes}"
        )
    for member in job.members:
        if source.progress.members[member.name]["diverged"]:
            raise UserError(
                f"--checkpoint={source.path}: {member} has diverged: choose another with --member"
            )
    return source.states
