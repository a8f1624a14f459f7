"""A user's environment, as its module registers it: a point on a line that is to come to 1."""

import gymnasium
import numpy as np
from gymnasium import spaces


class Line(gymnasium.Env):
    """Observations f64[2, 1], position and target; actions f32[1] in [-2, 4], a step of a tenth of them."""

    observation_space = spaces.Box(-np.inf, np.inf, (2, 1), np.float64)
    action_space = spaces.Box(-2.0, 4.0, (1,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self._position = self.np_random.uniform(-1.0, 0.0)
        return self._observation(), {}

    def step(self, action):
        assert self.action_space.contains(action)
        self._position += 0.1 * float(action[0])
        reached = abs(self._position - 1.0) < 0.1
        return self._observation(), -abs(self._position - 1.0), reached, False, {"success": reached}

    def _observation(self):
        return np.array([[self._position], [1.0]])


gymnasium.register("Line-v0", entry_point=Line, max_episode_steps=30)
