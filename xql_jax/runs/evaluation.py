"""Evaluation of a run's policies, or of random actions, in episodes of a task."""

import contextlib
import dataclasses
import functools
import logging
from typing import Any

import numpy as np

from xql_jax.envs import Simulation, Suite, choose_suite, describe_environment
from xql_jax.errors import UserError
from xql_jax.files import as_json
from xql_jax.jax_settings import settings_of_jax
from xql_jax.outputs import check_output, write_output
from xql_jax.rollout.acting import Act
from xql_jax.rollout.evaluation import Evaluator, episode_seed
from xql_jax.rollout.scores import describe_episodes
from xql_jax.rollout.video import SUFFIXES, check_draws, parse_size, prepare_to_draw, record_video
from xql_jax.runs.load import SavedRun, load_run
from xql_jax.runs.run import scored
from xql_jax.runs.tool_settings import EvaluationSettings
from xql_jax.tasks import OWN, Task, get_task
from xql_jax.training.progress import counted

LOG = logging.getLogger(__name__)


def evaluate(settings: EvaluationSettings) -> dict[str, Any]:
    """Evaluates the policies that the settings name, and records a video if they ask for one.

    Returns the content of --output. Raises UserError if a setting is invalid, before anything is evaluated.
    """
    video = check_output("video", settings.video, SUFFIXES) if settings.video else None
    output = check_output("output", settings.output) if settings.output else None
    size = parse_size(settings.video_size, video) if video and settings.video_size else None
    if video:
        prepare_to_draw(video)
    with contextlib.ExitStack() as held:
        held.enter_context(settings_of_jax())
        run = _run_of(settings)
        task = scored(settings, run.task if run else get_task(settings.env_name or ""))
        simulation = run.simulation if run else Simulation()
        given = {name: getattr(settings, name) for name in Simulation._fields}
        simulation = simulation._replace(**{name: x for name, x in given.items() if x is not None})
        suite = choose_suite(task, simulation)
        non_finite: set[int] = set()  # members whose actions were not finite: see `finite_policy`
        if run:
            run.check_fits(task, *suite.sizes(task))
            act, what = run.policy(report=non_finite.add), run.what
        else:
            act, what = _random(task, suite, settings.seed), "the random policy"
        members = [str(member) for member in run.members] if run else ["random"]
        if video:  # tried before the evaluation, because rendering may not work on this machine
            make = functools.partial(suite.make, render_mode="rgb_array") if task.suite == OWN else suite.make
            stage = dataclasses.replace(suite, make=make).vector_env(task, 1)
            held.callback(stage.close)
            stage.reset([0])
            check_draws(stage)
        LOG.info(f"{task.name}: {settings.episodes} episodes of {what}")
        number, at_once = len(members), settings.num_environments or suite.max_environments
        suite = dataclasses.replace(suite, max_environments=at_once)
        evaluator = Evaluator(task, number, settings.episodes, settings.seed, suite)
        held.callback(evaluator.close)
        with counted(settings.episodes * number, "episode", settings.tqdm) as count:
            results = evaluator.run(act, on_step=lambda step: count(int(step.ended.sum())))
        described = zip(members, describe_episodes(results, task), strict=True)
        report = {
            "env_name": task.name,
            "quantity": task.quantity,
            "policies": what,
            "seed": settings.seed,
            "environment": describe_environment(task, simulation),
            "members": [
                {"member": member, "non_finite_actions": index in non_finite, **entry}
                for index, (member, entry) in enumerate(described)
            ],
        }
        if output:  # before the video, which may fail: the results must not be lost
            write_output("output", output, as_json(report) + "\n")
        if video:
            act = run.policy(run.members[:1], non_finite.add) if run else act
            seeds = [episode_seed(settings.seed, episode) for episode in range(settings.video_episodes)]
            with counted(len(seeds) * task.longest, "step", settings.tqdm, "video") as count:
                returns = record_video(
                    stage, act, seeds, video, size=size, frames_per_second=settings.video_fps, on_step=count
                )
            report["video_returns"] = returns
            if not task.by_success:
                report["video_scores"] = task.normalized_score(np.array(returns)).tolist()
            if output:
                write_output("output", output, as_json(report) + "\n")
        return report


def _run_of(settings: EvaluationSettings) -> SavedRun | None:
    """Opens the run whose policies are evaluated; None for random actions."""
    if not settings.random_policy:
        if not settings.checkpoint:
            raise UserError("name a run's folder or one of its checkpoints, or give --random_policy")
        return load_run(settings.checkpoint, member=settings.member, env_name=settings.env_name)
    if settings.checkpoint or settings.member is not None:
        raise UserError("--random_policy evaluates no run: leave out the run and --member")
    if not settings.env_name:
        raise UserError("--random_policy needs --env_name")
    return None


def _random(task: Task, suite: Suite, seed: int) -> Act:
    """Returns a policy that draws actions uniformly from the task's action space."""
    with contextlib.closing(suite.vector_env(task, 1)) as env:
        space = env.action_space
    generator = np.random.default_rng(seed)

    def act(observations: np.ndarray) -> np.ndarray:
        return generator.uniform(space.low, space.high, (*observations.shape[:2], *space.shape))

    return act
