"""Acting and learning in rounds: which policy acts, what is learned from, what a checkpoint brings back."""

import dataclasses
import functools
import time
from typing import ClassVar

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium import spaces

from xql_jax.data import replay
from xql_jax.training.checkpoint import Progress
from xql_jax.training.online import OnlinePopulation
from xql_jax.training.population import Divergence, Member, with_hyperparameters
from xql_jax.training.rounds import NUM_ERRORS, OnlineSchedule, _learn

EPISODE = 7  # steps


class Counting:
    """Sees how many steps its episode has, and the start's number; every step pays the action."""

    steps_per_second = 1.0
    observation_space = spaces.Box(-np.inf, np.inf, (2,), np.float32)
    action_space = spaces.Box(-1.0, 1.0, (1,), np.float32)
    delay = 0.0

    def reset(self, *, seed=None):
        self._state = np.array([0.0, seed % 1000], np.float32)
        return self._state.copy(), {}

    def step(self, action):
        time.sleep(self.delay)
        self._state[0] += 1.0
        return self._state.copy(), float(action[0]), False, bool(self._state[0] == EPISODE), {}

    def close(self):
        pass


class Slow(Counting):
    delay = 0.002


@flax.struct.dataclass
class Counter:
    """Counts its updates; its action is their number in thousandths: transitions tell whose they are."""

    uses_next_actions: ClassVar[bool] = False
    rate: jax.Array | float = 1.0
    breaks_at: jax.Array | float = 1e9

    def init(self, key, observations, actions):
        return {"updates": jnp.zeros(()), "seen": jnp.zeros(()), "noise": jnp.zeros(())}

    def update(self, state, batch, key):
        updates = state["updates"] + 1.0
        seen = state["seen"] + self.rate * batch.rewards.mean()
        noise = jax.random.normal(key)
        loss = jnp.where(updates >= self.breaks_at, jnp.nan, noise)
        return {"updates": updates, "seen": seen, "noise": noise}, {"loss": loss}

    def actor_params(self, state):
        return state["updates"]

    def act_with(self, params, observations, key, deterministic):
        return jnp.full((len(observations), 1), params / 1000.0)

    def act(self, state, observations, key, deterministic):
        return self.act_with(state["updates"], observations, key, deterministic)

    def bellman_errors(self, state, batch):
        return batch.rewards + state["updates"]

    def replace(self, **changes):
        return dataclasses.replace(self, **changes)


@flax.struct.dataclass
class Flickering(Counter):
    """Its loss is NaN in one update, and finite in the next."""

    def update(self, state, batch, key):
        state = super().update(state, batch, key)[0]
        return state, {"loss": jnp.where(state["updates"] == self.breaks_at, jnp.nan, 0.0)}


@flax.struct.dataclass
class BadActor(Counter):
    """Its actions are NaN from 12 updates on."""

    def act_with(self, params, observations, key, deterministic):
        actions = super().act_with(params, observations, key, deterministic)
        return jnp.where(params >= 12, jnp.nan, actions)


SCHEDULE = OnlineSchedule(buffer_size=64, batch_size=4, warmup_steps=6, round_steps=2)


ONE = (Member(0, {}),)


def make_population(tmp_path, members=ONE, environment=Counting, learner=None, **changes):
    learner = learner or Counter(jnp.float32(1.0), jnp.float32(1e9))
    schedule = dataclasses.replace(SCHEDULE, **changes)
    return OnlinePopulation(learner, members, environment, schedule, tmp_path)


def transitions(population, index=0):
    """What the buffer holds, oldest first, before it is full."""
    buffer = population._runs[index]._buffer
    return jax.tree.map(lambda field: np.asarray(field)[: int(buffer.inserted)], buffer.data)


def acting_updates(population):
    """Of each transition since the warm-up, how many updates its policy had."""
    return np.round(1000 * transitions(population).actions[population.schedule.warmup_steps :, 0]).astype(int)


def same(first, second):
    jax.tree.map(np.testing.assert_array_equal, first, second)


def test_alternating_the_policy_is_that_of_the_last_round(tmp_path):
    population = make_population(tmp_path)
    population.advance(20)
    # Two updates a round of two steps; the first round after the warm-up acts by what was there before.
    np.testing.assert_array_equal(acting_updates(population), np.repeat(np.arange(0, 14, 2), 2))
    assert float(population.states["updates"][0]) == 14
    assert population.schedule.policy_lag == 1  # a round's second step could have had one more


def test_overlapped_the_policy_is_that_of_the_round_before_last(tmp_path):
    population = make_population(tmp_path, overlapped=True)
    population.advance(20)
    np.testing.assert_array_equal(acting_updates(population), [0, 0, *np.repeat(np.arange(0, 12, 2), 2)])
    due = np.arange(len(acting_updates(population)))  # one a step
    assert (due - acting_updates(population)).max() == population.schedule.policy_lag == 3


@pytest.mark.parametrize("overlapped", [False, True])
def test_results_depend_neither_on_calls_nor_on_time(tmp_path, overlapped):
    ends = []
    for environment, stops in ((Counting, (40,)), (Counting, (2, 14, 16, 40)), (Slow, (20, 40))):
        population = make_population(tmp_path, environment=environment, overlapped=overlapped)
        for stop in stops:
            metrics = population.advance(stop)
        ends.append((population.states, transitions(population), metrics))
        population.close()
    same(ends[0], ends[1])
    same(ends[0], ends[2])


def test_the_buffer_holds_the_episodes(tmp_path):
    population = make_population(tmp_path, num_environments=2, round_steps=4)
    population.advance(32)
    rows = transitions(population)
    for number in range(2):
        steps = rows.observations[number::2, 0]
        np.testing.assert_array_equal(steps, np.arange(16) % EPISODE)
        np.testing.assert_array_equal(rows.next_observations[number::2, 0], steps + 1)  # also at a time-out
    np.testing.assert_array_equal(rows.masks, 1.0)
    np.testing.assert_allclose(rows.rewards, rows.actions[:, 0])
    assert np.abs(rows.actions[:6]).max() > 0.1  # random, while warming up
    assert len(np.unique(rows.observations[:, 1])) == 6  # three starts of each


@pytest.mark.parametrize(("ratio", "expected"), [(1.0, 14), (0.5, 7), (3.0, 42)])
def test_updates_per_step(tmp_path, ratio, expected):
    population = make_population(tmp_path, updates_per_step=ratio)
    population.advance(20)
    assert float(population.states["updates"][0]) == expected


def test_members_do_not_know_of_each_other(tmp_path):
    members = [Member(3, {"rate": 1.0}), Member(4, {"rate": 5.0})]
    together = make_population(tmp_path / "both", members)
    together.advance(20)
    for index, member in enumerate(members):
        alone = make_population(tmp_path / "alone", [member])
        alone.advance(20)
        same(together.member(index)[1], alone.member(0)[1])
        same(transitions(together, index), transitions(alone))
    assert together.policy()(np.zeros((2, 5, 2), np.float32)).shape == (2, 5, 1)


@pytest.mark.parametrize("overlapped", [False, True])
def test_a_checkpoint_brings_back_networks_buffer_and_counters(tmp_path, overlapped):
    """Episodes begin again: two runs from one checkpoint are alike, and go another way than the unbroken."""
    population = make_population(tmp_path, overlapped=overlapped)
    saved = []
    for stop in (30, 60, 100):  # the ring of 64 wraps
        population.advance(stop)
        held, write = population.saving()
        write()
        saved.append((population.states, jax.tree.map(np.asarray, population._runs[0]._buffer), held))
    states, buffer, held = saved[-1]
    ends = []
    for _ in range(2):
        again = make_population(tmp_path, overlapped=overlapped)
        again.resume(states, Progress(step=100, held=held))
        assert again.seconds == held["seconds"] == population.seconds
        same(again.states, states)
        same(jax.tree.map(np.asarray, again._runs[0]._buffer), buffer)
        again.advance(120)
        ends.append((again.states, jax.tree.map(np.asarray, again._runs[0]._buffer)))
    same(*ends)
    rows = ends[0][1].data
    assert rows.observations[100 % 64, 0] == 0.0  # the episode from its start
    assert rows.observations[100 % 64, 1] == buffer.data.observations[99 % 64, 1]  # the same one


def test_every_kept_checkpoint_can_be_gone_back_to_also_after_a_resumption(tmp_path):
    """Of a ring of 64 saved every 20 steps; three checkpoints are kept."""
    population, kept = make_population(tmp_path), {}

    def train_and_save(population, stop):
        population.advance(stop)
        held, write = population.saving()
        write()
        for old in sorted(kept)[:-3]:  # removed after the newest is written: four can be gone back to
            del kept[old]
        kept[stop] = population.states, jax.tree.map(np.asarray, population._runs[0]._buffer), held
        for step, (states, buffer, of_step) in kept.items():
            again = make_population(tmp_path)
            again.resume(states, Progress(step=step, held=of_step))
            same(jax.tree.map(np.asarray, again._runs[0]._buffer), buffer)

    for stop in range(20, 160, 20):
        train_and_save(population, stop)
    resumed = make_population(tmp_path)
    resumed.resume(kept[140][0], Progress(step=140, held=kept[140][2]))
    for stop in range(160, 260, 20):
        train_and_save(resumed, stop)
    files = [path for path in tmp_path.rglob("*.npz") if int(path.name.split("-")[1]) <= 160 - 64]
    assert files == []  # and what none of them needs is gone


def test_a_member_that_diverges_stays_where_it_was(tmp_path):
    members = [Member(0, {"breaks_at": 9.0}), Member(1, {"breaks_at": 1e9})]
    population = make_population(tmp_path, members)
    population.advance(20)
    (broken,) = population.diverged.items()
    assert broken[0] == 0
    assert (broken[1].step, broken[1].quantity) == (
        16,
        "loss",
    )  # updates 9 and 10 are those of steps 14 and 15
    assert population.states["updates"].tolist() == [8.0, 14.0]
    asked = []
    run = population._runs[0]
    learn = run._learn
    run._learn = lambda *arguments, **named: (
        asked.append(named["stop"] - named["start"]) or learn(*arguments, **named)
    )
    population.advance(26)
    assert asked == [0, 0, 0]  # it inserts, and learns no more
    assert int(run._buffer.inserted) == 26


@pytest.mark.parametrize("restarts", [False, True])
def test_a_member_that_never_learned_has_no_metrics_and_the_others_have(tmp_path, restarts):
    members = [Member(0, {"breaks_at": 1.0}), Member(1, {"breaks_at": 1e9})]
    population = make_population(tmp_path, members, restarts=restarts)
    metrics = population.advance(20)
    assert np.isfinite(metrics["loss"]).tolist() == [False, True]
    held, write = population.saving()
    write()
    diverged = {str(i): dataclasses.asdict(divergence) for i, divergence in population.diverged.items()}
    again = make_population(tmp_path, members, restarts=restarts)
    again.resume(population.states, Progress(step=20, held=held, diverged=diverged))
    assert np.isfinite(again.advance(30)["loss"]).tolist() == [False, True]


def test_a_member_that_diverges_begins_anew_if_asked(tmp_path, capsys):
    members = [Member(0, {"breaks_at": 9.0}), Member(1, {"breaks_at": 1e9})]
    population = make_population(tmp_path, members, restarts=True)
    population.advance(40)
    assert population.diverged == {}
    (restarts,) = population.restarts.items()
    # Every ninth update; the round of two in which it comes is lost.
    assert (restarts[0], [restart.step for restart in restarts[1]]) == (0, [16, 26, 36])
    assert population.states["updates"].tolist() == [4.0, 34.0]
    assert capsys.readouterr().out.count("seed 0, breaks_at=9 diverged at step") == 3
    held, write = population.saving()
    write()
    again = make_population(tmp_path, members, restarts=True)
    again.resume(population.states, Progress(step=40, held=held))
    assert again.restarts == population.restarts
    again.advance(46)
    assert [restart.step for restart in again.restarts[0]] == [16, 26, 36, 46]


@pytest.mark.parametrize("restarts", [False, True])
def test_actions_that_are_not_finite_are_told_and_replaced(tmp_path, restarts):
    """From 12 updates on the policy gives NaN, though parameters and metrics are finite."""
    learner = BadActor(jnp.float32(1.0), jnp.float32(1e9))
    population = make_population(tmp_path, learner=learner, restarts=restarts)
    population.advance(26)
    actions = transitions(population).actions[:, 0]
    assert np.isfinite(actions).all()
    np.testing.assert_array_equal(actions[18:20], 0.0)  # 6 of warm-up, 12 updates: the first bad ones
    divergence = Divergence(18, "actions")
    if restarts:
        assert (population.diverged, population.restarts) == ({}, {0: [divergence]})
        assert float(population.states["updates"][0]) == 8.0  # 18 to 26
    else:
        assert population.diverged == {0: divergence}
        assert float(population.states["updates"][0]) == 12.0


@pytest.mark.parametrize("overlapped", [False, True])
@pytest.mark.parametrize("restarts", [False, True])
def test_what_follows_bad_actions_does_not_depend_on_calls(tmp_path, overlapped, restarts):
    learner, ends = BadActor(jnp.float32(1.0), jnp.float32(1e9)), []
    for stops in ((40,), range(2, 42, 2), (20, 26, 40)):
        population = make_population(tmp_path, learner=learner, restarts=restarts, overlapped=overlapped)
        for stop in stops:
            population.advance(stop)
        what_broke = population.restarts if restarts else population.diverged
        assert list(what_broke) == [0]
        ends.append((population.states, transitions(population), str(what_broke)))
        population.close()
    for states, rows, what_broke in ends[1:]:
        same(ends[0][:2], (states, rows))
        assert what_broke == ends[0][2]


def test_an_evaluation_finds_actions_that_are_not_finite(tmp_path):
    learner = BadActor(jnp.float32(1.0), jnp.float32(1e9))
    population = make_population(tmp_path, learner=learner, restarts=True)
    population.advance(18)
    assert population.diverged == {}
    np.testing.assert_array_equal(population.policy()(np.zeros((1, 3, 2), np.float32)), 0.0)
    assert population.diverged == {0: Divergence(18, "actions")}
    population.advance(20)
    assert (population.diverged, len(population.restarts[0])) == ({}, 1)
    assert float(population.states["updates"][0]) == 2.0


def test_what_was_not_finite_is_named_though_it_was_finite_at_the_end(tmp_path):
    learner = Flickering(jnp.float32(1.0), jnp.float32(9.0))
    population = make_population(tmp_path, learner=learner, round_steps=8)
    population.advance(16)  # updates 3 to 10 in one program
    assert population.diverged == {0: Divergence(16, "loss")}


def test_the_last_episodes_are_among_the_metrics(tmp_path):
    population = make_population(tmp_path, num_environments=2, round_steps=2)
    assert population.advance(6) == {}  # nothing is learned yet
    metrics = population.advance(12)
    assert np.isnan(metrics["episode/return"]).all()
    metrics = population.advance(20)  # the first episodes of both ended after 14 steps in all
    rewards = transitions(population).rewards[:14].reshape(7, 2)
    np.testing.assert_allclose(metrics["episode/return"], rewards.sum(0).mean(), rtol=1e-5)
    assert float(metrics["episode/length"][0]) == EPISODE


def test_bellman_errors_are_of_what_was_met(tmp_path):
    """Of each member's own transitions and state, drawn anew each time; measuring changes nothing."""
    members = [Member(3, {"rate": 1.0}), Member(4, {"rate": 5.0})]
    measured, untouched = (make_population(tmp_path / name, members) for name in ("a", "b"))
    drawn = []
    for stop in (20, 30):
        measured.advance(stop)
        drawn.append(measured.bellman_errors())
        assert drawn[-1].shape == (2, NUM_ERRORS)
        for index in range(2):
            own = transitions(measured, index).rewards + (stop - 6)  # updates
            assert set(drawn[-1][index]) == set(own)  # over a thousand of 30 at most
    run = measured._runs[0]
    assert (run.bellman_errors(30) != run.bellman_errors(20)).any()  # other transitions of one buffer
    untouched.advance(6)
    assert untouched.bellman_errors().shape == (2, 0)  # nothing is learned yet
    untouched.advance(30)
    same(measured.states, untouched.states)


def test_the_program_copies_no_ring():
    """A copy would be of the whole ring, megabytes for each step."""
    learner = with_hyperparameters(Counter(), {"rate": 1.0, "breaks_at": 1e9})
    capacity = 200_000
    buffer = replay.empty(capacity, 17, 6)
    rows = jax.tree.map(lambda field: jnp.zeros((1, *field.shape[1:])), buffer.data)
    program = jax.jit(functools.partial(_learn, batch_size=32), donate_argnames="buffer")
    compiled = program.lower(
        learner,
        learner.init(None, None, None),
        buffer=buffer,
        rows=rows,
        key=jax.random.key(0),
        start=np.int32(0),
        stop=np.int32(1),
    ).compile()
    ring = sum(field.nbytes for field in buffer.data)
    memory = compiled.memory_analysis()
    assert memory.alias_size_in_bytes >= ring  # the ring goes in and out in its place
    assert memory.temp_size_in_bytes < ring / 100
