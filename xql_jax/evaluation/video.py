"""Videos of a policy, recorded without a screen."""

import contextlib
import importlib
import io
import os
import shutil
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import imageio.v2 as imageio
import imageio_ffmpeg
import numpy as np

from xql_jax.errors import UserError
from xql_jax.evaluation.policies import Act, Remembering
from xql_jax.outputs import writing_output
from xql_jax.types import Environment

MAX_FRAMES_PER_SECOND = 50
SUFFIXES = (".mp4", ".gif")
Append = Callable[[np.ndarray], None]


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
        UserError: if the file cannot be written, or is not whole.
    """
    stride = max(1, round(environment.steps_per_second / MAX_FRAMES_PER_SECOND))
    write = _write_gif if path.suffix.lower() == ".gif" else _write_mp4
    with (
        writing_output("video", path) as unfinished,
        write(unfinished, environment.steps_per_second / stride) as append,
    ):
        return [_record_episode(environment, act, seed, stride, append) for seed in seeds]


def _record_episode(environment: Environment, act: Act, seed: int, stride: int, append: Append) -> float:
    """Appends every `stride`-th state and the last; returns the episode's return."""
    observation, _ = environment.reset(seed=seed)
    append(environment.render())
    total, steps, over = 0.0, 0, False
    memory = act if isinstance(act, Remembering) else None
    if memory:
        memory.begin()
    while not over:
        action = act(observation[None, None])[0, 0]
        action = np.clip(action, environment.action_space.low, environment.action_space.high)
        observation, reward, terminated, truncated, _ = environment.step(action)
        total, steps, over = total + reward, steps + 1, terminated or truncated
        if memory:
            memory.remember(np.full((1, 1), reward))
        if over or steps % stride == 0:
            append(environment.render())
    return total


@contextlib.contextmanager
def _write_gif(path: Path, frames_per_second: float) -> Iterator[Append]:
    """Gives what appends a frame; the file is written at the end, in one go: whole, or OSError is raised."""
    content = io.BytesIO()
    writer = imageio.get_writer(content, format="gif", duration=1000 / frames_per_second, loop=0)
    with contextlib.closing(writer):
        yield writer.append_data
    path.write_bytes(content.getvalue())


@contextlib.contextmanager
def _write_mp4(path: Path, frames_per_second: float) -> Iterator[Append]:
    """Gives what appends a frame; raises OSError if at the end the file does not hold all of them.

    ffmpeg, which writes it, ends without a word to its caller where the disk is full.
    """
    count = 0

    def append(frame: np.ndarray) -> None:
        nonlocal count
        count += 1
        try:
            writer.append_data(frame)
        except OSError as error:  # with ffmpeg's command, and all that it has said
            raise OSError(f"ffmpeg gave up at frame {count}; {_free(path)}") from error

    with warnings.catch_warnings():
        # JAX warns of every fork; this one becomes ffmpeg at once.
        warnings.filterwarnings("ignore", message=r"os\.fork\(\) was called", category=RuntimeWarning)
        writer = imageio.get_writer(
            path, fps=frames_per_second, macro_block_size=8, quality=7, ffmpeg_log_level="quiet"
        )
        with contextlib.closing(writer):  # after an error, too: ffmpeg is not to write on
            yield append
        try:
            found, _ = imageio_ffmpeg.count_frames_and_secs(path)
        except RuntimeError:  # with all that ffmpeg says of a file that is no video
            found = 0
    if found != count:
        raise OSError(f"only {found} of {count} frames can be read back; {_free(path)}")


def _free(path: Path) -> str:
    return f"{shutil.disk_usage(path.parent).free / 1e6:,.0f} MB are free on the disk"
