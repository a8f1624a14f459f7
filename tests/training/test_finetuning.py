"""Two phases: what the second goes on from, what its transitions pass through, and how either is resumed."""

import dataclasses
import shutil

import flax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from driver import Driver
from online_fakes import EPISODE, ONE, SCHEDULE, Counter, Counting, Flickering, buffer_of, same, save
from online_fakes import transitions as ring
from training_runs import ARRAYS, offline_trainer

import xql_jax
from xql_jax.data.preprocessing import Preprocessing
from xql_jax.data.replay import PriorData
from xql_jax.training.acting import HostTrainer
from xql_jax.training.members import Divergence, Member, Ramp
from xql_jax.training.replay_files import ReplayFiles
from xql_jax.types import Batch, CalibratedBatch

HANDOVER = 8
PLAIN = Preprocessing()
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
class ActingByRate(Counter):
    """Its action is a tenth of a hyperparameter."""

    def act(self, actor, observations, key, deterministic):
        return jnp.full((len(observations), 1), self.rate / 10.0)


@flax.struct.dataclass
class ActingByItself(Counter):
    """The actor has the hyperparameter, as a flow's has those of the policy that is learned."""

    def actor(self, state):
        return 0.0 * state["updates"] + self.rate

    def act(self, actor, observations, key, deterministic):
        return jnp.full((len(observations), 1), actor / 10.0)


@flax.struct.dataclass
class Spread(Counter):
    """Its action is near 0.2, by the key, as BEAR's; or drawn with a standard deviation of 0.1."""

    def act(self, actor, observations, key, deterministic):
        drawn = jax.random.normal(key, (len(observations), 1))
        return 0.2 + (0.001 if deterministic else 0.1) * drawn


def make_data(size=20):
    column = np.arange(size, dtype=np.float32)
    pair = np.stack([column, column], axis=1)
    return Batch(pair, 0 * pair[:, :1], 0.1 * column, np.ones_like(column), pair)


class Phases:
    """Two trainings, one after the other, as the training loop makes them."""

    def __init__(self, path, members=ONE, learner=None, *, preprocessing=PLAIN, fraction=None, **changes):
        """Updates by batches of 4, then rounds of two steps without a warm-up."""
        handover = changes.pop("handover", HANDOVER)
        learner, data = learner or Counter(), jax.device_put(make_data())
        schedule = dataclasses.replace(SCHEDULE, **{"warmup_steps": 0, **changes})

        def make_online(offline):
            online = HostTrainer(
                learner, members, Counting, schedule, ReplayFiles(path), handover=handover,
                prior_data=PriorData(data, fraction), preprocessing=preprocessing,
            )  # fmt: skip
            online.take_over(offline)
            return online

        self.offline, self.make_online = offline_trainer(learner, members, data, 4), make_online
        self.trainer = self.offline
        if handover == 0:
            self.begin_online()

    def begin_online(self):
        self.trainer = self.make_online(self.offline)
        return self.trainer


def online(path, *arguments, **options):
    """The second phase alone, of members that have not been trained."""
    return Phases(path, *arguments, handover=0, **options).trainer


def test_the_second_phase_goes_on_with_the_state_of_the_first(tmp_path):
    phases = Phases(tmp_path)
    phases.offline.advance(HANDOVER)
    before = phases.offline.population.states
    trainer = phases.begin_online()
    same(trainer.population.states, before)
    trainer.advance(HANDOVER + 20)
    assert trainer.step == HANDOVER + 20
    assert float(trainer.population.states["updates"][0]) == HANDOVER + 20
    # The policy that acts first is that of the hand-over.
    np.testing.assert_allclose(ring(trainer).actions[:4, 0], HANDOVER / 1000, rtol=1e-5)


@pytest.mark.parametrize("fraction", [None, 0.5])
def test_it_learns_from_the_data_and_from_what_it_meets(tmp_path, fraction):
    """Rewards of the data are up to 1.9 and 0.95 in the mean, those that are met below 0.03."""
    trainer = online(tmp_path, fraction=fraction, batch_size=400, round_steps=20)
    trainer.advance(20)
    trainer.advance(40)  # 40 updates, half of which saw 20 rows beside the data's 20, half of them 40
    shares = [0.5, 1 / 3] if fraction is None else [0.5, 0.5]
    expected = sum(20 * share * 0.95 for share in shares)
    assert float(trainer.population.states["seen"][0]) == pytest.approx(expected, rel=0.03)


def test_what_is_met_is_preprocessed_as_the_data_is(tmp_path):
    """Observations, rewards and actions in the ring are as the data's are; the policy acts on such, too."""
    plain, seeing, large = (
        online(tmp_path / name, learner=learner, preprocessing=preprocessing)
        for name, learner, preprocessing in (
            ("a", Counter(), PLAIN),
            ("b", Seeing(), TRANSFORMS),
            ("c", ActingByRate(rate=10.0), TRANSFORMS),
        )
    )
    for trainer in (plain, seeing, large):
        trainer.advance(20)
    met, rows = ring(plain), ring(seeing)
    assert np.ptp(met.observations[:, 0]) == 6.0
    same(rows.observations, TRANSFORMS.batch(met).observations)
    np.testing.assert_array_equal(rows.masks, met.masks)
    np.testing.assert_allclose(rows.actions[:, 0], rows.observations[:, 0] / 100.0, rtol=1e-5)
    np.testing.assert_array_equal(ring(large).actions, 0.5)  # clipped
    np.testing.assert_array_equal(ring(large).rewards, 3.0 * 1.0 - 1.0)  # the environment was given 1


@flax.struct.dataclass
class Calibrated(Counter):
    discount, endless = 0.5, True
    batch_type = CalibratedBatch


def test_returns_to_go_are_known_when_the_episode_ends(tmp_path):
    """Two environments, episodes of 7 steps that time out; the ring of 64 wraps. Rewards are the actions."""
    data = CalibratedBatch(*make_data(), np.zeros(20, np.float32))

    def make():
        schedule = dataclasses.replace(SCHEDULE, num_environments=2, round_steps=4)
        files, prior = ReplayFiles(tmp_path), PriorData(data, 0.5)
        return HostTrainer(Calibrated(), TWO, Counting, schedule, files, prior_data=prior)

    def expected(rewards, steps):
        """The returns-to-go of one environment's rewards, oldest first; the first is of step `steps`."""
        found = np.full(len(rewards), -np.inf)
        for start in range(-steps, len(rewards) - EPISODE + 1, EPISODE):
            following = rewards[start + EPISODE - 1] / (1 - 0.5)
            for row in reversed(range(max(start, 0), start + EPISODE)):
                found[row] = following = rewards[row] + 0.5 * following
        return found

    first = make()
    for step in (32, 64, 100):  # episodes are running at each
        first.advance(step)
        saved = save(first)
    for index in range(2):
        rows = buffer_of(first, index).data
        oldest_first = np.roll(np.arange(64), -100 % 64)
        for environment in range(2):
            ring = oldest_first[environment::2]
            found, steps = rows.returns_to_go[ring], int(rows.observations[ring[0], 0])
            np.testing.assert_allclose(found, expected(rows.rewards[ring].astype(float), steps), rtol=1e-6)
            assert np.isinf(found).sum() == 50 % EPISODE  # of the running episode
            assert np.ptp(found[np.isfinite(found)]) > 1e-3
    again = make()
    again.resume(*saved)
    for index in range(2):
        same(buffer_of(again, index), buffer_of(first, index))
    # The episodes that ran at a resumption have no returns-to-go, and their rows are written once.
    again.advance(140)
    resumed = make()
    resumed.resume(*save(again))
    same(buffer_of(resumed), buffer_of(again))
    lengths = [len(np.load(file)["rewards"]) for file in sorted(tmp_path.rglob("*-0000000140-*.npz"))]
    assert lengths == [40, 40]


TUNED = {
    "env_name": "driver:Drift-v0", "dataset": ARRAYS, "method": "training_runs:Growth", "num_seeds": 2,
    "batch_size": 4, "warmup_steps": 0, "num_pretraining_steps": HANDOVER, "max_steps": 40, "log_interval": 4,
    "eval_interval": 20, "checkpoint_interval": 4, "keep_checkpoints": 0, "eval_episodes": 1,
}  # fmt: skip


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    run = Driver(xql_jax.train_finetune, tmp_path_factory.mktemp("unbroken"), TUNED)
    run.resume()
    return run


@pytest.mark.parametrize("rows", [1, 2])
def test_resumed_before_or_at_the_hand_over_it_is_as_unbroken(unbroken, tmp_path, rows):
    """Stopped at a row of the first phase, of which there are two before the environment's first."""
    run = Driver(xql_jax.train_finetune, tmp_path, TUNED)
    run.step(rows - 1, of=("row",))
    assert run.steps[-1] == 4 * rows <= HANDOVER
    run.resume()
    assert run.outcome() == unbroken.outcome()
    assert "nan" in (run.path / "metrics.csv").read_text()  # the returns of episodes, in the first phase


def test_resumed_in_the_second_phase_it_has_networks_and_buffer(unbroken, tmp_path):
    """Two that go on from one checkpoint are alike. Damage of the buffer leads back over the hand-over."""
    first, second = (Driver(xql_jax.train_finetune, tmp_path / name, TUNED) for name in "ab")
    first.step(5, of=("row",))
    step = first.steps[-1]
    assert step > HANDOVER
    shutil.copytree(first.place, second.place)
    before = first.outcome()
    first.resume()
    second.resume()
    assert first.outcome() == second.outcome()
    assert (
        before[3].items()
        <= {
            name: dict([*rows.items()][: step - HANDOVER]) for name, rows in first.outcome()[3].items()
        }.items()
    )
    (first.path / "summary.json").unlink()
    for file in (first.path / "replay").rglob("*.npz"):
        file.write_bytes(b"damaged")
    first.resume()
    assert first.outcome() == unbroken.outcome()


def test_who_diverged_offline_stays_there(tmp_path):
    phases = Phases(tmp_path, (Member(0, {"breaks_at": 5.0}), Member(1, {"breaks_at": 1e9})))
    phases.offline.advance(HANDOVER)
    trainer = phases.begin_online()
    trainer.advance(HANDOVER + 10)
    assert trainer.population.diverged == {0: Divergence(HANDOVER, "loss", after=0)}
    np.testing.assert_array_equal(trainer.population.states["updates"], [0, HANDOVER + 10])


def test_who_diverges_online_is_told_by_the_runs_steps(tmp_path):
    phases = Phases(tmp_path, learner=Flickering(breaks_at=HANDOVER + 3.0))
    phases.offline.advance(HANDOVER)
    trainer = phases.begin_online()
    trainer.advance(HANDOVER + 20)
    of_round = Divergence(HANDOVER + 4, "loss", after=HANDOVER + 2)  # which has the update
    assert trainer.population.diverged == {0: of_round}


def test_acting_and_learning_follow_the_ramps(tmp_path, monkeypatch):
    trainer = online(tmp_path, learner=ActingByRate(), ramps=(Ramp("rate", (1.0, 3.0), (0, 4)),))
    update, rates = trainer.population.train, []

    def note(*arguments):
        rates.append(float(trainer.population.groups[0].members.learner.rate[0]))
        update(*arguments)

    monkeypatch.setattr(trainer.population, "train", note)
    trainer.advance(8)
    assert rates == [1.0, 2.0, 3.0, 3.0]
    expected = [0.1, 0.15, 0.2, 0.25, 0.3, 0.3, 0.3, 0.3]
    np.testing.assert_allclose(ring(trainer).actions[:, 0], expected, rtol=1e-6)


def test_policies_follow_the_ramps(tmp_path):
    """Those that are evaluated have the values of their step, and one that samples, of the hand-over on."""
    ramps, states = (Ramp("rate", (1.0, 3.0), (0, 4)),), np.zeros((2, 1, 2), np.float32)
    trainer = offline_trainer(ActingByRate(), TWO[:1] * 2, make_data(), 4, ramps=ramps)
    trainer.advance(3)
    for step, rate in ((None, 2.5), (3, 2.5), (1, 1.5), (9, 3.0)):
        actions = trainer.policy(trainer.population.states, step)(states)
        np.testing.assert_allclose(actions, rate / 10.0, rtol=1e-6)
    phases = Phases(tmp_path, TWO, ActingByItself(), ramps=(Ramp("rate", (2.0,), (0,)),))
    phases.offline.advance(HANDOVER)
    np.testing.assert_allclose(phases.offline.policy()(states)[:, 0, 0], [0.1, 0.5], rtol=1e-6)
    trainer = phases.begin_online()
    trainer.advance(HANDOVER + 8)
    for index in range(2):
        np.testing.assert_allclose(ring(trainer, index).actions[:, 0], 0.2, rtol=1e-6)
    resumed = Phases(tmp_path, TWO, ActingByItself(), ramps=(Ramp("rate", (2.0,), (0,)),)).begin_online()
    resumed.resume(*save(trainer))
    np.testing.assert_allclose(resumed.policy()(states), 0.2, rtol=1e-6)


def test_the_acting_temperature_scales_the_distance_from_the_policys_centre(tmp_path):
    def distances(temperature):
        trainer = online(tmp_path / str(temperature), learner=Spread(), acting_temperature=temperature)
        trainer.advance(40)
        centre = trainer.policy()(np.zeros((1, 1, 2), np.float32))  # the evaluated action
        return ring(trainer).actions[:40, 0] - centre.item()

    drawn = distances(1.0)
    assert drawn.std() == pytest.approx(0.1, rel=0.4)
    np.testing.assert_allclose(distances(0.5), 0.5 * drawn, atol=1e-6)
    assert not distances(0.0).any()


@pytest.mark.slow
def test_exploration_noise(tmp_path):
    """Its standard deviation is as asked for; actions stay within their bounds."""
    trainer = online(tmp_path, exploration_noise=0.3, buffer_size=2_000, updates_per_step=0.01)
    trainer.advance(2_000)
    noise = ring(trainer).actions[:, 0]
    assert abs(noise.mean()) < 0.04
    assert noise.std() == pytest.approx(0.3, rel=0.1)
    loud = online(tmp_path / "loud", exploration_noise=3.0)
    loud.advance(40)
    assert np.abs(ring(loud).actions).max() == 1.0
