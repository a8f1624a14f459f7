"""One evaluation from its settings: policies of a run, or random actions, put through a task's episodes."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from xql_jax.envs import Suite, choose_suite
from xql_jax.envs.fidelity import describe_environment
from xql_jax.errors import UserError
from xql_jax.evaluation.rollout import Act, Evaluator, episode_seed
from xql_jax.evaluation.scores import describe_episodes, mean_and_interval
from xql_jax.evaluation.video import SUFFIXES, prepare_to_draw, record_video
from xql_jax.outputs import check_output
from xql_jax.tasks import Task, get_task
from xql_jax.training.checkpoint import UnfitCheckpoint
from xql_jax.training.population import Member, finite_policy
from xql_jax.training.run_folder import write_json
from xql_jax.training.saved_run import open_run
from xql_jax.types import Environment


@dataclasses.dataclass(frozen=True)
class EvaluationSettings:
    """The flags of `experiments/evaluate.py`, which explains them."""

    checkpoint: str | None  # a run's folder or one of its checkpoints
    env_name: str | None
    episodes: int
    member: int | None
    seed: int
    num_environments: int | None
    random_policy: bool
    env_backend: str | None  # None, as the next: the run's own
    legacy_inertia: bool | None
    video: str | None
    video_episodes: int
    output: str | None
    show_progress: bool


def run_evaluation(settings: EvaluationSettings) -> int:
    """Evaluates, prints and writes what the settings ask for; returns the exit code 0.

    Raises:
        UserError: if a setting or the checkpoint is unfit.
    """
    video = check_output("video", settings.video, SUFFIXES) if settings.video else None
    output = check_output("output", settings.output) if settings.output else None
    if video:
        prepare_to_draw()
    policies = _random_policies(settings) if settings.random_policy else _saved_policies(settings)
    task, suite = policies.task, policies.suite
    stage = suite.make(task) if video else None
    if stage:  # before the work: pictures may not be had here
        stage.reset(seed=0)
        stage.render()
    evaluator = Evaluator(
        task, len(policies.members), settings.episodes, settings.seed, settings.num_environments, suite
    )
    print(f"{task.name}: {settings.episodes} episodes of {policies.what}")
    total = settings.episodes * len(policies.members)
    with tqdm(total=total, unit=" episodes", disable=None if settings.show_progress else True) as bar:
        results = evaluator.run(policies.act, on_ended=bar.update)
    evaluator.close()
    members = [
        {"member": str(member), "non_finite_actions": index in policies.non_finite, **described}
        for index, (member, described) in enumerate(
            zip(policies.members, describe_episodes(results, task), strict=True)
        )
    ]
    _print(policies, members)
    report = {
        "env_name": task.name,
        "policies": policies.what,
        "seed": settings.seed,
        "environment": describe_environment(task, policies.env_backend, policies.legacy_inertia),
        "members": members,
    }
    if output:
        _write(output, report)
    if video and stage:
        report["video_returns"] = _record(policies, stage, settings, video)
        stage.close()
        if output:
            _write(output, report)
    if output:
        print(f"results: {output}")
    return 0


def _write(path: Path, report: dict[str, Any]) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--output={path}: cannot be written: {error}") from error
    write_json(path, report)


@dataclasses.dataclass(frozen=True)
class _Policies:
    """M policies, and the task that they are to be put through."""

    task: Task
    env_backend: str
    legacy_inertia: bool
    members: list[Member | str]
    what: str  # they are, for messages
    act: Act  # of all, f32[M, K, O] to f32[M, K, A]
    act_first: Act  # of the first alone, f32[1, K, O] to f32[1, K, A]
    non_finite: set[int]  # the members of which `act` replaced actions that were NaN or infinite by 0

    @property
    def suite(self) -> Suite:
        return choose_suite(self.task, self.env_backend, self.legacy_inertia)


def _random_policies(settings: EvaluationSettings) -> _Policies:
    if settings.checkpoint:
        raise UserError(f"--random_policy evaluates no checkpoint: leave out {settings.checkpoint!r}")
    if settings.member is not None:
        raise UserError("--random_policy has no members: leave out --member")
    if not settings.env_name:
        raise UserError("--random_policy needs --env_name")
    task = get_task(settings.env_name)
    env_backend, legacy_inertia = settings.env_backend or "mujoco", bool(settings.legacy_inertia)
    environment = choose_suite(task, env_backend, legacy_inertia).make(task)
    space = environment.action_space
    environment.close()
    generator = np.random.default_rng(settings.seed)

    def act(observations: np.ndarray) -> np.ndarray:
        return generator.uniform(space.low, space.high, (*observations.shape[:2], *space.shape))

    return _Policies(task, env_backend, legacy_inertia, ["random"], "the random policy", act, act, set())


def _saved_policies(settings: EvaluationSettings) -> _Policies:
    if not settings.checkpoint:
        raise UserError("name a run's folder or one of its checkpoints, or give --random_policy")
    path, step = _split(Path(settings.checkpoint).expanduser())
    run = open_run(path)
    step = run.steps[-1] if step is None else step
    env_name = settings.env_name or run.env_name
    if env_name is None:
        raise UserError(f"{path}: the run was trained without an environment: give --env_name")
    task = get_task(env_name)
    env_backend = settings.env_backend or run.env_backend
    legacy_inertia = run.legacy_inertia if settings.legacy_inertia is None else settings.legacy_inertia
    environment = choose_suite(task, env_backend, legacy_inertia).make(task)
    dimensions = environment.observation_space.shape[0], environment.action_space.shape[0]
    environment.close()
    try:
        states = run.restore(step, *dimensions)
    except UnfitCheckpoint as error:
        if task.name == run.env_name or "other states" not in error.reason:
            raise
        raise UserError(
            f"{task.name} does not fit the run, which was trained on {run.env_name or 'data alone'}: its "
            f"observations have {dimensions[0]} entries, its actions {dimensions[1]} ({error.reason})"
        ) from error
    if settings.member is not None:
        run, states = run.only(settings.member, states)
    first, first_state = run.only(0, states)
    non_finite: set[int] = set()
    return _Policies(
        task,
        env_backend,
        legacy_inertia,
        list(run.members),
        f"{run.algorithm}, {step:,} {run.unit}s, {path}",
        finite_policy(run.policy(states), non_finite.add),
        first.policy(first_state),
        non_finite,
    )


def _split(path: Path) -> tuple[Path, int | None]:
    """Returns the run's folder and the checkpoint's step, None for the last."""
    if path.parent.name == "checkpoints" and path.name.isdigit():
        return path.parent.parent, int(path.name)
    return (path.parent if path.name == "checkpoints" else path), None


def _record(policies: _Policies, stage: Environment, settings: EvaluationSettings, path: Path) -> list[float]:
    seeds = [episode_seed(settings.seed, episode) for episode in range(settings.video_episodes)]
    returns = record_video(stage, policies.act_first, seeds, path)
    scores = policies.task.normalized_score(np.array(returns))
    print(f"video of {policies.members[0]}: {path}; scores {', '.join(f'{score:.1f}' for score in scores)}")
    return returns


def _print(policies: _Policies, members: list[dict[str, Any]]) -> None:
    """A line a member; and for seeds of the same hyperparameters one whose interval is over training runs."""
    settings: dict[str, list[float]] = {}
    for member, entry in zip(policies.members, members, strict=True):
        interval, rate = entry["score_interval_95"], entry["success_rate"]
        print(
            f"  {member}: score {entry['score_mean']:.1f}"
            + (f" ± {interval:.1f}" if interval is not None else "")
            + f" (95% interval over episodes), median {entry['score_median']:.1f}, "
            + (f"success {100 * rate:.0f}%, " if rate is not None else "")
            + f"return {entry['return_mean']:.4g}, length {entry['length_mean']:.1f}"
            + (" (diverged: actions that were not finite were 0)" if entry["non_finite_actions"] else "")
        )
        if isinstance(member, Member):
            setting = ", ".join(f"{name}={value:g}" for name, value in member.hyperparameters.items())
            settings.setdefault(setting, []).append(entry["score_mean"])
    for setting, scores in settings.items():
        if len(scores) > 1:
            mean, half_width = mean_and_interval(np.array(scores))
            print(
                f"  {f'{setting}: ' if setting else ''}mean of {len(scores)} seeds: {mean:.1f} ± "
                f"{half_width:.1f} (95% interval over seeds)"
            )
