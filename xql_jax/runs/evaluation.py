"""Evaluation of a run's policies, or of random actions, in episodes of a task."""

import contextlib
import dataclasses
import logging
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from tqdm import tqdm

from xql_jax.envs import Simulation, Suite, choose_suite, describe_environment
from xql_jax.errors import UserError
from xql_jax.files import as_json
from xql_jax.outputs import check_output, check_outputs_differ, writing_output
from xql_jax.rollout.evaluation import Evaluator, episode_seed
from xql_jax.rollout.policies import Act
from xql_jax.rollout.scores import describe_episodes
from xql_jax.rollout.video import SUFFIXES, check_size, parse_size, prepare_to_draw, record_video
from xql_jax.runs.load import load_run
from xql_jax.runs.machine import Run
from xql_jax.runs.tool_settings import EvaluationSettings
from xql_jax.tasks import Task, get_task
from xql_jax.training.members import Member
from xql_jax.training.policies import finite_policy
from xql_jax.training.progress import Pace

LOG = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Policies:
    """M policies and the task on which they are evaluated."""

    task: Task
    simulation: Simulation
    members: list[Member | str]
    what: str  # a description for messages
    act: Act  # of all policies, f32[M, K, O] to f32[M, K, A]
    act_first: Act  # of the first one only, f32[1, K, O] to f32[1, K, A]
    non_finite: set[int]  # indices of members whose NaN or infinite action entries `act` replaced by 0

    @property
    def suite(self) -> Suite:
        return choose_suite(self.task, self.simulation)


class EvaluationRun(Run):
    """Evaluates the policies that the settings name; `run` returns the content of --output."""

    settings: EvaluationSettings
    policies: Policies

    def open(self) -> None:
        settings = self.settings
        self.video = check_output("video", settings.video, SUFFIXES) if settings.video else None
        self.output = check_output("output", settings.output) if settings.output else None
        check_outputs_differ({"video": self.video, "output": self.output})
        self.video_size = None
        if self.video:
            self.video_size = parse_size(settings.video_size, self.video) if settings.video_size else None
            prepare_to_draw(self.video)
        random = settings.random_policy
        self.policies = _random_policies(settings) if random else _saved_policies(settings)
        task, suite = self.policies.task, self.policies.suite
        if self.video:  # tried before the evaluation, because rendering may not work on this machine
            self.stage = suite.vector_env(task, 1)
            self.resources.callback(self.stage.close)
            self.stage.reset([0])
            drawn = self.stage.render()
            if self.video_size:
                check_size(self.video_size, drawn)
        count, at_once = len(self.policies.members), settings.num_environments
        self.evaluator = Evaluator(task, count, settings.episodes, settings.seed, at_once, suite)
        self.resources.callback(self.evaluator.close)

    def run(self) -> dict[str, Any]:
        """Returns the content of --output: the task, the policies, and each member's results."""
        policies, settings, task = self.policies, self.settings, self.policies.task
        LOG.info(f"{task.name}: {settings.episodes} episodes of {policies.what}")
        total = settings.episodes * len(policies.members)
        with _counted(total, "episode", settings.tqdm) as count:
            results = self.evaluator.run(policies.act, on_step=lambda step: count(int(step.ended.sum())))
        members = [
            {"member": str(member), "non_finite_actions": index in policies.non_finite, **described}
            for index, (member, described) in enumerate(
                zip(policies.members, describe_episodes(results, task), strict=True)
            )
        ]
        report = {
            "env_name": task.name,
            "policies": policies.what,
            "seed": settings.seed,
            "environment": describe_environment(task, policies.simulation),
            "members": members,
        }
        self._write(report)  # before the video, which may fail: the results must not be lost
        if self.video:
            seeds = [episode_seed(settings.seed, episode) for episode in range(settings.video_episodes)]
            most = len(seeds) * task.episode_limit
            with _counted(most, "step", settings.tqdm, "video") as count:
                report["video_returns"] = record_video(
                    self.stage,
                    policies.act_first,
                    seeds,
                    self.video,
                    size=self.video_size,
                    frames_per_second=settings.video_fps,
                    on_step=count,
                )
            self._write(report)
        return report

    def _write(self, report: dict[str, Any]) -> None:
        if self.output:
            with writing_output("output", self.output) as unfinished:
                unfinished.write_text(as_json(report) + "\n")


@contextlib.contextmanager
def _counted(total: int, unit: str, show: bool, name: str = "") -> Iterator[Callable[..., None]]:
    """Shows the progress of long work by a bar or, where a bar cannot be seen, by lines in the log.

    Returns:
        A function to call with the number of units that are done anew (default: 1).
    """
    pace, done = Pace(0, total, f"{name} {unit}".strip(), time.monotonic), 0
    with tqdm(total=total, unit=f" {unit}s", desc=name or None, disable=None if show else True) as bar:

        def count(number: int = 1) -> None:
            nonlocal done
            done += number
            bar.update(number)
            if bar.disable and pace.has_been_silent():
                LOG.info(pace.line(done))

        yield count


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
    run = load_run(settings.checkpoint, member=settings.member)
    task = run.task(settings.env_name)
    simulation = run.simulation.overridden(settings.env_backend, settings.legacy_inertia)
    run.check_fits(task, *choose_suite(task, simulation).sizes(task))
    non_finite: set[int] = set()
    act, act_first = finite_policy(run.policy(), non_finite.add), run.policy(run.members[:1])
    return Policies(task, simulation, list(run.members), run.what, act, act_first, non_finite)
