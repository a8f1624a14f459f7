"""What the tests of online training share: an environment and learners whose numbers tell what happened."""

import dataclasses
import json
import time
from pathlib import Path
from typing import ClassVar

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from gymnasium import spaces
from jax_point_mass import PointMass

from xql_jax.learners.method import Part
from xql_jax.settings import POSITIVE, traced
from xql_jax.training.acting import HostTrainer
from xql_jax.training.checkpoints import Progress
from xql_jax.training.compiled_acting import CompiledTrainer
from xql_jax.training.members import Member
from xql_jax.training.replay_files import ReplayFiles
from xql_jax.training.schedule import ActingSchedule
from xql_jax.types import Batch

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
class Counter(Part):
    """Counts its updates; its action is their number in thousandths: transitions tell whose they are."""

    rate: float = traced(1.0, POSITIVE)
    breaks_at: float = traced(1e9, POSITIVE)

    batch_type: ClassVar[type] = Batch

    def init(self, key, observations, actions):
        return {"updates": jnp.zeros(()), "seen": jnp.zeros(()), "noise": jnp.zeros(())}

    def update(self, state, batch, key):
        updates = state["updates"] + 1.0
        seen = state["seen"] + self.rate * batch.rewards.mean()
        noise = jax.random.normal(key)
        loss = jnp.where(updates >= self.breaks_at, jnp.nan, noise)
        return {"updates": updates, "seen": seen, "noise": noise}, {"loss": loss}

    def actor(self, state):
        return state["updates"]

    def act(self, actor, observations, key, deterministic):
        return jnp.full((len(observations), 1), actor / 1000.0)

    def bellman_errors(self, state, batch):
        return batch.rewards + state["updates"]


@flax.struct.dataclass
class Flickering(Counter):
    """Its loss is NaN in one update, and finite in the next."""

    def update(self, state, batch, key):
        state = super().update(state, batch, key)[0]
        return state, {"loss": jnp.where(state["updates"] == self.breaks_at, jnp.nan, 0.0)}


@flax.struct.dataclass
class BadActor(Counter):
    """Its actions are NaN from 12 updates on."""

    def act(self, actor, observations, key, deterministic):
        actions = super().act(actor, observations, key, deterministic)
        return jnp.where(actor >= 12, jnp.nan, actions)


SCHEDULE = ActingSchedule(buffer_size=64, batch_size=4, warmup_steps=6, round_steps=2)
ONE = (Member(0, {}),)


def make_trainer(tmp_path, members=ONE, environment=Counting, learner=None, together=None, **changes):
    """Members that act on the host, each in one environment unless the schedule has more."""
    schedule, files = dataclasses.replace(SCHEDULE, **changes), ReplayFiles(tmp_path)
    return HostTrainer(learner or Counter(), members, environment, schedule, files, together=together)


def make_in_program(tmp_path, members=ONE, environment=PointMass, learner=None, together=False, **changes):
    """Members that act in three compiled environments each."""
    three = {"num_environments": 3, "round_steps": 3, "buffer_size": 256}
    schedule, files = dataclasses.replace(SCHEDULE, **{**three, **changes}), ReplayFiles(tmp_path)
    return CompiledTrainer(learner or Counter(), members, environment(), schedule, files, together)


def save(trainer):
    """Writes the buffers' files; returns the arrays of a checkpoint, and the progress as it is read."""
    snapshot = trainer.snapshot(Progress(trainer.step))
    snapshot.write_more(Path(__file__))  # there are no other checkpoints beside it
    progress = json.loads(json.dumps(dataclasses.asdict(snapshot.progress)))
    return snapshot.items, Progress(**progress)


def buffer_of(trainer, index=0):
    """A member's buffer, as NumPy arrays."""
    group, place = trainer.population.place_of(index)
    return jax.tree.map(lambda leaf: np.asarray(leaf[place]), group.members.buffer)


def transitions(trainer, index=0):
    """What the buffer holds, oldest first, before it is full."""
    buffer = buffer_of(trainer, index)
    return jax.tree.map(lambda field: field[: int(buffer.inserted)], buffer.data)


def acting_updates(trainer):
    """How many updates the policy of each transition since the warm-up had."""
    actions = transitions(trainer).actions[trainer.schedule.warmup_steps :, 0]
    return np.round(1000 * actions).astype(int)


def same(first, second):
    """The same bits, also of keys."""

    def numbers(leaf):
        is_key = hasattr(leaf, "dtype") and jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        return jax.random.key_data(leaf) if is_key else leaf

    assert jax.tree.structure(first) == jax.tree.structure(second)
    for leaf, expected in zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True):
        np.testing.assert_array_equal(numbers(leaf), numbers(expected))
