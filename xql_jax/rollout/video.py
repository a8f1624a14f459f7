"""Videos of a policy, recorded without a screen."""

import contextlib
import importlib
import io
import logging
import math
import os
import re
import shutil
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from xql_jax.envs.vector import VectorEnv
from xql_jax.errors import UserError, needing
from xql_jax.outputs import writing_output
from xql_jax.rollout import rollout
from xql_jax.rollout.acting import Act

VIDEO_SUFFIXES = (".mp4", ".gif")
MAX_FRAMES_PER_SECOND = {".mp4": 50.0, ".gif": 25.0}  # if no other rate is asked for
GIF_WIDTH = 320  # pixels, if no size is asked for: a GIF stores every frame whole
MAX_GIF_BYTES = 10_000_000  # mail and code hosts accept no more
SMALLEST, LARGEST_SIDE = 16, 4_096  # pixels
Append = Callable[[np.ndarray], None]
Size = tuple[int, int]  # width and height, pixels
LOG = logging.getLogger(__name__)


def prepare_to_draw(path: Path) -> None:
    """Chooses how MuJoCo draws without a screen; call it before MuJoCo is imported, which reads that."""
    if path.suffix.lower() != ".gif":
        with needing("an .mp4 file (a .gif does not)", "video"):
            importlib.import_module("imageio_ffmpeg")
    if sys.platform == "linux" and not os.environ.get("DISPLAY"):  # other systems need no screen to draw
        os.environ.setdefault("MUJOCO_GL", "egl")


def parse_size(text: str, path: Path) -> Size:
    """Returns width and height of WIDTHxHEIGHT; UserError naming --video_size if it does not fit the file."""
    match = re.fullmatch(r"(\d+)x(\d+)", text)
    size = (int(match[1]), int(match[2])) if match else (0, 0)
    if not all(SMALLEST <= side <= LARGEST_SIDE for side in size):
        allowed = f"each from {SMALLEST} to {LARGEST_SIDE}"
        raise UserError(f"--video_size={text}: give WIDTHxHEIGHT in pixels, such as 320x240, {allowed}")
    if path.suffix == ".mp4" and any(side % 2 for side in size):
        raise UserError(f"--video_size={text}: both must be even in an MP4 file")
    return size


def check_draws(env: VectorEnv) -> None:
    """Raises UserError if the environment draws no pictures."""
    try:
        env.render()
    except NotImplementedError:  # of `gymnasium.Env`
        raise UserError("--video: no pictures: the environment has no method `render`") from None


def record_video(
    env: VectorEnv,
    policy: Act,
    seeds: Sequence[int],
    path: Path,
    *,
    size: Size | None = None,
    frames_per_second: float | None = None,
    on_step: Callable[[], object] = lambda: None,
) -> list[float]:
    """Writes one episode per seed, one after another, at their own speed; returns their undiscounted returns.

    A GIF of more than `MAX_GIF_BYTES` is made smaller until it fits, which is logged.

    Args:
        env: of one environment.
        policy: from f32[1, 1, O] to [1, 1, A].
        path: its suffix is one of `VIDEO_SUFFIXES`; an older file is replaced once the new one is complete.
        size: None: as drawn, but for a GIF at most `GIF_WIDTH` wide.
        frames_per_second: an approximate maximum: every n-th step is shown. None: `MAX_FRAMES_PER_SECOND`.
    """
    suffix = path.suffix.lower()
    stride = max(1, round(env.steps_per_second / (frames_per_second or MAX_FRAMES_PER_SECOND[suffix])))
    rate = env.steps_per_second / stride
    write = _write_gif if suffix == ".gif" else _write_mp4
    returns: list[float] = []
    with writing_output("video", path) as unfinished, write(unfinished, rate) as append:

        def draw() -> None:
            frame = env.render()
            height, width = frame.shape[:2]
            narrower = min(1.0, GIF_WIDTH / width) if suffix == ".gif" else 1.0
            nonlocal size  # that of the first picture
            size = size or (round(narrower * width), round(narrower * height))
            append(_resized(frame, size))

        for number, seed in enumerate(seeds, start=1):
            start = env.reset([seed])
            draw()
            for _, step in rollout(env, policy, start):
                length = int(step.lengths[0])
                if step.ended[0] or length % stride == 0:
                    draw()
                on_step()
            returns.append(float(step.returns[0]))
            LOG.info(f"video: episode {number} of {len(seeds)}: {length:,} steps, return {returns[-1]:.4g}")
    return returns


def _resized(frame: np.ndarray, size: Size) -> np.ndarray:
    return np.asarray(Image.fromarray(frame).resize(size, Image.Resampling.LANCZOS))


@contextlib.contextmanager
def _write_gif(path: Path, frames_per_second: float) -> Iterator[Append]:
    """Yields a function that appends a frame. Writes the file at the end, in one go: complete, or OSError."""
    import imageio.v2 as imageio  # not at the top: few evaluations record a video

    frames: list[np.ndarray] = []
    yield frames.append
    while True:
        content = io.BytesIO()
        imageio.mimwrite(content, [*frames], format="gif", duration=1000 / frames_per_second, loop=0)
        number, (height, width) = content.tell(), frames[0].shape[:2]
        if number <= MAX_GIF_BYTES or min(height, width) <= SMALLEST:
            break
        shrink = 0.95 * math.sqrt(MAX_GIF_BYTES / number)
        size = max(SMALLEST, int(shrink * width)), max(SMALLEST, int(shrink * height))
        LOG.info(
            f"video: a GIF of {number / 1e6:.1f} MB is more than {MAX_GIF_BYTES / 1e6:.1f} MB: made "
            f"{size[0]}x{size[1]}; fewer episodes, a lower --video_fps or .mp4 would keep the size"
        )
        frames = [_resized(frame, size) for frame in frames]
    path.write_bytes(content.getvalue())


@contextlib.contextmanager
def _write_mp4(path: Path, frames_per_second: float) -> Iterator[Append]:
    """Yields a function that appends a frame; raises OSError if the final file does not hold all frames.

    ffmpeg, which writes the file, exits without an error message to its caller if the disk is full.
    """
    import imageio.v2 as imageio
    import imageio_ffmpeg

    logging.getLogger("imageio_ffmpeg").setLevel(logging.ERROR)  # the frames are counted below
    count = 0  # frames written
    found = 0  # frames that can be read back

    def append(frame: np.ndarray) -> None:
        nonlocal count
        count += 1
        writer.append_data(frame)

    # ffmpeg's errors come with its command and all of its output.
    with warnings.catch_warnings(), contextlib.suppress(OSError, RuntimeError):
        # JAX warns of every fork; this one becomes ffmpeg at once.
        warnings.filterwarnings("ignore", message=r"os\.fork\(\) was called", category=RuntimeWarning)
        writer = imageio.get_writer(
            path, fps=frames_per_second, macro_block_size=2, quality=7, ffmpeg_log_level="quiet"
        )
        with contextlib.closing(writer):  # after an error, too, so that ffmpeg stops writing
            yield append
        found, _ = imageio_ffmpeg.count_frames_and_secs(path)
    if found != count:
        free = f"{shutil.disk_usage(path.parent).free / 1e6:,.0f} MB are free on the disk"
        raise OSError(f"only {found} of {count} frames can be read back; {free}")
