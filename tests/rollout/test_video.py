"""Videos: what was appended can be seen, and a file that is not whole is none."""

import resource
import subprocess
import sys
from pathlib import Path

import imageio.v2 as imageio
import numpy as np
import pytest
from gymnasium import spaces
from PIL import Image

from xql_jax.envs.vector import Local
from xql_jax.errors import UserError
from xql_jax.rollout import video


def record_video(stage, *arguments, **options):
    return video.record_video(Local(lambda: stage, 1), *arguments, **options)


class Stage:
    """Shows noise, for as many steps as the seed says."""

    observation_space = spaces.Box(-1.0, 1.0, (2,), np.float32)
    action_space = spaces.Box(-1.0, 1.0, (1,), np.float32)

    def __init__(self, steps_per_second=25.0):
        self.steps_per_second = steps_per_second
        self.generator = np.random.default_rng(0)

    def reset(self, *, seed=None):
        self.left = seed
        return np.zeros(2, np.float32), {}

    def step(self, action):
        self.left -= 1
        return np.zeros(2, np.float32), 1.0, self.left == 0, False, {}

    def close(self):
        pass

    def render(self):
        return self.generator.integers(0, 256, (64, 96, 3), np.uint8)


def act(observations):
    return np.zeros((*observations.shape[:2], 1))


def names(folder):
    return [path.name for path in folder.iterdir()]


@pytest.mark.parametrize(("steps_per_second", "stride"), [(125.0, 3), (100.0, 2), (100 / 3, 1), (0.5, 1)])
def test_mp4_holds_every_frame(tmp_path, steps_per_second, stride):
    path, seeds = tmp_path / "new" / "policy.mp4", [3, 30]
    assert record_video(Stage(steps_per_second), act, seeds, path) == seeds
    assert sum(1 for _ in imageio.get_reader(path)) == sum(1 + -(-seed // stride) for seed in seeds)
    assert names(path.parent) == ["policy.mp4"]


@pytest.mark.parametrize(
    ("suffix", "room", "seed"), [(".mp4", 0, 1), (".mp4", 3_000, 60), (".gif", 3_000, 60)]
)
def test_a_disk_that_takes_no_more(tmp_path, suffix, room, seed):
    """The short one is written when ffmpeg ends, which tells nobody; of the long one it fails midway."""
    path = tmp_path / f"policy{suffix}"
    path.write_text("older")
    program = (
        "import sys; sys.path.append('tests/rollout'); import test_video; "
        f"test_video.record_with_room({room}, {seed}, sys.argv[1])"
    )
    run = subprocess.run([sys.executable, "-c", program, path], capture_output=True, text=True, check=False)
    (line,) = run.stderr.splitlines()
    assert line.startswith(f"--video={path}: cannot be written: ")
    assert line.endswith("; the old file is as it was")
    assert (names(tmp_path), path.read_text()) == ([path.name], "older")


def record_with_room(room, seed, name):
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, room))
    try:
        record_video(Stage(), act, [seed], Path(name))
    except UserError as error:
        print(error, file=sys.stderr)


@pytest.mark.parametrize(("steps_per_second", "frames"), [(30.0, 16), (200 / 3, 11), (12.5, 31)])
def test_a_gif_lasts_as_long_as_its_episode(tmp_path, steps_per_second, frames):
    """30 steps, and the first state; a GIF counts in hundredths of seconds."""
    path = tmp_path / "policy.gif"
    record_video(Stage(steps_per_second), act, [30], path)
    with Image.open(path) as picture:
        shown = [picture.seek(index) or picture.info["duration"] for index in range(picture.n_frames)]
    assert len(shown) == frames
    assert min(shown) >= 40
    assert sum(shown) == pytest.approx(30_000 * frames / (frames - 1) / steps_per_second, abs=5)
