"""The ant's maze against D4RL's own classes and XML; its open field."""

import importlib
import math
import sys
import tempfile
import types
from pathlib import Path

import ant_field
import mujoco
import numpy as np
import pytest

from xql_jax.envs.ant_maze import AntMaze
from xql_jax.envs.mazes import MAZES
from xql_jax.suites.tasks import get_task

ALL_MAZES = pytest.mark.parametrize("name", MAZES)
# By maze: D4RL's name of its map, and the corner of the square of 1.5 in which its goals lie.
D4RL_MAPS = {"umaze": "U_MAZE_TEST", "medium": "BIG_MAZE_TEST", "large": "HARDEST_MAZE_TEST"}
GOAL_CORNERS = {"umaze": (0.0, 8.0), "medium": (20.0, 20.0), "large": (32.0, 24.0)}
AWAY = np.array([1.2, 1.2] + 13 * [0.0])  # a start less this has its feet in the walls of a corner


def ant_maze(name: str = "umaze") -> AntMaze:
    return AntMaze(get_task(f"antmaze-{name}-{'' if name == 'umaze' else 'play-'}v2"))


def random_actions(steps: int) -> np.ndarray:
    """Each is kept for five steps, so that the ant gets about and tumbles."""
    return np.repeat(np.random.default_rng(0).uniform(-1, 1, (steps // 5, 8)), 5, axis=0)


def touches_a_wall(env: AntMaze) -> bool:
    walls = np.flatnonzero(env.model.geom_type == mujoco.mjtGeom.mjGEOM_BOX)
    return bool(np.isin(env.data.contact.geom, walls).any())


class GymMujocoEnv:
    """What D4RL's ant needs of Gym's class of that name, on today's MuJoCo."""

    dt = 0.1

    def __init__(self, file: str, frame_skip: int):
        self.model = mujoco.MjModel.from_xml_path(file)
        self.data = mujoco.MjData(self.model)
        self.sim = self
        self.frame_skip = frame_skip
        self.init_qpos, self.init_qvel = self.data.qpos.copy(), self.data.qvel.copy()
        self.action_space = types.SimpleNamespace(shape=(self.model.nu,))
        self.observation_space = None

    def reset(self):
        mujoco.mj_resetData(self.model, self.data)
        return self.reset_model()

    def set_state(self, qpos, qvel):
        self.data.qpos[:], self.data.qvel[:] = qpos, qvel
        mujoco.mj_normalizeQuat(self.model, self.data.qpos)  # a part of `mj_forward` until MuJoCo 3.2.0
        mujoco.mj_forward(self.model, self.data)

    def do_simulation(self, ctrl, steps):
        self.data.ctrl[:] = ctrl
        mujoco.mj_step(self.model, self.data, steps)

    def get_body_com(self, name):
        return self.data.body(name).xpos

    def state_vector(self):
        return np.concatenate((self.data.qpos, self.data.qvel))


@pytest.fixture
def d4rl_env(name, d4rl_package, monkeypatch, tmp_path):
    """D4RL's own environment with v2's rule; MuJoCo and the generators are today's."""
    gym = importlib.import_module("gym")
    mujoco_env = types.ModuleType("gym.envs.mujoco.mujoco_env")
    mujoco_env.MujocoEnv = type("MujocoEnv", (GymMujocoEnv, gym.Env), {})
    gym_mujoco = types.ModuleType("gym.envs.mujoco")
    gym_mujoco.mujoco_env = mujoco_env
    package = types.ModuleType("d4rl.locomotion")  # its own one would register ids with gym
    package.__path__ = [str(Path(d4rl_package.__file__).parent / "locomotion")]
    for module in (mujoco_env, gym_mujoco, package):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setitem(sys.modules, "mujoco_py", types.SimpleNamespace(get_version=lambda: "2.1"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))  # it leaves an XML file behind
    monkeypatch.delattr(d4rl_package, "locomotion", raising=False)
    ant = importlib.import_module("d4rl.locomotion.ant")
    maze_env = importlib.import_module("d4rl.locomotion.maze_env")
    env = ant.make_ant_maze_env(
        maze_map=getattr(maze_env, D4RL_MAPS[name]),
        maze_size_scaling=4.0,
        reward_type="sparse",
        eval=True,
        non_zero_reset=False,
        v2_resets=True,
    ).wrapped_env

    def seed(number):
        rng = np.random.default_rng(number)
        env.np_random = types.SimpleNamespace(uniform=rng.uniform, randn=rng.standard_normal)
        monkeypatch.setattr(np.random, "uniform", rng.uniform)  # where it draws the goal from

    env.seed = seed
    yield env
    for module in [key for key in sys.modules if key.startswith("d4rl.locomotion.")]:
        del sys.modules[module]


@ALL_MAZES
def test_episodes_are_those_of_d4rl(name, d4rl_env):
    env = ant_maze(name)
    contacts = 0
    for seed in range(2):
        d4rl_env.seed(seed)
        observation, their_observation = env.reset(seed=seed)[0], d4rl_env.reset()
        np.testing.assert_allclose(observation, their_observation, atol=1e-6)  # ours are float32
        np.testing.assert_array_equal(env.goal, d4rl_env.target_goal)
        if seed == 1:
            start = env.data.qpos - AWAY, env.data.qvel.copy()
            env.set_state(*start)
            mujoco.mj_resetData(d4rl_env.model, d4rl_env.data)
            d4rl_env.set_state(*start)
            d4rl_env.set_target(start[0][:2] + np.array([0.6, 0.0]))
            env.goal = np.array(d4rl_env.target_goal)
        for action in random_actions(150):
            observation, reward, terminated, truncated, _ = env.step(action)
            their_observation, their_reward, done, _ = d4rl_env.step(30.0 * action)
            contacts += touches_a_wall(env)
            np.testing.assert_allclose(env.data.qpos, d4rl_env.data.qpos, atol=1e-10)
            np.testing.assert_allclose(env.data.qvel, d4rl_env.data.qvel, atol=1e-10)
            np.testing.assert_allclose(observation, their_observation, atol=1e-6, rtol=1e-6)
            assert (reward, terminated, truncated) == (their_reward, done, False)
            if done:
                break
        assert done == (seed == 1)
    assert contacts > 0


@ALL_MAZES
def test_goals_are_drawn_once_in_v0_and_v1(name):
    data = "-diverse" if name == "umaze" else "-play"
    for version in ("v0", "v1"):
        env = AntMaze(get_task(f"antmaze-{name}{data}-{version}"))
        for seed in range(3):
            env.reset(seed=seed)
            # One draw, the same in every process.
            np.testing.assert_allclose(env.goal - GOAL_CORNERS[name], [0.657, 0.278], atol=1e-3)


def test_the_field_pays_the_way_to_its_targets_and_ends_with_an_ant_on_its_back():
    field = ant_field.AntField()
    field.reset(seed=3)
    before, target = field.data.qpos[:2].copy(), field.target.copy()
    action = np.linspace(-1, 1, 8, dtype=np.float32)
    _, reward, terminated, truncated, _ = field.step(action)
    gained = np.linalg.norm(before - target) - np.linalg.norm(field.data.qpos[:2] - target)
    assert reward == pytest.approx(10 * gained + 0.3 - 0.1 * np.mean(action**2))
    assert (terminated, truncated) == (False, False)
    field.target = field.data.qpos[:2] + 0.5 * ant_field.ARRIVAL
    field.step(np.zeros(8, np.float32))
    distance = math.dist(field.data.qpos[:2], field.target)  # of a new one
    assert ant_field.NEAREST <= distance <= ant_field.FARTHEST
    position, velocity = field.data.qpos.copy(), field.data.qvel.copy()
    position[2:7] = 0.5, 0.0, 1.0, 0.0, 0.0
    field.set_state(position, velocity)
    assert field.step(np.zeros(8, np.float32))[2]
