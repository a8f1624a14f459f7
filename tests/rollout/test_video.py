"""Videos: what was appended can be seen, and a file that is not whole is none."""

import imageio.v2 as imageio
import numpy as np
import pytest
from gymnasium import spaces

from xql_jax.envs.vector import Local
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
