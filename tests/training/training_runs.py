"""What the training tests share: a learner of exact arithmetic that compiles quickly, and its runs."""

from typing import ClassVar

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from xql_jax.learners.method import Part
from xql_jax.rollout.evaluation import EpisodeResults
from xql_jax.settings import EITHER, POSITIVE, static, traced
from xql_jax.suites.tasks import get_task
from xql_jax.training.checkpoints import TrainingFiles
from xql_jax.training.loop import TrainingLoop
from xql_jax.training.members import make_members
from xql_jax.training.population import Population
from xql_jax.training.schedule import Schedule
from xql_jax.training.signals import StopSignals
from xql_jax.training.trainer import OfflineTrainer, resident
from xql_jax.types import Batch

TRACES = []  # one entry whenever Python runs Growth.update
TASK = get_task("pointmaze-umaze-v0")


@flax.struct.dataclass
class Growth(Part):
    """x and y grow by powers of two, so float32 overflows where the exponent says; z is a noisy average.

    With growth 2, x is 2^t after update t; its square, a metric, overflows at update 64, where x is still
    finite. With silent_growth 2, y is 2^t, shows in no metric, and overflows at update 128.
    """

    growth: float = traced(1.0, POSITIVE)
    silent_growth: float = traced(1.0, POSITIVE)
    fragile: bool = static(False, EITHER)  # the actions need x^3 to be finite

    batch_type: ClassVar[type] = Batch

    def init(self, key, observations, actions):
        return {"x": jnp.float32(1.0), "y": jnp.float32(1.0), "z": jax.random.normal(key, (3,))}

    def update(self, state, batch, key):
        TRACES.append(batch.rewards.shape)
        x, y = state["x"] * self.growth, state["y"] * self.silent_growth
        z = (
            0.9 * state["z"]
            + jax.random.normal(key, (3,))
            + (batch.rewards[:, None] * batch.observations).mean(0)
        )
        return {"x": x, "y": y, "z": z}, {"walk/square": x * x, "walk/z": z.sum(), "walk/x": x}

    def actor(self, state):
        return {name: state[name] for name in ("x", "z")}

    def act(self, actor, observations, key, deterministic):
        actions = jnp.tanh(actor["z"][:2] + observations[:, :2])
        return actions + 0.0 * actor["x"] ** 3 if self.fragile else actions


def make_data(size=40, seed=0, reward_scale=1.0):
    """Observations f32[size, 3], actions f32[size, 2]; half of the transitions are terminal."""
    generator = np.random.default_rng(seed)
    arrays = (
        generator.normal(size=(size, 3)),
        generator.uniform(-1, 1, (size, 2)),
        reward_scale * generator.normal(size=size),
        generator.integers(0, 2, size),
        generator.normal(size=(size, 3)),
    )
    return Batch(*(np.asarray(array, np.float32) for array in arrays))


ARRAYS = make_data()._asdict()


def widths(*sizes):
    """Hyperparameters that give all networks of an in-sample learner hidden layers of these sizes."""
    return dict.fromkeys(("actor_hidden_dims", "critic_hidden_dims", "value_hidden_dims"), sizes)


def offline_trainer(learner, members, data, batch_size, ramps=(), together=None):
    source = resident(data, batch_size, ramps, together)
    return OfflineTrainer(Population(learner, members, source, together))


def make_growth(seeds=(0, 1), grid=None, **values):
    """The trainer of members of Growth; what neither the grid nor the values set does not grow."""
    return offline_trainer(Growth(**values), make_members(list(seeds), grid or {}), make_data(), 4)


def snapshot(tree):
    """The leaves as NumPy copies, safe from donation."""
    return [np.array(leaf) for leaf in jax.tree.leaves(tree)]


def assert_same_bits(tree, other):
    for leaf, expected in zip(snapshot(tree), snapshot(other), strict=True):
        assert leaf.dtype == expected.dtype
        assert leaf.tobytes() == expected.tobytes()


class Start:
    """A trainer's start, so that one compilation serves many runs."""

    def __init__(self, trainer):
        self.trainer = trainer
        self._members = [group.members for group in trainer.population.groups]

    def again(self):
        trainer = self.trainer
        for group, members in zip(trainer.population.groups, self._members, strict=True):
            group.members = members
        trainer.population.diverged, trainer.step = {}, 0
        return trainer


def advance(trainer, stop, call):
    """Updates 0 to `stop` in calls of `call`; returns the last metrics."""
    for start in range(0, stop, call):
        metrics = trainer.advance(min(start + call, stop))
    return metrics


class OneStep:
    """Stands in for an Evaluator: a member's return is the sum of its actions at one observation."""

    def __init__(self, num_members, size=3):
        self._observations = np.full((num_members, 1, size), 0.25, np.float32)

    def run(self, act):
        actions = act(self._observations).astype(np.float64)
        return EpisodeResults(actions.sum(-1), np.ones(actions.shape[:2], np.int64), None)


def make_training(path, trainer, schedule):
    """Returns a loop and its files."""
    files = TrainingFiles(path)
    path.mkdir(parents=True, exist_ok=True)
    evaluator = OneStep(len(trainer.population.members))
    return TrainingLoop.resumed(trainer, evaluator, TASK, Schedule(*schedule), files), files


def train(training, **options):
    """Runs a loop until it ends; returns the signal that stopped it, None if none did."""
    with StopSignals() as stop:
        assert training.run(stop, show_progress=False, **options) is None
    return stop.received


def untimed(path):
    """A CSV file's lines without their last cell, the seconds."""
    lines = path.read_text().splitlines()
    assert all(line.count(",") == lines[0].count(",") for line in lines)
    return [line.rsplit(",", 1)[0] for line in lines]
