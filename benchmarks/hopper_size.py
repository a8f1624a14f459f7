"""Random data of hopper's size, and learners, populations and the arithmetic of an update: what is timed."""

from typing import Any

import numpy as np

from xql_jax.data.dataset import Dataset
from xql_jax.data.views import view_for
from xql_jax.learners.registry import make_learner
from xql_jax.settings import values_of, with_values
from xql_jax.training.members import make_members
from xql_jax.training.population import Population
from xql_jax.training.trainer import OfflineTrainer, resident
from xql_jax.types import Batch

OBSERVATION_DIM, ACTION_DIM, WIDTH = 11, 3, 256  # WIDTH: of each of the two hidden layers
EPISODE = 1_000  # steps


def random_data(size: int) -> Dataset:
    """Returns normally distributed observations and rewards in trajectories of `EPISODE` steps."""
    random = np.random.default_rng(0)
    shapes = ((size, OBSERVATION_DIM), (size, ACTION_DIM), (size,), (size, OBSERVATION_DIM))
    observations, actions, rewards, next_observations = (
        random.standard_normal(shape, dtype=np.float32) for shape in shapes
    )
    next_observations[:-1] = observations[1:]
    batch = Batch(observations, np.tanh(actions), rewards, np.ones_like(rewards), next_observations)
    return Dataset(batch, np.arange(size) % EPISODE == EPISODE - 1, "random numbers")


def learner_of(name: str, width: int = WIDTH) -> Any:
    """Returns the learner of METHOD or METHOD:FIELD=NUMBER;..., with two hidden layers of this width."""
    name, _, numbers = name.partition(":")
    learner: Any = make_learner(name)
    own = dict(number.split("=") for number in numbers.split(";") if number)
    learner = with_values(learner, {field: float(number) for field, number in own.items()})
    widths = [field for field in values_of(learner) if field.endswith("_hidden_dims")]
    return with_values(learner, dict.fromkeys(widths, (width, width)))


def trainer_of(name: str, data: Dataset, batch_size: int) -> OfflineTrainer:
    """Returns a compiled population of one member (seed) of the method, which learns from the data."""
    learner = learner_of(name)
    batch = view_for(learner, data).batch
    trainer = OfflineTrainer(Population(learner, make_members([0], {}), resident(batch, batch_size)))
    trainer.population.compile()
    return trainer


def update_flops(algorithm: str, batch_size: int, action_dim: int = ACTION_DIM) -> int:
    """Returns the operations in the matrix products of one update: of behaviour cloning, or XQL and IQL.

    A forward pass takes 2 * rows * weights. A backward pass takes twice that, except for the first input,
    which needs no gradient.
    """

    def network(inputs: int, outputs: int) -> tuple[int, int]:
        forward = 2 * batch_size * (inputs * WIDTH + WIDTH * WIDTH + WIDTH * outputs)
        return forward, 3 * forward - 2 * batch_size * inputs * WIDTH

    v_forward, v_step = network(OBSERVATION_DIM, 1)
    q_forward, q_step = network(OBSERVATION_DIM + action_dim, 1)
    _, actor_step = network(OBSERVATION_DIM, action_dim)
    return actor_step if algorithm == "bc" else actor_step + 2 * (q_forward + q_step + v_forward) + v_step
