"""One online run from its settings: environments, learner, population, loop and reports put together."""

import dataclasses
import functools
import math
from pathlib import Path
from typing import Any

from xql_jax.configuration import learner_from_config, resolve_online
from xql_jax.data import replay
from xql_jax.data.memory import room_on_device
from xql_jax.envs import SUITES, choose_suite
from xql_jax.errors import UserError
from xql_jax.evaluation.rollout import Evaluator
from xql_jax.tasks import Task, get_task
from xql_jax.training.loop import EVALUATION_SEED, Recording, TrainingLoop
from xql_jax.training.online import OnlinePopulation
from xql_jax.training.population import make_members, parse_sweep
from xql_jax.training.rounds import OnlineSchedule
from xql_jax.training.run_flags import RunSettings
from xql_jax.training.run_folder import RunFolder
from xql_jax.training.run_report import draw_learning_curve, print_results, summary_of, tell_end
from xql_jax.types import Environment

# Strictly alternating: learn after every step. Overlapped: act while learning, by a policy some updates old.
MODES = ("overlapped", "alternating")
ON_DIVERGENCE = ("freeze", "restart")


@dataclasses.dataclass(frozen=True)
class OnlineSettings(RunSettings):
    """The flags of `experiments/train_online.py`, which explains them."""

    env_name: str
    num_environments: int
    processes: bool
    mode: str  # one of `MODES`
    max_policy_lag: int  # updates
    on_divergence: str  # one of `ON_DIVERGENCE`
    bellman_error_interval: int  # steps; 0: none


def run_online(settings: OnlineSettings) -> int:
    """Trains, evaluates and reports as the settings say.

    Returns:
        The exit code: 0, or 128 + the signal's number if a signal stopped the run.
    Raises:
        UserError: if a setting is unfit; nothing of an earlier run is touched.
    """
    task = get_task(settings.env_name)
    config = settings.config
    of_task = resolve_online(config, task.name, settings.config_overrides)
    online = _schedule(settings)
    learner: Any = learner_from_config(config, settings.schedule.max_steps)
    seeds = range(settings.seed, settings.seed + settings.num_seeds)
    members = make_members(seeds, parse_sweep(settings.sweep, config.algorithm))
    if task.suite not in SUITES:
        raise UserError(
            f"--env_name={task.name}: no environment here; there are some for: {', '.join(SUITES)}"
        )
    suite = choose_suite(task, "mujoco", legacy_inertia=False)
    evaluator = None
    if settings.eval_episodes:
        evaluator = Evaluator(task, len(members), settings.eval_episodes, EVALUATION_SEED, suite=suite)

    folder = RunFolder(
        Path(settings.save_dir).expanduser(),
        task.name,
        config.algorithm,
        seeds,
        _identity(settings, task, online),
    )
    finished = folder.finished_summary() if settings.resume else None
    if finished:
        print_results(finished, folder.path, "this run has ended already", OnlinePopulation.unit)
        return 0
    _check_room(suite.make(task), config.buffer_size, len(members))
    with folder.opened(settings.resume):
        by_task = ", ".join(f"{name}={value:g}" for name, value in of_task.items())
        steps = f"{settings.schedule.max_steps:,} steps"
        print(f"{task.name}, {config.algorithm}: {len(members)} member(s), {steps}")
        print(
            f"  {settings.mode}, rounds of {online.round_steps} step(s): the policy that acts lacks at most "
            f"{online.policy_lag} updates"
            + (f"; for this task {by_task}" if by_task else "")
            + f"; files in {folder.path}"
        )
        make = functools.partial(suite.make, task)
        population = OnlinePopulation(learner, members, make, online, folder.path / "replay")
        errors = Recording(
            folder.bellman_errors, "error", settings.bellman_error_interval, population.bellman_errors
        )
        recordings = [errors] if errors.interval else []
        try:
            training = TrainingLoop(population, evaluator, task, settings.schedule, folder, recordings)
            received = training.run(show_progress=settings.show_progress)
            training.close()
        finally:
            population.close()
        summary = summary_of(training, task.name, config.algorithm, population.compile_seconds, folder)
        summary["policy_lag"] = online.policy_lag
        summary["restarts"] = [
            {"member": str(members[index]), **dataclasses.asdict(divergence)}
            for index, restarts in population.restarts.items()
            for divergence in restarts
        ]
        summary["seconds_by_work"] = {name: round(value, 3) for name, value in population.seconds.items()}
        if training.finished:
            draw_learning_curve(config.algorithm, task, evaluator, population.unit, folder)
        folder.write_summary(summary)  # last: its "finished" says that all else is there
    if evaluator:
        evaluator.close()
    return tell_end(summary, folder.path, received, population.unit)


def _schedule(settings: OnlineSettings) -> OnlineSchedule:
    """The rounds: as long as the lag allows, and such that each interval is a whole number of them."""
    config, schedule, number = settings.config, settings.schedule, settings.num_environments
    intervals = {
        name: getattr(schedule, name)
        for name in ("max_steps", "log_interval", "eval_interval", "checkpoint_interval")
    }
    intervals["bellman_error_interval"] = settings.bellman_error_interval  # 0 is a multiple of everything
    unfit = [f"--{name}={interval}" for name, interval in intervals.items() if interval % number]
    if unfit:
        raise UserError(f"{', '.join(unfit)}: must be a multiple of --num_environments={number}")
    for name, least in (
        ("config.batch_size", config.batch_size),
        ("--num_environments", number),
    ):
        if config.buffer_size < least:
            raise UserError(f"config.buffer_size={config.buffer_size}: smaller than {name}={least}")
    alternating = OnlineSchedule(
        num_environments=number,
        processes=settings.processes,
        buffer_size=config.buffer_size,
        batch_size=config.batch_size,
        warmup_steps=config.warmup_steps,
        restarts=settings.on_divergence == "restart",
        updates_per_step=config.updates_per_step,
        round_steps=number,
    )
    if not alternating.updates_by(schedule.max_steps):
        raise UserError(
            f"--max_steps={schedule.max_steps}: nothing is learned in so few: config.warmup_steps="
            f"{config.warmup_steps} are random, and config.updates_per_step={config.updates_per_step:g}"
        )
    if settings.mode == "alternating":
        return alternating
    strides = math.gcd(*intervals.values()) // number
    rounds = (
        dataclasses.replace(alternating, round_steps=number * length, overlapped=True)
        for length in range(strides, 0, -1)
        if strides % length == 0 and number * length <= config.buffer_size
    )
    fit = [rounds_of for rounds_of in rounds if rounds_of.policy_lag <= settings.max_policy_lag]
    if not fit:
        raise UserError(
            f"--max_policy_lag={settings.max_policy_lag}: too small for --mode=overlapped with "
            f"--num_environments={number}; --mode=alternating learns after every step"
        )
    return fit[0]


def _check_room(environment: Environment, buffer_size: int, num_members: int) -> None:
    """Raises UserError if the members' buffers have no room. The environment is closed."""
    sizes = environment.observation_space.shape[0], environment.action_space.shape[0]
    environment.close()
    one, room = replay.num_bytes(buffer_size, *sizes), room_on_device()
    wanted = (num_members + 1) * one
    if wanted > room:
        raise UserError(
            f"config.buffer_size={buffer_size}: {num_members} buffer(s) of that size, and one more while a "
            f"resumed run reads their files, take {wanted / 2**30:.1f} GiB, and there is room for "
            f"{room / 2**30:.1f}: give a smaller one or fewer members"
        )


def _identity(settings: OnlineSettings, task: Task, online: OnlineSchedule) -> dict[str, Any]:
    """All that the run's numbers depend on."""
    config = {
        name: value for name, value in settings.config.to_dict().items() if name not in ("small", "by_task")
    }
    return {
        "env_name": task.name,
        "config": config,
        "seeds": [settings.seed, settings.seed + settings.num_seeds - 1],
        "sweep": settings.sweep,
        "max_steps": settings.schedule.max_steps,
        "log_interval": settings.schedule.log_interval,
        "eval_interval": settings.schedule.eval_interval,
        "bellman_error_interval": settings.bellman_error_interval,
        "eval_episodes": settings.eval_episodes,
        "evaluation_seed": EVALUATION_SEED,
        "num_environments": online.num_environments,
        "round_steps": online.round_steps,
        "overlapped": online.overlapped,
        "on_divergence": settings.on_divergence,
        "env_backend": "mujoco",
        "legacy_inertia": False,
    }
