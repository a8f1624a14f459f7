"""Members that act by chunks: a queue for each environment, ends in the buffer, also after resumptions."""

import flax.struct
import jax.numpy as jnp
import numpy as np
import pytest
from online_fakes import EPISODE, ONE, Counter, buffer_of, make_trainer, save

from xql_jax.data.rows import rows_of_replay
from xql_jax.rollout.acting import ActionQueue
from xql_jax.training.replay_files import ReplayFiles
from xql_jax.types import ChunkBatch, EpisodeBatch, Horizon

CHUNK = Horizon(3, is_chunk=True)


@flax.struct.dataclass
class Planner(Counter):
    """A chunk is the step that it begins at, in hundredths, and that number plus 0.001 and 0.002."""

    discount = 0.5

    def update(self, state, batch, key):
        assert isinstance(batch, ChunkBatch)
        assert batch.actions.shape[1:] == (3,)
        return super().update(state, batch, key)

    def act(self, actor, observations, key, deterministic):
        return observations[:, :1] / 100.0 + jnp.arange(3) / 1000.0


def rows_of(trainer):
    buffer = buffer_of(trainer)
    count = int(buffer.inserted)
    return EpisodeBatch(*(field[:count] for field in buffer.data))


@pytest.mark.parametrize("environments", [1, 2])
def test_chunks_are_carried_out_within_an_episode(tmp_path, environments):
    changes = {"num_environments": environments, "round_steps": 2 * environments}
    trainer = make_trainer(tmp_path, learner=Planner(), horizon=CHUNK, warmup_steps=0, **changes)
    trainer.advance(28 * environments)
    rows = rows_of(trainer)
    steps = np.tile(np.repeat(np.arange(EPISODE), environments), 4)
    np.testing.assert_array_equal(rows.observations[:, 0], steps)
    expected = (steps - steps % 3) / 100 + steps % 3 / 1000  # the chunk begins anew with the episode
    np.testing.assert_allclose(rows.actions[:, 0], expected, atol=1e-7)
    np.testing.assert_array_equal(rows.ends, steps == EPISODE - 1)
    np.testing.assert_array_equal(rows.masks, 1)


def test_random_actions_of_the_warm_up_differ_within_a_chunk(tmp_path):
    trainer = make_trainer(tmp_path, learner=Planner(), horizon=CHUNK, warmup_steps=14)
    trainer.advance(14)
    assert len(np.unique(rows_of(trainer).actions)) == 14


def test_a_resumption_ends_the_episodes_for_good(tmp_path):
    """At 10 steps an episode of 7 is in its third; also the files of later checkpoints know that."""

    def make():
        return make_trainer(tmp_path, ONE, learner=Planner(), horizon=CHUNK)

    first = make()
    first.advance(10)
    saved = save(first)
    np.testing.assert_array_equal(np.flatnonzero(rows_of(first).ends), [6])
    for _ in range(2):  # killed before its next checkpoint, it is resumed from the same
        resumed = make()
        resumed.resume(*saved)
        np.testing.assert_array_equal(np.flatnonzero(rows_of(resumed).ends), [6, 9])
        resumed.advance(18)
    again = make()
    again.resume(*save(resumed))
    np.testing.assert_array_equal(np.flatnonzero(rows_of(again).ends), [6, 9, 16, 17])
    np.testing.assert_array_equal(rows_of(again).actions, rows_of(resumed).actions)
    begin, read = ReplayFiles(tmp_path).of(ONE[0].name).read(None, buffer_of(again).data)
    assert begin == 0
    for found, expected in zip(read, rows_of(resumed), strict=True):
        np.testing.assert_array_equal(found, expected)
    rows = rows_of_replay(0, read, 1)
    np.testing.assert_array_equal(np.flatnonzero(rows["timeouts"]), [6, 9, 16, 17])


def test_the_queue_of_episodes_that_begin_at_different_steps():
    """Every episode decides in its own every third step; where one decides, the others keep their chunks."""
    queue, counter = ActionQueue(3), iter(range(100))

    def decide():
        base = 10.0 * next(counter) + np.array([[0], [100]])
        return (base + np.arange(3)).astype(np.float32)  # [2 episodes, 3 * 1]

    seen = []
    for step in range(7):
        if step == 2:
            queue.begin(np.array([False, True]))
        seen.append(queue.next(decide)[:, 0].tolist())
    # The first decides at 0, 3, 6; the second at 0, 2, 5: calls 0 (both), 1, 2, 3, 4.
    assert [first for first, _ in seen] == [0, 1, 2, 20, 21, 22, 40]
    assert [second for _, second in seen] == [100, 101, 110, 111, 112, 130, 131]
    queue.begin()
    assert queue.next(decide)[:, 0].tolist() == [50, 150]
