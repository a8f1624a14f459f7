"""Videos of a policy, recorded without a screen."""

import contextlib
import importlib
import logging
import math
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from xql_jax.envs.vector import VectorEnv
from xql_jax.errors import needing
from xql_jax.files.outputs import writing_output
from xql_jax.rollout import rollout
from xql_jax.rollout.acting import Act

VIDEO_SUFFIXES = (".mp4",)
MAX_FRAMES_PER_SECOND = 50.0
LOG = logging.getLogger(__name__)


def prepare_to_draw() -> None:
    """Chooses how MuJoCo draws without a screen; call it before MuJoCo is imported, which reads that."""
    with needing("--video", "video"):
        importlib.import_module("imageio_ffmpeg")
    if sys.platform == "linux" and not os.environ.get("DISPLAY"):  # other systems need no screen to draw
        os.environ.setdefault("MUJOCO_GL", "egl")


def record_video(
    env: VectorEnv,
    policy: Act,
    seeds: Sequence[int],
    path: Path,
    on_step: Callable[[], object] = lambda: None,
) -> list[float]:
    """Writes one episode per seed, one after another, at their own speed; returns their undiscounted returns.

    Args:
        env: a single environment. If it is quicker than `MAX_FRAMES_PER_SECOND`, every n-th step is shown.
        policy: from f32[1, 1, O] to [1, 1, A].
        path: an MP4 file; an older file is replaced once the new file is complete.
    """
    stride = math.ceil(env.steps_per_second / MAX_FRAMES_PER_SECOND)
    returns: list[float] = []
    with (
        writing_output("video", path) as unfinished,
        _write_mp4(unfinished, env.steps_per_second / stride) as append,
    ):
        for number, seed in enumerate(seeds, start=1):
            start = env.reset([seed])
            append(env.render())
            for _, step in rollout(env, policy, start):
                length = int(step.lengths[0])
                if step.ended[0] or length % stride == 0:
                    append(env.render())
                on_step()
            returns.append(float(step.returns[0]))
            LOG.info(f"video: episode {number} of {len(seeds)}: {length:,} steps, return {returns[-1]:.4g}")
    return returns


@contextlib.contextmanager
def _write_mp4(path: Path, frames_per_second: float) -> Iterator[Callable[[np.ndarray], None]]:
    import imageio.v2 as imageio

    with warnings.catch_warnings():
        # JAX warns of every fork; this fork becomes ffmpeg at once.
        warnings.filterwarnings("ignore", message=r"os\.fork\(\) was called", category=RuntimeWarning)
        writer = imageio.get_writer(
            path, fps=frames_per_second, macro_block_size=2, quality=7, ffmpeg_log_level="quiet"
        )
        with contextlib.closing(writer):  # after an error, too, so that ffmpeg stops writing
            yield writer.append_data
    if b"moov" not in path.read_bytes():  # what ffmpeg writes last; it tells nobody that it cannot
        raise OSError("ffmpeg could not end it: is the disk full?")
