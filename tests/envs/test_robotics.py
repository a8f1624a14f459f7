"""The Adroit hand against D4RL's own classes on today's MuJoCo, the kitchen against its data and noise."""

import importlib.util
import shutil
import sys
import types
from pathlib import Path

import h5py
import mujoco
import numpy as np
import pytest

from xql_jax.suites.tasks import get_task

pytest.importorskip("gymnasium_robotics")

from xql_jax.envs.robotics import Adroit, Kitchen

ALL_ROBOTS = pytest.mark.parametrize("robot", ["pen", "door", "hammer", "relocate"])


class OldNames:
    """A MuJoCo model or data under the names of mujoco-py."""

    def __init__(self, new):
        self._new = new

    def __getattr__(self, name):
        if name.endswith("_name2id"):
            named = getattr(self._new, name.removesuffix("_name2id"))
            return lambda element: named(element).id
        return getattr(self._new, {"body_xpos": "xpos", "body_xquat": "xquat"}.get(name, name))


class MjrlEnv:
    """mjrl's MujocoEnv, the base of D4RL's classes, on today's MuJoCo."""

    def __init__(self, path, frame_skip):
        model = mujoco.MjModel.from_xml_path(path)
        data = mujoco.MjData(model)
        self.model, self.data, self.frame_skip = OldNames(model), OldNames(data), frame_skip
        self.sim = types.SimpleNamespace(
            model=self.model,
            data=self.data,
            reset=lambda: mujoco.mj_resetData(model, data),
            forward=lambda: mujoco.mj_forward(model, data),
            step=lambda: mujoco.mj_step(model, data),
        )
        self.sim.forward()
        self.init_qpos, self.init_qvel = data.qpos.copy(), data.qvel.copy()
        self.action_space = np.zeros(model.nu)  # for its shape
        self.np_random = np.random.default_rng(0)

    def set_state(self, positions, velocities):
        self.data.qpos[:], self.data.qvel[:] = positions, velocities
        self.sim.forward()

    def do_simulation(self, controls, steps):
        self.data.ctrl[:] = controls
        for _ in range(steps):
            self.sim.step()

    def reset(self, seed):
        self.np_random = np.random.default_rng(seed)  # of the same kind as Gymnasium's: the same draws
        self.sim.reset()
        self.sim.forward()
        return self.reset_model()


@pytest.fixture
def d4rl_env(robot, d4rl_package, monkeypatch, tmp_path):
    """D4RL's own class and XML for the robot; only the base class is not its."""
    mjrl = types.ModuleType("mjrl.envs")
    mjrl.mujoco_env = types.SimpleNamespace(MujocoEnv=MjrlEnv)
    monkeypatch.setitem(sys.modules, "mjrl", types.ModuleType("mjrl"))
    monkeypatch.setitem(sys.modules, "mjrl.envs", mjrl)
    monkeypatch.setitem(sys.modules, "mujoco_py", types.SimpleNamespace(MjViewer=None))
    folder = Path(d4rl_package.__file__).parent / "hand_manipulation_suite"
    (tmp_path / "Adroit").symlink_to(folder / "Adroit")  # the meshes
    (tmp_path / "assets").mkdir()
    for file in (folder / "assets").glob("*.xml"):  # today's MuJoCo does not know this network port
        (tmp_path / "assets" / file.name).write_text(file.read_text().replace('apirate="200"', ""))
    shutil.copy(folder / f"{robot}_v0.py", tmp_path)
    spec = importlib.util.spec_from_file_location(f"d4rl_{robot}", tmp_path / f"{robot}_v0.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return getattr(module, f"{robot.capitalize()}EnvV0")()


@pytest.fixture
def env(robot):
    env = Adroit(get_task(f"{robot}-human-v1"))
    yield env
    env.close()


@ALL_ROBOTS
def test_episodes_are_those_of_d4rl(robot, env, d4rl_env):
    for seed in (0, 1, 0):
        rng = np.random.default_rng(seed)
        np.testing.assert_allclose(env.reset(seed=seed)[0], d4rl_env.reset(seed), rtol=1e-6, atol=1e-7)
        for _ in range(60):
            action = rng.uniform(-1.2, 1.2, env.action_space.shape)
            observation, reward, terminated, truncated, _ = env.step(action)
            their_observation, their_reward, done, _ = d4rl_env.step(action)
            # Ours are float32.
            np.testing.assert_allclose(observation, their_observation, rtol=1e-6, atol=1e-7)
            np.testing.assert_allclose(reward, their_reward, rtol=1e-12)
            assert (terminated, truncated) == (done, False)
            if done:
                break
        assert done == (robot == "pen")  # a random policy drops it within 60 steps from these starts


def near_goal(robot, env, rng):
    """Positions with the object anywhere between its start and its goal, or the pen turned anyhow."""
    simulation, positions = env.simulation, env.simulation.init_qpos.copy()
    simulation.set_state(positions, simulation.init_qvel)
    data = simulation.data
    if robot == "door":
        positions[-2] = rng.uniform(0, 1.57)
    elif robot == "hammer":
        positions[26] = rng.uniform(0.05, 0.1)  # the nail
        positions[29] = rng.uniform(0, 0.2)  # the hammer's height
    elif robot == "relocate":
        way = data.site("target").xpos - data.body("Object").xpos
        positions[30:33] = way * (1 - rng.uniform(0, 1) ** 3)
    else:
        aim = data.site("target_top").xpos - data.site("target_bottom").xpos

        def similarity(turn):
            data.qpos[-3:] = turn
            mujoco.mj_kinematics(simulation.model, data)
            return aim @ (data.site("object_top").xpos - data.site("object_bottom").xpos)

        positions[-3:] = max(rng.uniform(-2, 2, (rng.integers(1, 100), 3)), key=similarity)
    return positions


@pytest.mark.parametrize(
    ("robot", "levels", "goal_steps"),
    [
        # Least rewards with each number of bonuses, and in how many steps the goal has to be met.
        ("pen", [-2, 9, 59], 20),
        ("door", [-1, 1, 9, 19], 25),
        ("hammer", [-3, 22, 97], 25),
        ("relocate", [-1, 0.3, 10, 30], 25),
    ],
)
def test_bonuses_and_success_are_those_of_d4rl(robot, levels, goal_steps, env, d4rl_env):
    rng = np.random.default_rng(0)
    env.reset(seed=0)
    d4rl_env.reset(0)
    velocities = np.zeros_like(env.simulation.init_qvel)
    rewards, goals, ends = [], [], []
    for _ in range(get_task(f"{robot}-human-v1").episode_limit):
        positions = near_goal(robot, env, rng)
        env.simulation.set_state(positions, velocities)
        d4rl_env.set_state(positions, velocities)
        action = np.zeros(env.action_space.shape)
        _, reward, terminated, truncated, info = env.step(action)
        _, their_reward, done, their_info = d4rl_env.step(action)
        np.testing.assert_allclose(reward, their_reward, rtol=1e-9)
        assert (terminated, done) == (False, False)
        rewards.append(reward)
        ends.append(truncated)
        goals.append(their_info["goal_achieved"])
        succeeded = d4rl_env.evaluate_success([{"env_infos": {"goal_achieved": goals}}]) == 100.0
        assert info["success"] == succeeded == (sum(goals) > goal_steps)
    assert info["success"]
    assert ends == [False] * (len(ends) - 1) + [True]
    assert set(np.searchsorted(levels, rewards)) == set(range(1, len(levels) + 1))  # all bonuses were met


# Half-ranges of D4RL's noise by position: measured in the real file for objects at rest.
NOISE = np.array(
    [0.01] * 9 + [5e-4] * 2 + [5e-5] * 6 + [5e-4] * 3 + [0.01] * 3 + [5e-4] * 3 + [0.01] * 3 + [5e-4]
)


@pytest.fixture(scope="module")
def kitchen():
    env = Kitchen(get_task("kitchen-complete-v0"))
    yield env
    env.close()


@pytest.fixture
def demonstrations(kitchen_file):
    """The file's demonstrations: (observations f32[T, 60], actions f32[T, 9]) each."""
    with h5py.File(kitchen_file) as file:
        observations, actions, terminals = (file[key][()] for key in ("observations", "actions", "terminals"))
    ends = np.flatnonzero(terminals) + 1
    return list(zip(np.split(observations, ends), np.split(actions, ends), strict=True))[:-1]


def test_goal_and_start_are_those_of_the_real_file(kitchen, demonstrations):
    for observations, _ in demonstrations:
        start, _ = kitchen.reset(seed=0)
        np.testing.assert_array_equal(np.unique(observations[:, 30:], axis=0), start[None, 30:])
        # A demonstration's first row is not the arm's reset pose, but the objects rest where they do here, to
        # noise on both sides and a little settling.
        np.testing.assert_array_less(np.abs(start[9:30] - observations[0, 9:30]), 3 * NOISE[9:])


def test_goal_of_mixed_has_the_burner_in_place_of_the_cabinet():
    env = Kitchen(get_task("kitchen-mixed-v0"))
    goal = env.reset(seed=0)[0][30:]
    env.close()
    np.testing.assert_array_equal(np.flatnonzero(goal), [11, 12, 17, 18, 22, 23, 24, 25, 26, 29])
    np.testing.assert_allclose(goal[[11, 12, 17, 18, 22]], [-0.88, -0.01, -0.69, -0.05, -0.75])


def test_noise_is_d4rls(kitchen):
    deviations = np.array(
        [kitchen.reset(seed=seed)[0][:30] - kitchen.simulation.data.qpos[:30] for seed in range(1000)]
    )
    # The maximum of 1000 draws falls below 0.985 of the half-range with probability 3e-7; float32 rounds.
    extremes = np.abs(deviations).max(0) / NOISE
    assert (extremes > 0.985).all()
    assert (extremes < 1.005).all()
    correlations = np.corrcoef(deviations.T)[np.triu_indices(30, 1)]
    assert np.abs(correlations).max() < 0.2  # each entry has its own noise; 0.2 is six standard deviations


@pytest.mark.slow
def test_demonstrations_complete_all_tasks_once(kitchen, demonstrations):
    errors = []
    for observations, actions in demonstrations:
        kitchen.reset(seed=0)
        rewards, outcomes, positions = [], [], []
        for observation, action in zip(observations, actions, strict=True):
            positions.append(kitchen.simulation.data.qpos[:9].copy())
            # A command starts from the last noisy joint positions: give it those of the demonstration.
            kitchen.simulation.robot_env._last_robot_qpos = observation[:9].astype(float)
            _, reward, terminated, truncated, info = kitchen.step(action)
            rewards.append(reward)
            outcomes.append((terminated, truncated, info["success"]))
            if terminated:
                break
        errors.append(np.abs(positions - observations[: len(positions), :9]))
        assert sum(rewards) == 4.0
        assert set(rewards) == {0.0, 1.0}  # one at a time, each counted in one step only
        assert rewards[-1] == 1.0
        assert outcomes == [(False, False, False)] * (len(outcomes) - 1) + [(True, False, True)]
    assert len(demonstrations) == 19
    # Demonstrations start in other poses than ours, and 20 steps take the arm from one to the other. What is
    # left then is the data's noise, U(-0.01, 0.01): its absolute value has the median 0.005.
    assert max(error[20].max() for error in errors) < 0.01
    np.testing.assert_allclose(np.median(np.concatenate([error[20:] for error in errors])), 0.005, rtol=0.01)
