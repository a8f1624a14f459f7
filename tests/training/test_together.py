"""Members of online training that learn together, as on an accelerator, against the same in turn."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from online_fakes import SCHEDULE, Counter, Counting, make_population, no_sums, save, transitions

from xql_jax.data import replay
from xql_jax.data.preprocessing import Preprocessing
from xql_jax.data.prior import PriorData
from xql_jax.learners.registry import make_learner
from xql_jax.training.members import Member, learners_of, make_members, stacked
from xql_jax.training.online import OnlinePopulation
from xql_jax.training.replay_files import ReplayFiles
from xql_jax.training.rounds import Pretrained
from xql_jax.training.together import _learn_together
from xql_jax.types import Batch

MEMBERS = [Member(3, {"rate": 1.0, "breaks_at": 1e9}), Member(4, {"rate": 5.0, "breaks_at": 9.0})]


def assert_alike(first, second, **tolerance):
    """Two populations that were not told whether to learn together: what all of it has come to."""
    for index in range(len(first.members)):
        jax.tree.map(np.testing.assert_array_equal, transitions(first, index), transitions(second, index))
    close = functools.partial(np.testing.assert_allclose, **tolerance)
    jax.tree.map(close, first.states, second.states)
    assert first.diverged == second.diverged
    assert first.restarts == second.restarts


@pytest.mark.parametrize("restarts", [False, True])
@pytest.mark.parametrize("stops", [(40,), (2, 14, 16, 40)])
def test_together_equals_in_turn(tmp_path, restarts, stops):
    """One member diverges at its ninth update: it stays, or begins anew, and the other goes on."""
    populations, metrics = [], []
    for together in (True, False):
        population = make_population(tmp_path, MEMBERS, together=together, restarts=restarts)
        for stop in stops:
            last = population.advance(stop) | population.interval_means()
        populations.append(population)
        metrics.append(last)
    assert_alike(*populations, rtol=1e-6)
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-6), *metrics)
    assert (len(populations[0].diverged), len(populations[0].restarts)) == (not restarts, restarts)
    assert populations[0].states["updates"].tolist() == [34.0, 4.0 if restarts else 8.0]


def test_a_checkpoint_of_who_learned_together_goes_on_in_turn(tmp_path):
    unbroken = make_population(tmp_path / "unbroken", MEMBERS, together=False)
    for stop in (20, 40):
        unbroken.advance(stop)
    stopped = make_population(tmp_path / "stopped", MEMBERS, together=True)
    stopped.advance(20)
    again = make_population(tmp_path / "stopped", MEMBERS, together=False)
    again.resume(*save(stopped))
    jax.tree.map(np.testing.assert_array_equal, transitions(again), transitions(stopped))
    again.advance(22)
    assert again.states["updates"].tolist() == [16.0, 8.0]
    assert again.diverged == unbroken.diverged


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "networks"), [("sac", ("actor", "critic", "value")), ("xtd3", ("actor", "critic"))]
)
def test_networks_too(tmp_path, name, networks):
    """After a few updates: Adam makes much of the last bit."""
    learner = make_learner(name, {f"{network}_hidden_dims": (8, 8) for network in networks})
    members = make_members([3, 4], {"discount": [0.9, 0.99]})
    populations = [
        make_population(tmp_path / str(together), members, learner=learner, together=together)
        for together in (True, False)
    ]
    for population in populations:
        population.advance(10)
    for leaf, expected in zip(*(jax.tree.leaves(each.states) for each in populations), strict=True):
        np.testing.assert_allclose(leaf, expected, rtol=1e-3, atol=1e-5)
    for start, end in zip(
        jax.tree.leaves(make_population(tmp_path / "new", members, learner=learner).states),
        jax.tree.leaves(populations[0].states),
        strict=True,
    ):
        if start.ndim == 3:  # weights, of every member
            assert (np.asarray(start) != np.asarray(end)).any()


@pytest.mark.slow
@pytest.mark.parametrize("fraction", [None, 0.5])
def test_fine_tuning_too(tmp_path, fraction):
    """Both learn from the data, whose rewards of 100 they see, and from their own buffer."""
    states = {member.name: Counter().init(None, None, None) for member in MEMBERS}
    rows = Batch(np.zeros((9, 2)), np.zeros((9, 1)), np.full(9, 100.0), np.ones(9), np.zeros((9, 2)))
    rows = jax.tree.map(lambda field: jnp.asarray(field, jnp.float32), rows)
    pretrained = Pretrained(states, {}, 1_000, PriorData(rows, fraction), Preprocessing())
    populations = [
        OnlinePopulation(
            Counter(),
            MEMBERS,
            Counting,
            SCHEDULE,
            ReplayFiles(tmp_path),
            pretrained=pretrained,
            together=together,
        )
        for together in (True, False)
    ]
    for population in populations:
        population.advance(20)
    assert_alike(*populations, rtol=1e-6)
    assert populations[0].states["seen"][0] > 100.0


def test_on_a_cpu_members_take_turns(tmp_path):
    assert make_population(tmp_path, MEMBERS)._together is None
    assert make_population(tmp_path, MEMBERS, together=True)._together is not None


def test_an_accelerator_has_them_together(tmp_path, monkeypatch):
    monkeypatch.setattr("xql_jax.training.online.jax.default_backend", lambda: "gpu")
    assert make_population(tmp_path, MEMBERS)._together is not None
    assert make_population(tmp_path, MEMBERS[:1])._together is None


@pytest.mark.slow
@pytest.mark.parametrize("fraction", [None, 0.5])
def test_the_program_copies_no_ring(fraction):
    learners = tuple(learners_of(Counter(), MEMBERS))
    buffers = tuple(replay.empty(100_000, 17, 6) for _ in MEMBERS)
    rows = jax.tree.map(lambda field: jnp.zeros((1, *field.shape[1:])), buffers[0].data)
    prior_data = PriorData(jax.tree.map(jnp.copy, buffers[0].data), fraction)
    program = jax.jit(functools.partial(_learn_together, batch_size=32), donate_argnames="buffers")
    states = tuple(learner.init(None, None, None) for learner in learners)
    keys = jax.random.split(jax.random.key(0))
    numbers = np.int32(0), np.int32(1)
    sums = stacked([no_sums() for _ in learners])
    arguments = learners, states, sums, buffers, prior_data, (rows, rows), keys, *numbers
    compiled = program.lower(*arguments).compile()
    rings = sum(field.nbytes for buffer in buffers for field in buffer.data)
    memory = compiled.memory_analysis()
    assert memory.alias_size_in_bytes >= rings
    assert memory.temp_size_in_bytes < rings / 100
