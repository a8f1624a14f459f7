"""What enters a policy: an action within its bounds comes out, a finite value, or one line."""

import decimal

import jax
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from python_cases import SMALL

import xql_jax
from xql_jax.errors import UserError

LIKE_OBSERVATIONS = arrays.arrays(
    st.sampled_from([np.float64, np.float32, np.int64, np.bool_, np.complex64, "U3", object]),
    st.sampled_from([(3,), (2, 3), (2, 1, 3), (0, 3), (4,), (3, 2), ()]),
)
THINGS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3) | st.complex_numbers(),
    lambda each: (
        st.lists(each, max_size=3)
        | st.tuples(each, each)
        | st.tuples(each, st.dictionaries(st.text(max_size=2), each, max_size=1))
        | st.dictionaries(st.text(max_size=2), each, max_size=2)
    ),
    max_leaves=4,
)
NUMBERS = st.lists(st.floats(width=32) | st.floats() | st.integers(), min_size=3, max_size=3)
GIVEN = LIKE_OBSERVATIONS | THINGS | NUMBERS | NUMBERS.map(tuple) | NUMBERS.map(np.array)


def rows(size=300):
    """Whatever is done ends the episode, and pays -a²; three numbers are seen, and two decided on."""
    generator = np.random.default_rng(0)
    seen, actions = generator.uniform(-1, 1, (size, 3)), generator.uniform(-1, 1, (size, 2))
    ends = {"next_observations": seen, "terminals": np.ones(size)}
    return {"observations": seen, "actions": actions, "rewards": -(actions[:, 0] ** 2), **ends}


@pytest.fixture(scope="module")
def policy():
    return xql_jax.train(dataset=rows(), max_steps=20, num_seeds=2, **SMALL).select(seed=43)


def found_or_told(ask, *given):
    """What it gives; None if one line refuses it, and nothing else may."""
    try:
        return np.asarray(ask(*given))
    except UserError:  # whose message is one line
        return None


@settings(max_examples=200)
@given(given=GIVEN, key=st.none() | st.integers(-1, 2**70) | THINGS)
@example(given=[3e38, -3e38, 3e38], key=None)  # finite, and beyond what the networks multiply
@example(given=[1e39, 0, 0], key=None)
@example(given=[decimal.Decimal(1)] * 3, key=None)
@example(given=[10**400, 0, 0], key=None)
@example(given=np.ma.masked_array([1e30, 2, 3], [1, 0, 0]), key=None)
@example(given=[np.ma.masked_array([1e30, 2, 3], [1, 0, 0])], key=None)
@example(given=([0.0, 0.0, 0.0], {}), key=None)
@example(given=[0.0, 0.0, 0.0], key=jax.numpy.zeros(3, jax.numpy.uint32))
def test_whatever_is_given_an_action_within_its_bounds_comes_out_or_one_line(policy, given, key):
    action = found_or_told(policy, given, key)
    if action is not None:
        assert action.shape == (*np.shape(given)[:-1], 2)
        assert (np.abs(action) <= 1).all()  # NaN is not
        chunk = found_or_told(policy.chunk, given, key)
        np.testing.assert_array_equal(chunk, action[..., None, :])
    value = found_or_told(policy.value, given)
    assert value is None or (value.shape == np.shape(given)[:-1] and np.isfinite(value).all())


@settings(max_examples=100)
@given(given=GIVEN | st.lists(st.floats(-1, 1), min_size=2, max_size=2))
@example(given=[[0.5, 0.5]])
@example(given=[[0.5, 0.5], [0.5, 0.5]])
def test_whatever_actions_are_given_q_is_finite_or_one_line(policy, given):
    q = found_or_told(policy.q, np.zeros(3), given)
    assert q is None or (q.shape == () and np.isfinite(q) and np.size(given) == 2)


def test_more_axes_are_a_batch_and_chunks_of_one_action_are_actions(policy):
    seen = np.random.default_rng(1).uniform(-1, 1, (4, 2, 3))
    flat = seen.reshape(8, 3)
    np.testing.assert_array_equal(policy(seen), policy(flat).reshape(4, 2, 2))
    np.testing.assert_array_equal(policy(seen.tolist()), policy(seen))
    expected = policy.q(flat, policy(flat))
    np.testing.assert_array_equal(policy.q(flat, policy.chunk(flat)), expected)
    np.testing.assert_array_equal(policy.q(seen, policy.chunk(seen)), expected.reshape(4, 2))


def test_all_bits_of_a_key_count(policy):
    actions = {key: policy([0.1, 0.2, 0.3], key=key).tobytes() for key in (0, 1, 2**31, 2**32 - 1, -1)}
    assert actions[-1] == actions.pop(2**32 - 1)  # as `jax.random.key` has it
    assert len(set(actions.values())) == len(actions)
    for key in (2**32, -(2**31) - 1):
        with pytest.raises(UserError, match="key: must be a whole number of 32 bits"):
            policy([0.1, 0.2, 0.3], key=key)
