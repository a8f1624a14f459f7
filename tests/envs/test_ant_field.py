"""The open field: what the ant sees of itself is the same wherever it is, and what a step is worth."""

import math

import gymnasium
import numpy as np
import pytest

from xql_jax.envs.ant_field import ARRIVAL, EPISODE_LIMIT, FARTHEST, NEAREST, AntField, seen_from_ant


@pytest.fixture
def field():
    environment = AntField()
    yield environment
    environment.close()


def turned(state, target, angle, shift):
    """The same ant and target, turned about z and moved; quaternions by their own definition."""
    rotation = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    moved = state.copy()
    moved[:2], moved[15:17] = rotation @ state[:2] + shift, rotation @ state[15:17]
    (w, x, y, z), (c, s) = state[3:7], (math.cos(angle / 2), math.sin(angle / 2))
    moved[3:7] = c * w - s * z, c * x - s * y, c * y + s * x, c * z + s * w
    return moved, rotation @ target + shift


def test_the_view_does_not_depend_on_place_and_direction():
    generator = np.random.default_rng(0)
    for _ in range(50):
        state, target = generator.normal(size=29), 5 * generator.normal(size=2)
        state[3:7] /= np.linalg.norm(state[3:7])
        angle, shift = generator.uniform(-3, 3), generator.normal(size=2)
        moved = turned(state, target, angle, shift)
        np.testing.assert_allclose(seen_from_ant(*moved), seen_from_ant(state, target), atol=1e-5)


def test_the_view_of_an_ant_that_faces_along_y():
    """A quarter turn to the left: what lies along y is ahead, what lies along x is to the right."""
    state = np.arange(29.0)
    state[3:7] = math.sqrt(0.5), 0.0, 0.0, math.sqrt(0.5)
    seen = seen_from_ant(state, state[:2] + np.array([3.0, 4.0]))
    np.testing.assert_allclose(seen[-2:], (0.8, -0.6), atol=1e-6)
    np.testing.assert_allclose(seen[1:5], (1, 0, 0, 0), atol=1e-6)
    np.testing.assert_allclose(seen[13:16], (state[16], -state[15], state[17]), atol=1e-6)
    assert seen[0] == state[2]
    np.testing.assert_array_equal(seen[5:13], state[7:15])
    np.testing.assert_array_equal(seen[16:27], state[18:29])


def test_a_steps_reward_is_the_way_it_went(field):
    field.reset(seed=3)
    before, target = field.data.qpos[:2].copy(), field.target.copy()
    action = np.linspace(-1, 1, 8, dtype=np.float32)
    _, reward, terminated, truncated, _ = field.step(action)
    gained = np.linalg.norm(before - target) - np.linalg.norm(field.data.qpos[:2] - target)
    assert reward == pytest.approx(10 * gained + 0.3 - 0.1 * np.mean(action**2))
    assert not terminated
    assert not truncated


def test_a_new_target_where_the_last_is_reached(field):
    field.reset(seed=0)
    field.target = field.data.qpos[:2] + 0.5 * ARRIVAL
    field.step(np.zeros(8, np.float32))
    way = math.dist(field.data.qpos[:2], field.target)
    assert NEAREST <= way <= FARTHEST


def test_an_ant_on_its_back_ends_the_episode(field):
    field.reset(seed=0)
    position, velocity = field.data.qpos.copy(), field.data.qvel.copy()
    position[2:7] = 0.5, 0.0, 1.0, 0.0, 0.0
    field.set_state(position, velocity)
    assert field.step(np.zeros(8, np.float32))[2]


def test_by_the_registry_an_episode_depends_on_its_seed_alone():
    environment = gymnasium.make("xql_jax.envs.ant_field:AntField-v0")
    first, _ = environment.reset(seed=7)
    for _ in range(EPISODE_LIMIT - 1):
        assert not environment.step(np.zeros(8, np.float32))[3]
    assert environment.step(np.zeros(8, np.float32))[3]
    again, _ = environment.reset(seed=7)
    np.testing.assert_array_equal(first, again)
    environment.close()
