"""A run of any kind, from settings to summary; docs/architecture.md, walk 1, goes on to the gradient."""

import contextlib
import dataclasses
import logging
from collections.abc import Iterator, Sequence

import jax

from xql_jax.data.replay import num_bytes
from xql_jax.data.sampling import Trajectories, room_on_device
from xql_jax.envs import environment_maker, versions_of
from xql_jax.errors import UserError
from xql_jax.files import writing
from xql_jax.learners.bc import BC
from xql_jax.logs.csv_rows import Row
from xql_jax.logs.wandb import WandbLogger
from xql_jax.numerics.jax_settings import check_matmul_precision, check_platforms, settings_of_jax
from xql_jax.rollout.evaluation import Evaluator
from xql_jax.runs.folder import RunFolder, identity_of
from xql_jax.runs.kinds import EVALUATION_SEED, Acting, Finetune, Offline, Online, Training
from xql_jax.runs.load import Run, load_run
from xql_jax.runs.resolve import resolved
from xql_jax.runs.run_data import RunData, load_data
from xql_jax.runs.summary import summarize, summarize_finetuning
from xql_jax.runs.varied import fields_of
from xql_jax.settings import values_of
from xql_jax.suites.tasks import Task
from xql_jax.training.checkpoints import TrainingFiles
from xql_jax.training.loop import RowCallback, Trainers, TrainingLoop
from xql_jax.training.members import stacked
from xql_jax.training.population import Population
from xql_jax.training.row_warnings import watch_divergence, watch_policy, watch_values, watch_weights
from xql_jax.training.schedule import steps_in_words
from xql_jax.training.signals import StopSignals
from xql_jax.training.trainer import OfflineTrainer, resident
from xql_jax.types import Json, State

LOG = logging.getLogger(__name__)


def train_run(
    settings: Training, stop: StopSignals | None = None, callbacks: Sequence[RowCallback] = ()
) -> Run:
    """Trains, or goes on with, the run that has these settings.

    Args:
        stop: ends it after saving a checkpoint; it takes the signals SIGINT and SIGTERM meanwhile.
        callbacks: see `RowCallback`.
    Raises:
        UserError: if a setting or the data are invalid; earlier runs are not changed then.
    """
    return train_resolved(resolved(settings), stop, callbacks)


def train_resolved(
    settings: Training, stop: StopSignals | None = None, callbacks: Sequence[RowCallback] = ()
) -> Run:
    """See `train_run`; the settings are `resolved`."""
    if isinstance(settings, Acting) or (isinstance(settings, Offline) and settings.background_evaluation):
        prepare_acting()
    stop = stop or StopSignals()
    with _lack_of_memory_told(), settings_of_jax(), contextlib.ExitStack() as resources:
        check_matmul_precision(settings.matmul_precision, jax.default_backend())
        evaluator = _evaluator(settings, resources)
        data = load_data(settings, evaluator)
        if isinstance(settings, Acting):
            _check_room(settings, data.sizes)
        folder = RunFolder(settings, data)
        files = folder.files
        if settings.resume and (finished := folder.finished()):
            if not files.preprocessing.exists():
                data.preprocessing.save(files.preprocessing, folder.run_id)
            return finished
        states = _states_of_source(settings, data.sizes) if settings.source and not folder.steps else None
        resources.enter_context(folder.locked())
        data.preprocessing.save(files.preprocessing, folder.run_id)
        _log_beginning(folder, data)
        trainers = _trainers(settings, data, files)
        if states is not None:
            trainers.first.population.set_in_members(state=states)
        resources.callback(trainers.first.close)
        loop = resources.enter_context(_loop(folder, data, trainers, evaluator, callbacks))
        folder.record_step(loop.progress.step)
        files.summary.unlink(missing_ok=True)  # only now, so a run that cannot be resumed keeps it
        with stop:
            loop.run(stop, show_progress=settings.tqdm)
        run = load_run(folder.path)
        summary = _summary(folder, loop, data.task, run.rows(files.evaluations))
        folder.write_summary(summary, loop.csv_files)  # last: it means that all is there
        run.stopped_by = None if loop.finished else stop.received
        return run


def prepare_acting() -> None:
    """Configures JAX for runs that act on the CPU while they learn.

    With asynchronous dispatch the thread that acts would wait for the learner's program. If JAX_PLATFORMS
    lacks the CPU, adds it; UserError if the other platforms are not there, where JAX would say nothing.
    """
    jax.config.update("jax_cpu_enable_async_dispatch", False)
    platforms: str | None = jax.config.jax_platforms  # type: ignore[attr-defined]
    if platforms and "cpu" not in platforms.split(","):
        jax.config.update("jax_platforms", f"{platforms},cpu")
        try:
            check_platforms(platforms)
        except UserError:
            jax.config.update("jax_platforms", platforms)  # else the next call would train on the CPU
            raise


@contextlib.contextmanager
def _lack_of_memory_told() -> Iterator[None]:
    """Context manager that reports a lack of memory in one line."""
    try:
        yield
    except (MemoryError, jax.errors.JaxRuntimeError) as error:
        if isinstance(error, jax.errors.JaxRuntimeError) and "RESOURCE_EXHAUSTED" not in str(error):
            raise
        raise UserError(
            f"not enough memory: give fewer members, smaller batches or fewer data ({str(error)[:200]})"
        ) from error


def _evaluator(settings: Training, resources: contextlib.ExitStack) -> Evaluator | None:
    """Returns the members' evaluator; None without a task or with --eval_episodes=0."""
    task = settings.task
    if task is None or not settings.eval_episodes:
        LOG.info("no evaluation: " + ("--eval_episodes=0" if task else "no --env_name is given"))
        return None
    maker = environment_maker(task)
    evaluator = Evaluator(task, len(settings.members), settings.eval_episodes, EVALUATION_SEED, maker=maker)
    return resources.enter_context(contextlib.closing(evaluator))


def _check_room(settings: Acting, sizes: tuple[int, int]) -> None:
    """Raises UserError if the members' replay buffers do not fit into memory."""
    buffer_size, num_members = settings.acting.buffer_size, len(settings.members)
    wanted, room = (num_members + 1) * num_bytes(buffer_size, *sizes), room_on_device()
    if wanted > room:
        raise UserError(
            f"--{settings.buffer_flag}={buffer_size}: {num_members} buffer(s) of that size, and one more "
            f"while a resumed run reads their files, take {wanted / 2**30:.1f} GiB, and there is room for "
            f"{room / 2**30:.1f}: give a smaller one or fewer members"
        )


def _states_of_source(settings: Training, sizes: tuple[int, int]) -> State:
    """Returns the states of the members in --checkpoint's run, stacked; UserError if they do not fit."""
    source, members = settings.source, settings.members
    if source.sizes != sizes:
        raise UserError(
            f"--checkpoint={source.path}: its observations and actions have {source.sizes} entries, those "
            f"of the data {sizes}"
        )
    for member in members:
        if source.progress.members[member.name]["diverged"]:
            raise UserError(f"--checkpoint={source.path}: {member} has diverged: choose another --member")
    return stacked([source.states[member.name] for member in members])


def _trainers(settings: Training, data: RunData, files: TrainingFiles) -> Trainers:
    if isinstance(settings, Offline):
        return offline_trainers(settings, data)
    from xql_jax.runs.acting_runs import finetuning_trainers, online_trainers  # an offline run needs neither

    if isinstance(settings, Finetune):
        return finetuning_trainers(settings, data, files)
    assert isinstance(settings, Online)
    return online_trainers(settings, data, files)


def offline_trainers(settings: Offline, data: RunData) -> Trainers:
    """Makes the trainer of members that learn from the data."""
    assert data.dataset is not None
    assert data.rewards is not None
    batch, learner, members, ramps = data.dataset.batch, settings.learner, settings.members, settings.ramps
    source = resident(batch, settings.batch_size, ramps)
    trainer = OfflineTrainer(Population(learner, members, source))
    if isinstance(batch, Trajectories):  # what learns from these has no V
        return Trainers(trainer)
    return Trainers(trainer, (watch_values(learner, members, data.rewards, ramps),))


def _loop(
    folder: RunFolder,
    data: RunData,
    trainers: Trainers,
    evaluator: Evaluator | None,
    callbacks: Sequence[RowCallback],
) -> TrainingLoop:
    """Returns the run's loop, as its last good checkpoint left it."""
    settings, files = folder.settings, folder.files
    members, steps = settings.members, settings.schedule.max_steps
    trainers.first.population.matmul_precision = settings.matmul_precision
    watches = [
        *trainers.watches,
        watch_divergence(members, settings.batch_size),
        watch_weights(settings.learner, members, steps, settings.ramps, settings.schedule.handover),
    ]
    if "policy_nats" in values_of(settings.learner):  # others' `actor/divergence` is of no weights
        watches.append(watch_policy(members, steps))
    loggers: list[WandbLogger] = []
    if settings.wandb:
        names, identity = [member.name for member in members], identity_of(settings)
        of_run = {**identity, **identity["config"]}
        loggers.append(WandbLogger(files.folder, names, settings.wandb_project, of_run))
    loop = TrainingLoop.resumed(
        trainers.first, evaluator, data.task, settings.schedule, files, data.preprocessing,
        trainers.make_online, loggers, [*callbacks, *watches],
    )  # fmt: skip
    if step := loop.progress.step:
        done = steps_in_words(step, settings.unit, settings.schedule.handover)
        LOG.info(f"resuming after {done} of {settings.all_steps}")
    return loop


def _summary(folder: RunFolder, loop: TrainingLoop, task: Task | None, rows: Sequence[Row]) -> Json:
    """Returns the content of summary.json, from the rows of evaluations.csv; draws learning_curve.png."""
    settings = folder.settings
    progress, population, unit = loop.progress, loop.trainer.population, settings.unit
    handover, is_evaluated = settings.schedule.handover, settings.eval_episodes > 0
    if loop.finished and task and rows:  # an interrupted run skips the picture
        from xql_jax.pictures.run_pictures import plot_learning_curve  # matplotlib takes a second

        picture, title = folder.path / "learning_curve.png", f"{settings.method} on {task.name}"
        quantity = "normalised score" if task.is_normalised else "return"
        with writing(picture):
            plot_learning_curve(rows, title, picture, f"{unit}s", handover, quantity)
    updates = progress.step * len(settings.members)
    content: Json = {
        "env_name": folder.env_name,
        "status": "finished" if loop.finished else "interrupted",
        "algorithm": settings.method,
        "step": progress.step,
        "results": summarize(rows, settings.eval_episodes),
        "diverged": [
            {"member": str(settings.members[index]), **dataclasses.asdict(divergence)}
            for index, divergence in population.diverged.items()
        ],
        "environment": {"versions": versions_of(task)} if task and is_evaluated else None,
        "seconds": {
            "compile": round(population.compile_seconds, 3),
            "update": round(progress.update_seconds, 3),
            "evaluation": round(progress.evaluation_seconds, 3),
        },
        f"{unit}s_per_second": round(updates / progress.update_seconds, 1) if updates else None,
        "quantity": task.quantity if task else None,
    }
    if isinstance(settings, Acting):
        content["policy_lag"] = settings.acting.policy_lag
        if loop.trainer.failures is not None:
            content |= {"policy_lag": 0, "failed_episodes": loop.trainer.failures}
    if handover is not None:
        content["finetuning"] = summarize_finetuning(rows, handover, task is not None and task.is_normalised)
    return content


def _log_beginning(folder: RunFolder, data: RunData) -> None:
    """Logs what is trained on which data, and warns of settings that seldom are as meant."""
    settings, dataset = folder.settings, data.dataset
    if dataset is not None:
        LOG.info(f"{folder.env_name}: {dataset.size:,} transitions from {dataset.source}")
    what = f"{settings.method}: {len(settings.members)} member(s), {settings.all_steps}"
    LOG.info(f"{folder.env_name}, {what}; files in {folder.path}")
    if dataset is not None:
        _warn_of_beta(settings)
    if isinstance(settings, Offline):
        _warn_of_cloning(settings)
    if isinstance(settings, Finetune) and isinstance(settings.learner, BC):
        LOG.warning(
            f"{settings.method} clones the actions that it stores, and rewards do nothing: acting cannot "
            "improve it. Fine-tune a method that learns from rewards, such as xql or iql"
        )


def _warn_of_beta(settings: Training) -> None:
    """Warns of a `beta` or a policy's temperature that a user chose, and that nats find instead."""
    choices = settings.choices
    later = dict(fields_of(getattr(settings, settings.changing))) if settings.changing in choices else {}
    first: set[str] = set() if settings.source else {*choices}  # else that phase was of another run
    has_nats = max(settings.nats("policy_nats")) > 0
    if "awr_temperature" in first | later.keys() and (has_nats or "policy_nats" in later):
        LOG.warning("awr_temperature is not used beside policy_nats, which finds it")
    if "beta" in later and "beta_nats" not in later and max(settings.nats()) > 0:
        LOG.warning(
            f"beta={later['beta']} is not used where beta_nats finds beta: beta_nats=0 beside it keeps it, "
            "in units of the rewards as they are learned from"
        )


def _warn_of_cloning(settings: Offline) -> None:
    """Warns of a policy that follows a clone until the run ends, so that Q has no part in it."""
    for name in ("warm_start", "cloning_updates"):  # BRAC-p's and BEAR's, the trust region's
        longest = max(settings.grid.get(name, [settings.values.get(name, 0.0)]))
        if longest >= settings.max_steps:
            LOG.warning(
                f"{name}={longest:g}: the policy only clones in all {settings.max_steps:,} updates, whatever "
                "Q is: give a smaller one"
            )
