"""Two phases: what the second goes on from, what its transitions pass through, and how either is resumed."""

import dataclasses
import json

import flax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from online_fakes import ONE, SCHEDULE, Counter, Counting, Flickering, same

from xql_jax.data.preprocessing import Preprocessing
from xql_jax.data.prior import PriorData
from xql_jax.training.checkpoints import Progress
from xql_jax.training.finetuning import FinetuningPopulation
from xql_jax.training.members import Member
from xql_jax.training.online import OnlinePopulation
from xql_jax.training.population import Population
from xql_jax.training.ramps import Ramp
from xql_jax.training.replay_files import ReplayFiles
from xql_jax.training.rounds import Pretrained
from xql_jax.training.trainable import Divergence
from xql_jax.types import Batch

HANDOVER = 8
TRANSFORMS = Preprocessing(
    action_bound=0.5,
    reward_scale=3.0,
    reward_shift=-1.0,
    observation_mean=(1.0, 2.0),
    observation_std=(2.0, 4.0),
)
TWO = (Member(3, {"rate": 1.0}), Member(4, {"rate": 5.0}))


@flax.struct.dataclass
class Seeing(Counter):
    """Its action is a hundredth of what it sees first."""

    def act(self, actor, observations, key, deterministic):
        return observations[:, :1] / 100.0


@flax.struct.dataclass
class Large(Counter):
    """Its action is 1."""

    def act(self, actor, observations, key, deterministic):
        return jnp.ones((len(observations), 1))


def make_data(size=20):
    column = np.arange(size, dtype=np.float32)
    pair = np.stack([column, column], axis=1)
    return Batch(pair, 0 * pair[:, :1], 0.1 * column, np.ones_like(column), pair)


def make(path, members=ONE, learner=None, *, handover=HANDOVER, preprocessing=None, fraction=None, **changes):
    """Updates by batches of 4, then rounds of two steps without a warm-up."""
    learner = learner or Counter()
    schedule = dataclasses.replace(SCHEDULE, **{"warmup_steps": 0, **changes})
    data = jax.device_put(make_data())

    def begin_online(states, diverged):
        prior = PriorData(data, fraction)
        pretrained = Pretrained(states, diverged, handover, prior, preprocessing or Preprocessing())
        files = ReplayFiles(path)
        return OnlinePopulation(learner, members, Counting, schedule, files, pretrained=pretrained)

    offline = Population(learner, members, data, batch_size=4)
    return FinetuningPopulation(offline, handover, begin_online, schedule.round_steps)


def ring(population, index=0):
    """The transitions met, oldest first."""
    buffer = population._online._runs[index].buffer
    return jax.tree.map(lambda field: np.asarray(field)[: int(buffer.inserted)], buffer.data)


def checkpoint(population):
    saving = population.saving()
    saving.write()
    content = json.loads(json.dumps([saving.members, saving.held]))
    return saving.states, Progress(population.step, members=content[0], held=content[1])


def test_the_second_phase_goes_on_with_state_and_numbers_of_the_first(tmp_path):
    population = make(tmp_path)
    assert (population.stride, population.step) == (1, 0)
    metrics = population.advance(HANDOVER)
    assert float(population.states["updates"][0]) == HANDOVER
    assert np.isnan(metrics["episode/return"]).all()
    before = population.states
    assert population.stride == 2
    population.compile()
    same(population.states, before)
    learn, numbers = population._online._runs[0]._learn, []
    population._online._runs[0]._learn = lambda *arguments: (
        numbers.append(tuple(map(int, arguments[-2:]))) or learn(*arguments)
    )
    after = population.advance(HANDOVER + 20)
    assert population.step == HANDOVER + 20
    assert float(population.states["updates"][0]) == HANDOVER + 20
    assert numbers == [(HANDOVER + step, HANDOVER + step + 2) for step in range(0, 20, 2)]
    assert after.keys() == metrics.keys()  # rows of one file
    # The policy that acts first is that of the hand-over.
    np.testing.assert_allclose(ring(population).actions[:4, 0], HANDOVER / 1000, rtol=1e-5)


@pytest.mark.parametrize("fraction", [None, 0.5])
def test_it_learns_from_the_data_and_from_what_it_meets(tmp_path, fraction):
    """Rewards of the data are up to 1.9 and 0.95 in the mean, those that are met below 0.03."""
    population = make(tmp_path, handover=0, fraction=fraction, batch_size=400, round_steps=20)
    population.advance(20)
    population.advance(40)  # 40 updates, half of which saw 20 rows beside the data's 20, half of them 40
    shares = [0.5, 1 / 3] if fraction is None else [0.5, 0.5]
    expected = sum(20 * share * 0.95 for share in shares)
    assert float(population.states["seen"][0]) == pytest.approx(expected, rel=0.03)


def test_what_is_met_passes_through_the_datas_own_preprocessing(tmp_path):
    """Observations, rewards and actions in the ring are as the data's are; masks stay."""
    plain, transformed = (
        make(tmp_path / name, preprocessing=preprocessing, handover=0)
        for name, preprocessing in (("a", None), ("b", TRANSFORMS))
    )
    for population in (plain, transformed):
        population.advance(20)
    rows = ring(plain)
    assert np.ptp(rows.observations[:, 0]) == 6.0
    same(ring(transformed), TRANSFORMS.batch(rows))
    assert not np.allclose(ring(transformed).observations, rows.observations)


def test_actions_are_clipped_as_the_datas_are(tmp_path):
    population = make(tmp_path, learner=Large(), preprocessing=TRANSFORMS, handover=0)
    population.advance(10)
    rows = ring(population)
    np.testing.assert_array_equal(rows.actions, 0.5)
    np.testing.assert_array_equal(rows.rewards, 3.0 * 1.0 - 1.0)  # the environment was given 1


def test_the_policy_acts_on_preprocessed_observations(tmp_path):
    population = make(tmp_path, learner=Seeing(), preprocessing=TRANSFORMS, handover=0)
    population.advance(20)
    rows = ring(population)
    np.testing.assert_allclose(rows.actions[:, 0], rows.observations[:, 0] / 100.0, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("fraction", [None, 0.5])
@pytest.mark.parametrize("stop", [4, HANDOVER])
def test_resumed_before_or_at_the_hand_over_it_is_as_unbroken(tmp_path, stop, fraction):
    ends = []
    for name in ("unbroken", "resumed"):
        population = make(tmp_path / name, TWO, fraction=fraction)
        population.advance(stop)
        if name == "resumed":
            saved = checkpoint(population)
            population.close()
            population = make(tmp_path / name, TWO, fraction=fraction)
            population.resume(*saved)
            assert population.step == stop
        population.advance(HANDOVER)
        population.advance(HANDOVER + 20)
        ends.append((population.states, ring(population, 0), ring(population, 1)))
        population.close()
    same(*ends)


@pytest.mark.slow
def test_resumed_in_the_second_phase_it_has_networks_and_buffer(tmp_path):
    """Episodes begin again: two runs from one checkpoint are alike."""
    population = make(tmp_path, TWO)
    population.advance(HANDOVER)
    population.advance(HANDOVER + 30)
    saved, before = checkpoint(population), ring(population, 1)
    ends = []
    for _ in range(2):
        again = make(tmp_path, TWO)
        again.resume(*saved)
        assert again.step == HANDOVER + 30
        same(again.states, population.states)
        same(ring(again, 1), before)
        again.advance(HANDOVER + 50)
        ends.append((again.states, ring(again, 0)))
    same(*ends)


def test_it_can_go_back_over_the_hand_over(tmp_path):
    """As where the newest checkpoint's buffer is damaged."""
    population = make(tmp_path)
    population.advance(4)
    early = checkpoint(population)
    population.advance(HANDOVER)
    population.advance(HANDOVER + 10)
    population.resume(*early)
    assert (population.step, population.stride) == (4, 1)
    assert float(population.states["updates"][0]) == 4


def test_a_checkpoint_at_the_hand_over_needs_no_buffer(tmp_path):
    """Also once the second phase is made ready: the first step of it may fail."""
    population = make(tmp_path)
    population.advance(HANDOVER)
    population.compile()
    saved = checkpoint(population)
    assert list(tmp_path.iterdir()) == []
    again = make(tmp_path)
    again.resume(*saved)
    assert again.step == HANDOVER


def test_who_diverged_offline_stays_there(tmp_path):
    members = (Member(0, {"breaks_at": 5.0}), Member(1, {"breaks_at": 1e9}))
    population = make(tmp_path, members)
    population.advance(HANDOVER)
    assert population.diverged == {0: Divergence(5, "loss")}
    population.advance(HANDOVER + 10)
    assert population.diverged == {0: Divergence(5, "loss")}
    np.testing.assert_array_equal(population.states["updates"], [4, HANDOVER + 10])
    saved = checkpoint(population)
    again = make(tmp_path, members)
    again.resume(*saved)
    assert again.diverged == {0: Divergence(5, "loss")}


def test_who_diverges_online_is_told_by_the_runs_steps(tmp_path):
    population = make(tmp_path, learner=Flickering(breaks_at=HANDOVER + 3.0))
    population.advance(HANDOVER)
    population.advance(HANDOVER + 20)
    assert population.diverged == {0: Divergence(HANDOVER + 4, "loss")}  # the round that has the update


def test_hyperparameters_change_along_their_ramps(tmp_path):
    population = make(tmp_path, ramps=(Ramp("rate", 1.0, 3.0, 8),), handover=0)
    population.compile()
    run = population._online._runs[0]
    learn, rates = run._learn, []
    run._learn = lambda learner, *others: rates.append(float(learner.rate)) or learn(learner, *others)
    population.advance(14)
    assert rates == [1.0, 1.5, 2.0, 2.5, 3.0, 3.0, 3.0]


@flax.struct.dataclass
class ActingByRate(Counter):
    """Its action is a tenth of a hyperparameter."""

    def act(self, actor, observations, key, deterministic):
        return jnp.full((len(observations), 1), self.rate / 10.0)


def test_acting_follows_the_ramps_too(tmp_path):
    population = make(tmp_path, learner=ActingByRate(), ramps=(Ramp("rate", 1.0, 3.0, 4),), handover=0)
    population.advance(6)
    np.testing.assert_allclose(ring(population).actions[:, 0], [0.1, 0.15, 0.2, 0.25, 0.3, 0.3], rtol=1e-6)


@pytest.mark.slow
def test_exploration_noise(tmp_path):
    """Its standard deviation is as asked for; actions stay within their bounds."""
    population = make(tmp_path, handover=0, exploration_noise=0.3, buffer_size=2_000, updates_per_step=0.01)
    population.advance(2_000)
    noise = ring(population).actions[:, 0]
    assert abs(noise.mean()) < 0.04
    assert noise.std() == pytest.approx(0.3, rel=0.1)
    assert len(np.unique(noise)) == 2_000
    loud = make(tmp_path / "loud", handover=0, exploration_noise=3.0)
    loud.advance(40)
    assert np.abs(ring(loud).actions).max() == 1.0
