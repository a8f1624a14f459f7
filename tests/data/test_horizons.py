"""Transitions over several steps, of data and of a replay buffer, against episodes walked by hand."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from learners_views import over_horizon, with_next_actions

from xql_jax.data import replay
from xql_jax.data.dataset import check_order, from_transitions
from xql_jax.data.replay import PriorData, Spans
from xql_jax.errors import UserError
from xql_jax.types import EpisodeBatch, Horizon

DISCOUNT = 0.9
EPISODES = st.lists(st.tuples(st.integers(1, 7), st.booleans()), min_size=1, max_size=6)
HORIZONS = st.builds(Horizon, st.integers(2, 5), st.booleans())


def rows_of(episodes, seed=0):
    """Rows of episodes, each given by its length and by whether it ends in a terminal, else in a time-out."""
    generator, rows = np.random.default_rng(seed), []
    for number, (length, is_terminal) in enumerate(episodes):
        states = 100.0 * number + np.arange(length + 1)
        for step in range(length):
            rows.append(
                {
                    "observations": [states[step]],
                    "next_observations": [states[step + 1]],
                    "actions": generator.uniform(-1, 1, 2),
                    "rewards": generator.normal(),
                    "terminals": is_terminal and step == length - 1,
                    "timeouts": not is_terminal and step == length - 1,
                }
            )
    arrays = {name: np.array([row[name] for row in rows]) for name in rows[0]}
    return {name: array if array.dtype == bool else np.float32(array) for name, array in arrays.items()}


def by_hand(rows, start, horizon, stop, stride=1):
    """The transition from row `start`: reward, mask, next state, actions, valid; and whether it is whole.

    It is walked one step at a time until the horizon, the episode's end or the last row before `stop`.
    """
    reward, actions, discount, row = 0.0, [], 1.0, start
    for step in range(horizon.steps):
        row = start + step * stride
        reward += discount * rows["rewards"][row]
        actions.append(rows["actions"][row])
        if rows["terminals"][row] or rows["timeouts"][row] or row + stride >= stop:
            break
        discount *= DISCOUNT
    length = len(actions)
    is_whole = bool(length == horizon.steps or rows["terminals"][row])
    mask = 0.0 if rows["terminals"][row] else DISCOUNT ** (length - 1)
    valid = [1.0] * length + [0.0] * (horizon.steps - length)
    return reward, mask, rows["next_observations"][row], actions, valid, is_whole


def assert_is(batch, index, expected, horizon):
    reward, mask, following, actions, valid, _ = expected
    np.testing.assert_allclose(batch.rewards[index], reward, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(batch.masks[index], mask, rtol=1e-6)
    np.testing.assert_array_equal(batch.next_observations[index], following)
    if not horizon.is_chunk:
        np.testing.assert_array_equal(batch.actions[index], actions[0])
        return
    np.testing.assert_array_equal(batch.valid[index], valid)
    chunk = batch.actions[index].reshape(horizon.steps, -1)
    np.testing.assert_array_equal(chunk[: len(actions)], actions)


@given(EPISODES, HORIZONS)
@settings(max_examples=100, deadline=None)
def test_the_view_of_data(episodes, horizon):
    rows = rows_of(episodes)
    size = len(rows["rewards"])
    assume(2 * rows["timeouts"].sum() <= size)  # else the rows count as shuffled
    expected = [by_hand(rows, start, horizon, size) for start in range(size)]
    kept = [start for start in range(size) if not horizon.is_chunk or expected[start][-1]]
    if not kept:
        with pytest.raises(UserError, match="its trajectories have up to"):
            over_horizon(from_transitions(rows, "x"), horizon, DISCOUNT)
        return
    view = over_horizon(from_transitions(rows, "x"), horizon, DISCOUNT)
    np.testing.assert_array_equal(view.batch.observations, rows["observations"][kept])
    for index, start in enumerate(kept):
        assert_is(view.batch, index, expected[start], horizon)
    numbers = rows["observations"][kept][:, 0] // 100
    np.testing.assert_array_equal(view.ends, np.append(numbers[1:] != numbers[:-1], True))


@pytest.mark.parametrize(("discount", "steps"), [(0.0, 3), (0.5, 160)])
def test_a_chunk_is_cut_by_a_time_out_however_small_the_discount(discount, steps):
    """The discount's power is 0 in float32, as a terminal's mask is."""
    rows = rows_of([(200, False), (200, False)])
    view = over_horizon(from_transitions(rows, "x"), Horizon(steps, True), discount)
    assert view.size == 2 * (200 - steps + 1)
    assert view.batch.valid.all()


def filled(rows, capacity, times=1):
    ends = np.float32(rows["terminals"] | rows["timeouts"])
    fields = rows["observations"], rows["actions"], rows["rewards"], 1.0 - rows["terminals"]
    batch = EpisodeBatch(*map(jnp.float32, (*fields, rows["next_observations"], ends)))
    buffer, size = replay.empty(capacity, 1, 2, EpisodeBatch), len(rows["rewards"])
    for first in range(0, size, times):
        buffer = replay.insert(buffer, jax.tree.map(lambda field, at=first: field[at : at + times], batch))
    return buffer


@given(EPISODES, HORIZONS, st.integers(0, 5), st.integers(1, 2))
@settings(max_examples=60, deadline=None)
def test_transitions_of_a_ring_that_environments_fill_in_turn(episodes, horizon, lost, environments):
    one = rows_of(episodes)
    rows = {name: np.repeat(array, environments, axis=0) for name, array in one.items()}
    rows["rewards"] *= np.tile(np.arange(1.0, 1 + environments, dtype=np.float32), len(one["rewards"]))
    size = len(rows["rewards"])
    capacity = max(environments, size - lost * environments)
    buffer = filled(rows, capacity, environments)
    held = np.arange(size - capacity, size)
    spans = Spans(DISCOUNT, horizon, environments)
    batch = replay.take(buffer, jnp.asarray(held % capacity), spans)
    for index, start in enumerate(held):
        assert_is(batch, index, by_hand(rows, start, horizon, size, environments), horizon)


@pytest.mark.parametrize("fraction", [None, 0.5])
def test_chunks_are_drawn_evenly_from_those_that_were_carried_out(fraction):
    """The buffer draws, as the data have, no chunk that a time-out cuts, and each other one as often."""
    horizon, rows = Horizon(3, True), rows_of([(6, False), (4, True), (5, False)])
    whole = [by_hand(rows, start, horizon, 15)[-1] for start in range(15)]
    offline = over_horizon(from_transitions({**rows, "rewards": rows["rewards"] + 50}, "x"), horizon, 1.0)
    prior = PriorData(jax.tree.map(jnp.asarray, offline.batch), fraction, capacity=1_000)
    buffer, spans = filled(rows, 20), Spans(1.0, horizon)
    drawn = replay.sample_buffer(buffer, jax.random.key(0), 8_000, prior, spans)
    online = np.asarray(drawn.rewards) < 50
    seen, counts = np.unique(np.asarray(drawn.observations)[online, 0], return_counts=True)
    np.testing.assert_array_equal(seen, rows["observations"][whole, 0])
    assert counts.max() < 1.3 * counts.min()
    share = 0.5 if fraction else sum(whole) / (sum(whole) + offline.size)
    np.testing.assert_allclose(online.mean(), share, atol=0.02)


@pytest.mark.parametrize("horizon", [Horizon(3, True), Horizon(3, False)])
def test_a_minibatch_of_data_alone(horizon):
    rows = rows_of([(6, True)])
    offline = over_horizon(from_transitions(rows, "x"), horizon, DISCOUNT)
    prior = PriorData(jax.tree.map(jnp.asarray, offline.batch), 1.0, capacity=100)
    buffer = filled({**rows, "observations": rows["observations"] + 50}, 20)
    drawn = replay.sample_buffer(buffer, jax.random.key(0), 100, prior, Spans(DISCOUNT, horizon))
    assert set(np.asarray(drawn.observations)[:, 0]) == set(offline.batch.observations[:, 0])


def test_where_no_chunk_is_whole_it_is_cut():
    horizon, rows = Horizon(3, True), rows_of([(2, False), (1, False)])
    batch = replay.sample_buffer(filled(rows, 4), jax.random.key(0), 64, spans=Spans(DISCOUNT, horizon))
    for index in range(64):
        start = int(np.flatnonzero(rows["observations"][:, 0] == batch.observations[index, 0])[0])
        assert_is(batch, index, by_hand(rows, start, horizon, 3), horizon)


def test_ends_of_episodes_that_a_resumption_breaks():
    rows = rows_of([(6, False)])
    rows["timeouts"][:] = False
    buffer = jax.tree.map(np.array, filled(rows, 4))
    marked = replay.end_episodes(buffer, 2)
    np.testing.assert_array_equal(marked.data.ends, [1, 1, 0, 0])  # transitions 4 and 5, in rows 0 and 1


def paths(depth, discount, is_terminal):
    """All paths of a tree in which the data's policy takes one of two actions, and exact values V(s).

    A state is the path so far. After `depth` steps an episode ends: in a terminal or a time-out.
    """
    generator = np.random.default_rng(1)
    states = [path for length in range(depth + 1) for path in itertools.product((0, 1), repeat=length)]
    number = {state: index for index, state in enumerate(states)}
    reward = {state: generator.normal() for state in states}
    beyond = 0.0 if is_terminal else 7.0  # V where a time-out leaves an episode
    exact = {state: beyond for state in states if len(state) == depth}
    for state in reversed([state for state in states if len(state) < depth]):
        exact[state] = np.mean([reward[(*state, a)] + discount * exact[(*state, a)] for a in (0, 1)])
    rows = {name: [] for name in ("observations", "next_observations", "actions", "rewards", "terminals")}
    timeouts = []
    for path in itertools.product((0, 1), repeat=depth):
        for step in range(depth):
            here, there = path[:step], path[: step + 1]
            rows["observations"].append([number[here]])
            rows["next_observations"].append([number[there]])
            rows["actions"].append([2.0 * path[step] - 1])
            rows["rewards"].append(reward[there])
            rows["terminals"].append(is_terminal and step == depth - 1)
            timeouts.append(not is_terminal and step == depth - 1)
    kinds = {"terminals": bool}
    arrays = {name: np.asarray(values, kinds.get(name, np.float32)) for name, values in rows.items()}
    values = np.array([exact[state] for state in states])
    return arrays | {"timeouts": np.array(timeouts)}, values, beyond


@pytest.mark.parametrize("is_terminal", [True, False])
@pytest.mark.parametrize("steps", [1, 2, 3, 5])
def test_the_fixed_point_with_n_step_returns_is_the_value_of_the_datas_policy(steps, is_terminal):
    """V(s) = mean of r + discount * mask * V(s') over the data's transitions, solved exactly."""
    rows, exact, beyond = paths(4, DISCOUNT, is_terminal)
    batch = over_horizon(from_transitions(rows, "x"), Horizon(steps), DISCOUNT).batch
    here, there = (np.asarray(field[:, 0], int) for field in (batch.observations, batch.next_observations))
    size = len(exact)
    counts = np.bincount(here, minlength=size)
    weights = np.zeros((size, size))
    np.add.at(weights, (here, there), DISCOUNT * batch.masks / counts[here])
    constants = np.bincount(here, batch.rewards / counts[here], size)
    constants[counts == 0] = beyond
    np.testing.assert_allclose(np.linalg.solve(np.eye(size) - weights, constants), exact, atol=1e-5)


def test_time_outs_that_are_stated_are_no_jumps():
    """Episodes of one step are in order, however many; the same rows without time-outs may not be."""
    rows = rows_of([(1, False)] * 6)
    stated = from_transitions(rows | {"timeouts": np.ones(6)}, "x")
    assert over_horizon(stated, Horizon(2), DISCOUNT).batch.rewards.tolist() == rows["rewards"].tolist()
    rows["next_observations"] = rows["next_observations"] + 100
    check_order(stated, "sequences")
    with pytest.raises(UserError, match="are the rows shuffled"):
        check_order(from_transitions({**rows, "timeouts": np.zeros(6)}, "x"), "sequences")
    with pytest.raises(UserError, match="every step is cut off by a time-out"):
        with_next_actions(from_transitions(rows | {"timeouts": np.ones(6)}, "x"))
