"""The program as an accelerator runs it, on a CPU, beside the CPU's own: equal numbers but for rounding."""

import dataclasses
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from slow_cases import slow_but
from training_runs import make_data, offline_trainer, snapshot

from xql_jax.data.dataset import Dataset
from xql_jax.data.views import view_for
from xql_jax.learners.method import Method, Part
from xql_jax.learners.parts import (
    ADAM,
    CriticState,
    MomentsTogether,
    SideBySide,
    ValueFit,
    adam,
    adam_in_few_kernels,
)
from xql_jax.learners.registry import OFFLINE, make_learner
from xql_jax.learners.xql import InSample, TemporalDifference
from xql_jax.networks.mlp import WITH_BIAS
from xql_jax.runs.varied import parse_ramps
from xql_jax.settings import internal, settings_of, values_of, with_values
from xql_jax.training.accelerator import (
    constant_numbers,
    in_few_kernels,
    in_usual_form,
    packed,
    with_constants,
)
from xql_jax.training.members import learners_of, make_members, stacked
from xql_jax.types import Batch, Windows

UPDATES = 20
METHODS = [name for name in OFFLINE if make_learner(name).batch_type is not Windows]
METHODS += ["xql+reverse_kl", "xql+trust_region", "xql+flow", "bc+mixture", "xsac", "xtd3", "rlpd"]


def make_trainer(name, together, seeds=(3,), grid=None, **changes):
    learner = make_learner(name)
    known = values_of(learner)
    small = {field: (16, 16) for field in known if field.endswith("_hidden_dims")}
    small |= {
        field: value
        for field, value in {"warm_start": 5.0, "cloning_updates": 5.0, "num_critics": 3}.items()
        if field in known
    }
    learner = with_values(learner, small | changes)
    batch = make_data(size=200)
    data = view_for(learner, Dataset(batch, np.arange(200) % 20 == 19, "random")).batch
    return offline_trainer(learner, make_members(list(seeds), grid or {}), data, 32, together=together)


def assert_alike(trainer, other):
    """After some updates, in calls that do not fit into blocks; relative to each array's largest number."""
    trainer.population.source = dataclasses.replace(trainer.population.source, most_ahead=6)
    for stop in (13, UPDATES):
        metrics, expected = trainer.advance(stop), other.advance(stop)
    assert jax.tree.structure(trainer.population.states) == jax.tree.structure(other.population.states)
    leaves = zip(
        snapshot((trainer.population.states, metrics)),
        snapshot((other.population.states, expected)),
        strict=True,
    )
    for leaf, wanted in leaves:
        np.testing.assert_allclose(leaf, wanted, rtol=1e-4, atol=2e-4 * max(np.abs(wanted).max(), 0.1))


@pytest.mark.parametrize("name", slow_but(METHODS, "xql", "cql", "td3_bc", "xsac", "xql+trust_region"))
def test_a_lone_member_has_the_numbers_of_a_cpu(name):
    assert_alike(make_trainer(name, True), make_trainer(name, False))


@pytest.mark.parametrize("name", slow_but(METHODS, "xql"))
def test_members_together_have_the_numbers_of_a_cpu(name):
    assert_alike(make_trainer(name, True, (3, 4)), make_trainer(name, False, (3, 4)))


@pytest.mark.parametrize(
    "grid",
    [{"max_grad_norm": [0.05]}, {"max_grad_norm": [0.05, np.inf]}, {"critic_weight_decay": [0.0, 0.5]}],
)
def test_what_one_member_asks_for_is_not_left_out(grid):
    assert_alike(make_trainer("xql", True, grid=grid), make_trainer("xql", False, grid=grid))


def test_members_that_get_other_numbers_later_have_these_in_their_program():
    """The population's own learner has 0 for both, which would be constants of its program."""
    trainers = [make_trainer("xql", which, (3, 4), awr_temperature=0.0) for which in (True, False)]
    for trainer in trainers:
        assert trainer.advance(1)["actor/awr_temperature"].tolist() == [0.0, 0.0]
        own = [with_values(trainer.population.learner, {"awr_temperature": one}) for one in (0.5, 8.0)]
        trainer.population.set_in_members(learner=stacked([jax.tree.map(jnp.asarray, one) for one in own]))
    assert_alike(*trainers)
    assert trainers[0].advance(UPDATES + 1)["actor/awr_temperature"].tolist() == [0.5, 8.0]


def test_critics_and_first_layers_joined_and_back_are_the_same_bits():
    state = make_trainer("cql", False).population.member(0)[1]
    joined = in_few_kernels(state)
    for trees in (joined.critic.params, joined.critic.target, joined.critic.optimizer_state.mu):
        assert isinstance(trees, SideBySide)
        assert trees[0]["params"]["MLP_0"]["Dense_0"].keys() == {WITH_BIAS}
    again = in_few_kernels(joined)
    assert jax.tree.structure(again) == jax.tree.structure(joined)
    back = in_usual_form(joined)
    assert jax.tree.structure(back) == jax.tree.structure(state)
    for leaf, expected in zip(snapshot(back), snapshot(state), strict=True):
        np.testing.assert_array_equal(leaf, expected)


class Pair(NamedTuple):
    first: Any
    second: Any


class OwnCriticState(CriticState, kw_only=True):
    sizes: tuple
    averages: tuple  # of the networks


class OwnCritic(TemporalDifference):
    """Critics of a method of the package, with their averages and with leaves of several shapes."""

    def init(self, keys, observations, actions):
        critic = super().init(keys, observations, actions)
        averages = jax.tree.map(jnp.copy, critic.params)
        own = OwnCriticState.create(
            critic.network, critic.params, sizes=(jnp.zeros(2), jnp.zeros(3)), averages=averages
        )
        return own.with_target()

    def fit(self, critic, batch, targets, loss=None):
        critic, info = super().fit(critic, batch, targets, loss)
        averages = jax.tree.map(lambda old, new: 0.9 * old + 0.1 * new, critic.averages, critic.params)
        return critic.replace(averages=averages), info


class OwnFit(ValueFit):
    """Calls the network itself."""

    def fit(self, value, observations, targets, loss=None):
        def objective(params):
            return ((value.network.apply(params, observations) - targets) ** 2).mean(), {}

        return self.minimize(value, objective, self.value_lr)


class OwnLearner(Part):
    """Optimisers of one's own in states of several kinds, beside the package's critics."""

    tx: Any = internal(optax.adam(1e-2))
    batch_type: ClassVar[type] = Batch

    def init(self, key, observations, actions):
        params = jnp.zeros((observations.shape[-1], 2)), jnp.zeros((observations.shape[-1], 3))
        critic = CRITIC.init(jax.random.split(key), observations, actions)
        own = critic.replace(optimizer_state=self.tx.init(critic.params), target=None)
        states = Pair(self.tx.init(params), [ADAM.init(params)])
        return {"params": params, "states": states, "own": own, "critic": critic.with_target()}

    def update(self, state, batch, key):
        def loss(params):
            return sum(((batch.observations @ each) ** 2).mean() + each.mean() for each in params)

        def squared(params):
            return sum((q**2).mean() for q in state["own"].each(params, batch.observations, batch.actions))

        def stepped(tx, tx_state, objective, params):
            steps, tx_state = tx.update(jax.grad(objective)(params), tx_state, params)
            return jax.tree.map(lambda param, step: param + step, params, steps), tx_state

        params, first = stepped(self.tx, state["states"].first, loss, state["params"])
        params, second = stepped(ADAM, state["states"].second[0], loss, params)
        moved, own = stepped(self.tx, state["own"].optimizer_state, squared, state["own"].params)
        critic, info = CRITIC.fit(state["critic"], batch, batch.rewards)
        critic = CriticState(critic.network, critic.params, critic.optimizer_state, (*moved,))
        own = state["own"].replace(params=moved, optimizer_state=own)
        new = {"params": params, "states": Pair(first, [second]), "own": own, "critic": critic}
        return new, {"loss": loss(params), **info}

    def actor(self, state):
        return state["params"]

    def act(self, actor, observations, key, deterministic):
        return jnp.tanh(observations @ actor[0])


CRITIC = TemporalDifference(critic_hidden_dims=(8, 8))
OWN = {
    "adam": OwnLearner(tx=optax.adam(1e-2)),
    "chain": OwnLearner(tx=optax.chain(optax.clip(0.1), optax.adamw(1e-2))),
    "part": Method(InSample, critic=OwnCritic, value=OwnFit)(
        actor_hidden_dims=(8, 8), value_hidden_dims=(8, 8), critic_hidden_dims=(8, 8)
    ),
}


@pytest.mark.parametrize(("name", "seeds"), [("adam", (3,)), ("chain", (3, 4)), ("part", (3, 4))])
def test_states_and_optimisers_of_ones_own_train_as_on_a_cpu(name, seeds):
    ours, expected = (
        offline_trainer(OWN[name], make_members(seeds, {}), make_data(200), 32, together=together)
        for together in (True, False)
    )
    assert_alike(ours, expected)


def test_small_arrays_in_one_vector_and_back_are_the_same_bits():
    odd = np.array([np.nan, -0.0, np.inf, 1e-45, -3.5], np.float32)
    odd.view(np.int32)[0] += 5  # a NaN with a payload
    tree = {"odd": odd, "number": np.int32(-7), "flags": np.arange(12) % 5 == 1}
    tree |= {"one": np.ones((2, 1, 3), np.float32), "large": np.ones(65, np.float32)}
    tree |= {"key": np.arange(2, dtype=np.uint32)}
    tree = jax.tree.map(jnp.asarray, tree)
    (vector, others), undone = packed(tree)
    assert vector.shape == (5 + 1 + 12 + 6,)
    assert {leaf.shape for leaf in others} == {(2,), (65,)}
    back = undone(jax.jit(lambda given: given)((vector, others)))
    for name, leaf in tree.items():
        assert (back[name].shape, back[name].dtype) == (leaf.shape, leaf.dtype)
        assert back[name].tobytes() == leaf.tobytes()


@pytest.mark.parametrize(
    ("grid", "ramps", "expected"),
    [
        ({}, "", {"beta_nats": 0.0, "max_grad_norm": np.inf}),
        ({"beta_nats": [0.0, 0.2]}, "", {"max_grad_norm": np.inf}),
        ({}, "beta_nats=0:0.2@0.5:0", {"max_grad_norm": np.inf}),
        ({"max_grad_norm": [1.0, np.inf]}, "beta=2:1", {"beta_nats": 0.0}),
    ],
)
def test_a_number_is_a_constant_if_it_switches_something_off_in_all_members_and_updates(
    grid, ramps, expected
):
    learner = make_learner("xql")
    ramps = parse_ramps(ramps, settings_of(learner), 1_000, "--ramp")
    constants = constant_numbers(stacked(learners_of(learner, make_members([3], grid))), ramps)
    known = values_of(with_constants(learner, [-1.0 if value is None else value for value in constants]))
    found = {name: float(known[name]) for name in ("beta", "beta_nats", "max_grad_norm")}
    assert {name: value for name, value in found.items() if value != -1.0} == expected


def test_the_least_of_critics_side_by_side_has_the_value_and_gradient_of_the_minimum_and_keeps_nan(
    monkeypatch,
):
    q = jnp.array([[3.0, 1.0, jnp.nan, 4.0], [2.0, 5.0, 0.0, jnp.nan], [7.0, 6.0, 1.0, 2.0]])
    monkeypatch.setattr(CriticState, "each", lambda critic, params, observations, actions: [*params])

    def least(q):
        return CriticState(None, SideBySide(q)).min_q(None, None)

    np.testing.assert_array_equal(least(q), q.min(0))
    np.testing.assert_array_equal(jax.grad(lambda q: least(q)[:2].sum())(q)[:, :2], [[0, 1], [1, 0], [0, 0]])


def test_both_forms_of_adam_are_adam_of_kingma_and_ba():
    """Their Algorithm 1 in float64, for five steps of gradients that differ by orders of magnitude."""
    draws = np.random.default_rng(0)
    gradients = draws.normal(size=(5, 3)) * [1e-3, 1.0, 1e3]
    expected, m, v = np.ones(3), 0.0, 0.0
    for t, g in enumerate(gradients, 1):
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
        expected = expected - 0.01 * (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
    for step, moments in ((adam, ADAM.init(jnp.ones(3))), (adam_in_few_kernels, ADAM.init(jnp.ones(3)))):
        moments = MomentsTogether(*moments) if step is adam_in_few_kernels else moments
        params = jnp.ones(3)
        for g in jnp.float32(gradients):
            params, moments = step(params, g, moments, 0.01)
        np.testing.assert_allclose(params, expected, rtol=1e-6)
        assert (type(moments) is MomentsTogether) == (step is adam_in_few_kernels)


def test_a_member_that_diverges_is_frozen_in_both_forms_and_the_other_goes_on():
    rates = [1e30, 3e-4]  # with the first Q overflows in the second update
    ours, expected = (make_trainer("xql", form, grid={"critic_lr": rates}) for form in (True, False))
    for trainer in (ours, expected):
        trainer.advance(UPDATES)
    assert ours.population.diverged == expected.population.diverged
    assert [*ours.population.diverged] == [0]
    assert all(np.isfinite(leaf).all() for leaf in snapshot(ours.population.member(0)[1]))
    leaves = zip(*(snapshot(trainer.population.member(1)[1]) for trainer in (ours, expected)), strict=True)
    for leaf, wanted in leaves:
        np.testing.assert_allclose(leaf, wanted, rtol=1e-4, atol=2e-4 * max(np.abs(wanted).max(), 0.1))
