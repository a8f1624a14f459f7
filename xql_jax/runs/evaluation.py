"""Evaluation of a run's policies, or of random actions, in episodes of a task."""

import contextlib
import dataclasses
import logging
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from xql_jax.envs import Simulation, choose_suite, describe_environment
from xql_jax.errors import UserError
from xql_jax.files import as_json
from xql_jax.outputs import check_output, check_outputs_differ, writing_output
from xql_jax.rollout.evaluation import Evaluator, episode_seed
from xql_jax.rollout.policies import Act
from xql_jax.rollout.scores import describe_episodes
from xql_jax.rollout.video import (
    SUFFIXES,
    check_size,
    parse_size,
    picture_of,
    prepare_to_draw,
    record_video,
)
from xql_jax.runs.load import load_run
from xql_jax.runs.machine import settings_of_jax
from xql_jax.runs.tool_settings import EvaluationSettings
from xql_jax.tasks import Task, get_task
from xql_jax.training.policies import finite_policy
from xql_jax.training.progress import counted

LOG = logging.getLogger(__name__)


class Policies(NamedTuple):
    """M policies and the task on which they are evaluated."""

    task: Task
    simulation: Simulation
    members: list[str]
    what: str  # a description for messages
    act: Act  # of all policies, f32[M, K, O] to f32[M, K, A]
    act_first: Act  # of the first one only, f32[1, K, O] to f32[1, K, A]
    non_finite: set[int]  # indices of members whose NaN or infinite action entries `act` replaced by 0


def evaluate(settings: EvaluationSettings) -> dict[str, Any]:
    """Evaluates the policies that the settings name, and records a video if they ask for one.

    Returns:
        The content of --output: the task, the policies, and each member's results.
    Raises:
        UserError: if a setting is invalid, before anything is evaluated.
    """
    video = check_output("video", settings.video, SUFFIXES) if settings.video else None
    output = check_output("output", settings.output) if settings.output else None
    check_outputs_differ({"video": video, "output": output})
    size = parse_size(settings.video_size, video) if video and settings.video_size else None
    if video:
        prepare_to_draw(video)
    with contextlib.ExitStack() as held:
        held.enter_context(settings_of_jax())
        policies = _random_policies(settings) if settings.random_policy else _saved_policies(settings)
        task, suite = policies.task, choose_suite(policies.task, policies.simulation)
        if video:  # tried before the evaluation, because rendering may not work on this machine
            stage = held.enter_context(contextlib.closing(suite.vector_env(task, 1)))
            stage.reset([0])
            drawn = picture_of(stage)
            if size:
                check_size(size, drawn)
        LOG.info(f"{task.name}: {settings.episodes} episodes of {policies.what}")
        number, at_once = len(policies.members), settings.num_environments or suite.max_environments
        suite = dataclasses.replace(suite, max_environments=at_once)
        evaluator = Evaluator(task, number, settings.episodes, settings.seed, suite)
        held.callback(evaluator.close)
        with counted(settings.episodes * number, "episode", settings.tqdm) as count:
            results = evaluator.run(policies.act, on_step=lambda step: count(int(step.ended.sum())))
        described = zip(policies.members, describe_episodes(results, task), strict=True)
        report = {
            "env_name": task.name,
            "quantity": task.quantity,
            "policies": policies.what,
            "seed": settings.seed,
            "environment": describe_environment(task, policies.simulation),
            "members": [
                {"member": member, "non_finite_actions": index in policies.non_finite, **entry}
                for index, (member, entry) in enumerate(described)
            ],
        }
        _write(report, output)  # before the video, which may fail: the results must not be lost
        if video:
            seeds = [episode_seed(settings.seed, episode) for episode in range(settings.video_episodes)]
            with counted(len(seeds) * task.episode_limit, "step", settings.tqdm, "video") as count:
                returns = record_video(
                    stage,
                    policies.act_first,
                    seeds,
                    video,
                    size=size,
                    frames_per_second=settings.video_fps,
                    on_step=count,
                )
            report["video_returns"] = returns
            report["video_scores"] = task.normalized_score(np.array(returns)).tolist()
            _write(report, output)
        return report


def _write(report: dict[str, Any], output: Path | None) -> None:
    if output:
        with writing_output("output", output) as unfinished:
            unfinished.write_text(as_json(report) + "\n")


def _random_policies(settings: EvaluationSettings) -> Policies:
    if settings.checkpoint:
        raise UserError(f"--random_policy evaluates no checkpoint: leave out {settings.checkpoint!r}")
    if settings.member is not None:
        raise UserError("--random_policy has no members: leave out --member")
    if not settings.env_name:
        raise UserError("--random_policy needs --env_name")
    task = get_task(settings.env_name)
    simulation = Simulation().overridden(settings.env_backend, settings.legacy_inertia)
    with contextlib.closing(choose_suite(task, simulation).vector_env(task, 1)) as env:
        space = env.action_space
    generator = np.random.default_rng(settings.seed)

    def act(observations: np.ndarray) -> np.ndarray:
        return generator.uniform(space.low, space.high, (*observations.shape[:2], *space.shape))

    return Policies(task, simulation, ["random"], "the random policy", act, act, set())


def _saved_policies(settings: EvaluationSettings) -> Policies:
    if not settings.checkpoint:
        raise UserError("name a run's folder or one of its checkpoints, or give --random_policy")
    run = load_run(settings.checkpoint, member=settings.member, env_name=settings.env_name)
    task = run.task
    simulation = run.simulation.overridden(settings.env_backend, settings.legacy_inertia)
    run.check_fits(task, *choose_suite(task, simulation).sizes(task))
    non_finite: set[int] = set()
    act = finite_policy(run.policy(), non_finite.add)
    act_first = finite_policy(run.policy(run.members[:1]), lambda index: None)  # told of by `act`
    return Policies(task, simulation, list(map(str, run.members)), run.what, act, act_first, non_finite)
