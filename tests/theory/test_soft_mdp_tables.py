"""How soft MDPs are made of tables and transitions, and what is refused."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mdp_runs import dense_transitions, instances, random_mdp, seeds

from xql_jax.theory.soft_mdp import SoftMDP, value_iteration

NAN = float("nan")


@instances
@given(seeds, st.integers(1, 6), st.integers(1, 4))
def test_dense_and_successor_lists_are_the_same_mdp(seed, num_states, num_actions):
    generator = np.random.default_rng(seed)
    transitions = generator.dirichlet(np.full(num_states, 0.3), (num_states, num_actions))
    transitions = np.where(transitions < 0.05, 0.0, transitions)
    transitions /= transitions.sum(-1, keepdims=True)
    rewards = generator.normal(size=(num_states, num_actions))
    behavior = generator.dirichlet(np.ones(num_actions), num_states)
    mdp = SoftMDP.dense(transitions, rewards, behavior, discount=0.9, beta=1.0)
    np.testing.assert_allclose(dense_transitions(mdp), transitions, atol=1e-15)
    assert mdp.next_states.shape[-1] == (transitions > 0).sum(-1).max()


def test_empirical_mdp_counts():
    # Pair (0, 1) thrice, to states 0, 2, 2, rewards 1, 2, 6; pair (0, 0) once, to 1; none from states 1, 2.
    mdp = SoftMDP.from_transitions(
        np.array([0, 0, 0, 0]),
        np.array([1, 1, 0, 1]),
        np.array([1.0, 2.0, 5.0, 6.0]),
        np.array([0, 2, 1, 2]),
        num_states=3,
        num_actions=2,
        discount=0.5,
        beta=1.0,
    )
    np.testing.assert_allclose(mdp.behavior, [[0.25, 0.75], [0.5, 0.5], [0.5, 0.5]])
    np.testing.assert_allclose(mdp.rewards, [[5.0, 3.0], [0.0, 0.0], [0.0, 0.0]])
    np.testing.assert_allclose(dense_transitions(mdp)[0], [[0, 1, 0], [1 / 3, 0, 2 / 3]])
    solution = value_iteration(mdp, 1e-13)
    np.testing.assert_array_equal(solution.v[1:], 0.0)
    np.testing.assert_allclose(solution.q[0], [5.0, 3.0 + solution.v[0] / 6], atol=1e-12)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"states": [-1]}, "states must be whole numbers from 0 to 2, not -1 as at 0"),
        ({"states": [3]}, "states must be .* not 3"),
        ({"actions": [2]}, "actions must be .* to 1, not 2"),
        ({"next_states": [0.5]}, "next_states must be whole numbers .* not 0.5"),
        ({"next_states": [[0]]}, r"next_states must have one axis, not the shape \(1, 1\)"),
        ({"actions": [0, 1]}, "actions has 2 entries, states 1"),
        ({"rewards": [1.0, 2.0]}, r"rewards must have the shape \(1,\), not \(2,\)"),
        ({"rewards": [NAN]}, "rewards must be finite, not nan"),
    ],
)
def test_unfit_transitions_are_refused(changes, message):
    columns = {"states": [0], "actions": [0], "rewards": [1.0], "next_states": [0]} | changes
    with pytest.raises(ValueError, match=message):
        SoftMDP.from_transitions(**columns, num_states=3, num_actions=2, discount=0.5, beta=1.0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda mdp: mdp.backup(np.zeros(6)), r"v must have the shape \(5,\), not \(6,\)"),
        (lambda mdp: mdp.soft_value(np.zeros(3)), r"q must have the shape \(5, 3\), not \(3,\)"),
        (lambda mdp: mdp.soft_value(np.full((5, 3), NAN)), "q must be finite, not nan"),
        (lambda mdp: mdp.policy(np.zeros((5, 3)), np.zeros(3)), r"v must have the shape \(5,\)"),
    ],
)
def test_values_of_another_mdp_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call(random_mdp())


def test_no_transitions_are_refused():
    nothing = np.zeros(0, int)
    with pytest.raises(ValueError, match="states is empty"):
        SoftMDP.from_transitions(
            nothing, nothing, np.zeros(0), nothing, num_states=3, num_actions=2, discount=0.5, beta=1.0
        )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"beta": 0.0}, "beta .*not 0.0"),
        ({"beta": -1.0}, "beta .*not -1.0"),
        ({"beta": NAN}, "beta .*not nan"),
        ({"beta": np.inf}, "beta .*not inf"),
        ({"discount": 1.0}, "discount .*not 1.0"),
        ({"discount": -0.1}, "discount .*not -0.1"),
        ({"discount": NAN}, "discount .*not nan"),
        ({"behavior": np.full((5, 3), 0.3)}, r"row .* of behavior must sum to 1, and sums to 0.9"),
        ({"behavior": np.tile([1.5, -0.5, 0.0], (5, 1))}, "behavior .*negative.* -0.5"),
        ({"behavior": np.full(5, 0.2)}, r"behavior .*axes.*\(5,\)"),
        (
            {"probabilities": np.full((5, 3, 3), 0.3)},
            r"row .* of probabilities must sum to 1, and sums to 0.9",
        ),
        ({"probabilities": np.full((5, 3, 2), 0.5)}, "next_states has shape"),
        ({"next_states": np.full((5, 3, 3), 5)}, "next_states .* 0 to 4.* 5"),
        ({"next_states": np.full((5, 3, 3), -1)}, "next_states .* 0 to 4.* -1"),
        ({"next_states": np.full((5, 3, 3), 0.5)}, "next_states .*whole numbers"),
        ({"rewards": np.zeros((5, 2))}, "rewards must have the shape"),
        ({"rewards": np.full((5, 3), NAN)}, "rewards must be finite, not nan"),
    ],
)
def test_impossible_mdp_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(random_mdp(), **changes)


@pytest.mark.parametrize(
    ("transitions", "message"),
    [
        (np.full((2, 2, 2), 0.4), "row .* of transitions must sum to 1, and sums to 0.8"),
        (np.full((2, 2, 4), 0.25), "transitions has shape"),
        (np.full((2, 2, 2), NAN), "transitions must be finite, not nan"),
    ],
)
def test_impossible_dense_transitions_are_refused(transitions, message):
    with pytest.raises(ValueError, match=message):
        SoftMDP.dense(transitions, np.zeros((2, 2)), np.full((2, 2), 0.5), discount=0.5, beta=1.0)


@pytest.mark.parametrize("count", ["num_states", "num_actions", "num_successors"])
def test_a_random_mdp_of_nothing_is_refused(count):
    counts = {"num_states": 2, "num_actions": 2, "num_successors": 2} | {count: 0}
    with pytest.raises(ValueError, match=f"{count} .*not 0"):
        SoftMDP.random(np.random.default_rng(0), **counts)
