"""Antmaze's own data: where the ant sets out and where it walks, and that it gets there."""

import numpy as np
import pytest
from antmaze_data import PLAY_CELLS, generate_antmaze, set_out

from xql_jax.data.rows import ends_of
from xql_jax.envs.ant_maze import AntMaze, cell_middle
from xql_jax.envs.mazes import GOAL_RADIUS, MAZES
from xql_jax.suites.tasks import get_task

UMAZE = get_task("antmaze-umaze-v2")


@pytest.fixture(scope="module")
def umaze():
    return generate_antmaze(UMAZE, 2_000, seed=0)


def episodes(rows):
    stops = np.flatnonzero(ends_of(rows)) + 1
    return [slice(start, stop) for start, stop in zip([0, *stops[:-1]], stops, strict=True)]


def in_cell(place, cell):
    """Goals are drawn up to 1.5 m beyond a cell's middle."""
    beyond = place - cell_middle(cell)
    return (beyond >= 0).all() and (beyond <= 1.5).all()


def test_rewards_and_ends_are_the_evaluations_and_a_row_explains_the_next(umaze):
    distance = np.linalg.norm(umaze["next_observations"][:, :2] - umaze["infos/goal"], axis=1)
    np.testing.assert_array_equal(umaze["rewards"], distance <= GOAL_RADIUS)
    np.testing.assert_array_equal(umaze["terminals"], distance <= GOAL_RADIUS)
    assert not (umaze["terminals"] & umaze["timeouts"]).any()
    assert ends_of(umaze)[-1]
    inside = ~ends_of(umaze)[:-1]
    np.testing.assert_array_equal(umaze["next_observations"][:-1][inside], umaze["observations"][1:][inside])
    assert np.abs(umaze["actions"]).max() <= 1


def test_umaze_goes_from_the_start_to_the_goal(umaze):
    np.testing.assert_array_equal(umaze["infos/goal"], umaze["infos/target"])
    whole = episodes(umaze)[:-1]  # the last one is cut off
    assert len(whole) >= 5
    for rows in whole:
        assert np.abs(umaze["observations"][rows][0, :2]).max() <= 0.1
        assert len(np.unique(umaze["infos/goal"][rows], axis=0)) == 1
        assert in_cell(umaze["infos/goal"][rows][0], (3, 1))
    arrived = sum(umaze["terminals"][rows].any() for rows in whole)
    assert arrived >= 0.7 * len(whole)


@pytest.mark.parametrize(
    ("name", "targets"),
    [
        ("antmaze-umaze-diverse-v2", MAZES["umaze"].free_cells.tolist()),
        ("antmaze-medium-play-v2", PLAY_CELLS["medium"]),
        ("antmaze-large-play-v2", PLAY_CELLS["large"]),
        ("antmaze-large-diverse-v2", MAZES["large"].free_cells.tolist()),
    ],
)
def test_starts_and_targets(name, targets):
    """Starts are in free cells, targets where goals are drawn in the kind's cells, all of which come up."""
    task, free = get_task(name), set(map(tuple, MAZES[name.split("-")[1]].free_cells.tolist()))
    environment, rng = AntMaze(task), np.random.default_rng(0)
    found_starts, found_targets = set(), set()
    for _ in range(60 * len(targets)):
        state, target, waypoints = set_out(task, environment, rng)
        start, end = (np.floor((place + 2) / 4).astype(int) + 1 for place in (state[:2], target))
        found_starts.add((start[1], start[0]))
        found_targets.add((end[1], end[0]))
        assert waypoints[-1] is target
        assert in_cell(target, (end[1], end[0]))
    assert found_targets == set(map(tuple, targets)) <= free
    assert found_starts <= free
    assert len(found_starts) >= 0.9 * len(free)
