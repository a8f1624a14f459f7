"""The program as an accelerator runs it, on a CPU, beside the CPU's own: equal numbers but for rounding."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from slow_cases import slow_but
from training_runs import make_data, snapshot

from xql_jax.data.dataset import Dataset
from xql_jax.data.views import view_for
from xql_jax.learners.few_kernels import SideBySide, as_kept
from xql_jax.learners.parts import CriticState, ValueFit, in_few_kernels
from xql_jax.learners.registry import OFFLINE, make_learner
from xql_jax.settings import values_of, with_values
from xql_jax.training.data_population import offline_population
from xql_jax.training.members import make_members
from xql_jax.training.program import rows_of, without_clipping
from xql_jax.types import Windows

UPDATES = 20
METHODS = [name for name in OFFLINE if make_learner(name).batch_type is not Windows]
METHODS += ["xql+reverse_kl", "xql+flow", "bc+mixture", "xsac", "xtd3", "rlpd"]


def make_population(name, together, seeds=(3,), grid=None, **changes):
    learner = make_learner(name)
    known = values_of(learner)
    small = {field: (16, 16) for field in known if field.endswith("_hidden_dims")}
    small |= {
        field: value for field, value in {"warm_start": 5.0, "num_critics": 3}.items() if field in known
    }
    learner = with_values(learner, small | changes)
    batch = make_data(size=200)
    data = view_for(learner, Dataset(batch, np.arange(200) % 20 == 19, "random")).batch
    return offline_population(learner, make_members(list(seeds), grid or {}), data, 32, together=together)


def assert_alike(population, other):
    """After some updates, in calls that do not fit into blocks; relative to each array's largest number."""
    population.most_ahead = 6
    for stop in (13, UPDATES):
        metrics, expected = population.advance(stop), other.advance(stop)
    assert jax.tree.structure(population.states) == jax.tree.structure(other.states)
    leaves = zip(snapshot((population.states, metrics)), snapshot((other.states, expected)), strict=True)
    for leaf, wanted in leaves:
        np.testing.assert_allclose(leaf, wanted, rtol=1e-4, atol=2e-4 * max(np.abs(wanted).max(), 0.1))


@pytest.mark.parametrize("name", slow_but(METHODS, "xql", "cql", "td3_bc", "xsac"))
def test_a_lone_member_has_the_numbers_of_a_cpu(name):
    assert_alike(make_population(name, True), make_population(name, False))


@pytest.mark.parametrize("name", slow_but(METHODS, "xql"))
def test_members_together_have_the_numbers_of_a_cpu(name):
    assert_alike(make_population(name, True, (3, 4)), make_population(name, False, (3, 4)))


def test_rows_that_are_read_together_are_those_of_each_array():
    """Two of one shape, another shape, another type, and keys."""
    first = jnp.arange(12.0).reshape(4, 3)
    tree = {"a": first, "b": (-first, jnp.arange(4.0)), "c": jnp.arange(12).reshape(4, 3)}
    keys = jax.random.split(jax.random.key(0), 4)
    row, key = jax.jit(lambda place: rows_of((tree, keys))(place))(2)
    jax.tree.map(np.testing.assert_array_equal, row, jax.tree.map(lambda leaf: leaf[2], tree))
    assert key == keys[2]


@pytest.mark.parametrize("limits", [[0.05], [0.05, np.inf]])
def test_gradients_are_clipped_if_any_member_asks_for_it(limits):
    grid = {"max_grad_norm": limits}
    assert_alike(make_population("xql", True, grid=grid), make_population("xql", False, grid=grid))


def test_the_norm_is_left_out_if_no_member_clips():
    """Adam takes a root for each of the six arrays of V, and the norm is one more."""
    batch = make_data()
    value = ValueFit().init(jax.random.key(0), batch.observations)

    def roots(change):
        fit = jax.jit(lambda part, value: change(part).fit(value, batch.observations, batch.rewards))
        return fit.lower(ValueFit(max_grad_norm=0.05), value).compile().as_text().count(" sqrt(")

    assert (roots(lambda part: part), roots(without_clipping)) == (7, 6)


def test_critics_side_by_side_and_back_are_the_same_bits():
    state = make_population("cql", False).member(0)[1]
    joined = in_few_kernels(state)
    assert isinstance(joined.critic, CriticState)
    for trees in (joined.critic.params, joined.critic.target, joined.critic.optimizer_state.mu):
        assert isinstance(trees, SideBySide)
        assert len(trees) == 3
    back = as_kept(joined)
    assert jax.tree.structure(back) == jax.tree.structure(state)
    for leaf, expected in zip(snapshot(back), snapshot(state), strict=True):
        np.testing.assert_array_equal(leaf, expected)
