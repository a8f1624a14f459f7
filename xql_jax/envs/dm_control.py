"""The tasks of the DeepMind Control Suite, simulated by the suite itself."""

import importlib
import math
import warnings

import mujoco
import numpy as np

from xql_jax.envs.simulated import FIRST_CAMERA, ActResult, SimulatedEnv
from xql_jax.errors import needing
from xql_jax.suites.tasks import Task

# The linear-quadratic regulators (lqr) draw their springs when they are made: here always the same springs.
MODEL_SEED = 0


class DMControl(SimulatedEnv):
    """A `domain-task` of dm_control.suite, such as cheetah-run or ball_in_cup-catch.

    Observations f32[O]: the suite's own entries, in its order, flattened. Actions [A] are clipped to [-1, 1],
    then mapped to the range of each actuator. An actuator without a range (in lqr) takes the action itself.

    Rewards are the suite's: in [0, 1] per step, except in lqr. An episode terminates only if the suite gives
    a discount of 0: in lqr, once the state is nearly at rest.

    An episode equals the first of `suite.load(domain, task, {"random": seed})`, bit for bit.
    Differs: the springs of lqr are the same in every episode; `suite.load` draws new ones for each seed.
    """

    def __init__(self, task: Task):
        domain, _, name = task.name.partition("-")  # the suite's own names have no hyphen
        with needing("the simulation of DM Control's tasks", "simulators"), warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="glfw")  # no screen: other backends are tried then
            suite = importlib.import_module("dm_control.suite")  # takes a second or more
        self._environment = environment = suite.load(
            domain,
            name,
            task_kwargs={"random": MODEL_SEED, "time_limit": math.inf},
            environment_kwargs={"flat_observation": True},
        )
        self.physics = environment.physics
        # At each reset quadruped-escape would create the suite's own renderer, which needs OpenGL even if
        # nothing is drawn. Two renderers return each other's pictures.
        self.physics.__class__ = type("Undrawn", (type(self.physics),), {"contexts": None})
        actions = environment.action_spec()
        limited = actions.maximum < mujoco.mjMAXVAL  # the suite's way to say that there is no limit
        self._middle = np.where(limited, (actions.maximum + actions.minimum) / 2, 0.0)
        self._reach = np.where(limited, (actions.maximum - actions.minimum) / 2, 1.0)
        super().__init__(
            *environment.observation_spec()["observations"].shape,
            *actions.shape,
            episode_limit=task.longest,
            steps_per_second=1 / environment.control_timestep(),
            view=FIRST_CAMERA,
        )

    def start(self, seed: int | None) -> np.ndarray:
        if seed is not None:
            self._environment.task.random.seed(seed)  # in place, so that the model is not rebuilt
        if self.physics.model.nhfield:
            self.close()  # the camera still shows the last episode's terrain
        return self._environment.reset().observation["observations"]

    def act(self, action: np.ndarray) -> ActResult:
        """Acts for one control step; the suite's PhysicsError if the simulation diverges."""
        control = self._middle + self._reach * np.minimum(np.maximum(action, -1.0), 1.0)
        moment = self._environment.step(control)
        return moment.observation["observations"], moment.reward, moment.discount == 0.0, {}

    def render(self) -> np.ndarray:
        self.model, self.data = self.physics.model.ptr, self.physics.data.ptr
        return super().render()
