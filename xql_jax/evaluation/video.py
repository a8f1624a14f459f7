"""Videos of a policy, recorded without a screen."""

import contextlib
import importlib
import os
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import imageio.v2 as imageio
import numpy as np

from xql_jax.errors import UserError
from xql_jax.evaluation.rollout import Act
from xql_jax.files import replacing
from xql_jax.types import Environment

MAX_FRAMES_PER_SECOND = 50
SUFFIXES = (".mp4", ".gif")


def prepare_to_draw() -> None:
    """Chooses how MuJoCo draws without a screen; to be called before MuJoCo is imported, which reads it.

    Raises:
        UserError: if MuJoCo cannot be imported with what `MUJOCO_GL` asks for.
    """
    if not os.environ.get("DISPLAY"):
        os.environ.setdefault("MUJOCO_GL", "egl")
    try:
        importlib.import_module("mujoco")
    except Exception as error:  # OpenGL's libraries, where one is missing, fail in ways of their own
        raise UserError(
            f"--video: MuJoCo cannot draw with MUJOCO_GL={os.environ.get('MUJOCO_GL')} here "
            f"({type(error).__name__}: {error}): install libegl1 or libosmesa6, or give no --video"
        ) from error


def record_video(environment: Environment, act: Act, seeds: Sequence[int], path: Path) -> list[float]:
    """Runs an episode a seed and writes all of them, one after the other, at the speed of their own time.

    Args:
        environment: renders itself.
        act: the policy, from f32[1, 1, O] to f32[1, 1, A]. Actions are clipped to the action space.
        seeds: of the episodes.
        path: its suffix is one of `SUFFIXES`, `.mp4` (H.264) or `.gif`; an older file is replaced when the
            new one is whole.
    Returns:
        The undiscounted return of each episode.
    Raises:
        UserError: if the file cannot be written.
    """
    stride = max(1, round(environment.steps_per_second / MAX_FRAMES_PER_SECOND))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with (
            replacing(path, f".{path.stem}.unfinished{path.suffix.lower()}") as unfinished,
            _writer(unfinished, environment.steps_per_second / stride) as writer,
        ):
            return [_record_episode(environment, act, seed, stride, writer) for seed in seeds]
    except OSError as error:
        raise UserError(f"--video={path}: cannot be written: {error}") from error


def _record_episode(environment: Environment, act: Act, seed: int, stride: int, writer: Any) -> float:
    """Appends every `stride`-th state and the last; returns the episode's return."""
    observation, _ = environment.reset(seed=seed)
    writer.append_data(environment.render())
    total, steps, over = 0.0, 0, False
    while not over:
        action = act(observation[None, None])[0, 0]
        action = np.clip(action, environment.action_space.low, environment.action_space.high)
        observation, reward, terminated, truncated, _ = environment.step(action)
        total, steps, over = total + reward, steps + 1, terminated or truncated
        if over or steps % stride == 0:
            writer.append_data(environment.render())
    return total


@contextlib.contextmanager
def _writer(path: Path, frames_per_second: float) -> Iterator[Any]:
    with warnings.catch_warnings():
        # JAX warns of every fork; this one becomes ffmpeg at once.
        warnings.filterwarnings("ignore", message=r"os\.fork\(\) was called", category=RuntimeWarning)
        if path.suffix == ".gif":
            writer = imageio.get_writer(path, duration=1000 / frames_per_second, loop=0)
        else:
            writer = imageio.get_writer(path, fps=frames_per_second, macro_block_size=8, quality=7)
        with writer:
            yield writer
