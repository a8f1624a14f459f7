"""HalfCheetah, Hopper and Walker2d against Gymnasium's v4 environments, bit for bit; masses by hand."""

import mujoco
import numpy as np
import pytest

from xql_jax.envs import Simulation, environment_maker
from xql_jax.envs.locomotion import ROBOTS, Locomotion
from xql_jax.suites.tasks import get_task

ALL_ROBOTS = pytest.mark.parametrize("name", ROBOTS)


def locomotion(name: str) -> Locomotion:
    return Locomotion(get_task(f"{name}-medium-v2"))


def random_actions(env: Locomotion, steps: int, seed: int = 0) -> np.ndarray:
    shape = steps, *env.action_space.shape
    return np.random.default_rng(seed).uniform(-1, 1, shape).astype(np.float32)


@ALL_ROBOTS
def test_episodes_are_gymnasiums_bit_for_bit(name):
    env, other = locomotion(name), ROBOTS[name]()
    assert env.observation_space.shape == other.observation_space.shape
    np.testing.assert_array_equal(env.action_space.low, other.action_space.low)
    ends = 0
    for seed in range(5):
        observation, _ = env.reset(seed=seed)
        np.testing.assert_array_equal(observation, other.reset(seed=seed)[0].astype(np.float32))
        for action in random_actions(env, 100, seed):
            observation, reward, terminated, truncated, _ = env.step(action)
            theirs, their_reward, their_terminated, _, _ = other.step(action)
            np.testing.assert_array_equal(observation, theirs.astype(np.float32))
            assert (reward, terminated, truncated) == (their_reward, their_terminated, False)
            if terminated:
                ends += 1
                break
    assert ends == (0 if name == "halfcheetah" else 5)


# Total masses in kg, today's and the old ones. The cheetah's file fixes its total.
MASSES = {
    "halfcheetah-medium-v2": (14.0, 14.0),
    "hopper-medium-v2": (15.820, 15.265),
    "walker2d-medium-v2": (23.677, 22.698),
    "antmaze-umaze-v2": (0.9109, 0.8787),
}
HEAVY_ROBOTS = pytest.mark.parametrize("name", MASSES)


def models(name: str) -> tuple[mujoco.MjModel, mujoco.MjModel]:
    """The model with today's masses, and with the old ones."""
    task = get_task(name)
    today, old = (
        environment_maker(task, Simulation(legacy_inertia=legacy)).make(task) for legacy in (False, True)
    )
    return today.model, old.model


def test_hopper_torso_by_hand_and_as_quoted_of_gyms_v2():
    # A cylinder of water's density, radius r, as long as the capsule's and r / 2 at each end.
    radius, length = 0.05, 2 * 0.2 + 0.05
    mass = 1000 * np.pi * radius**2 * length
    across, along = mass * (3 * radius**2 + length**2) / 12, mass * radius**2 / 2
    _, old = models("hopper-medium-v2")
    torso, thigh = old.body("torso"), old.body("thigh")
    np.testing.assert_allclose([torso.mass[0], thigh.mass[0]], [3.5343, 3.9270], atol=5e-5)
    np.testing.assert_allclose(torso.mass, mass)
    np.testing.assert_allclose(torso.inertia, [across, across, along])


@HEAVY_ROBOTS
def test_nothing_but_masses_and_what_follows_from_them_changes(name):
    today, old = models(name)
    np.testing.assert_allclose([today.body_mass.sum(), old.body_mass.sum()], MASSES[name], rtol=1e-4)
    changed = {
        key
        for key in dir(today)
        if isinstance(value := getattr(today, key), np.ndarray)
        and not np.array_equal(value, getattr(old, key))
    }
    masses = "body_mass body_inertia body_ipos body_iquat body_subtreemass body_invweight0 cam_poscom0 "
    follow = "light_poscom0 dof_M0 dof_invweight0 dof_length actuator_acc0"
    assert changed <= {*masses.split(), *follow.split()}
    # `mj_setConst` has seen the new masses: the inertia of each joint alone is that of the simulation.
    data = mujoco.MjData(old)
    mujoco.mj_forward(old, data)
    matrix = np.zeros((old.nv, old.nv))
    mujoco.mj_fullM(old, matrix, data.qM)
    np.testing.assert_allclose(old.dof_M0, np.diag(matrix))
    np.testing.assert_allclose(old.body_subtreemass[0], old.body_mass.sum())
