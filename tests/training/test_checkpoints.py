"""Checkpoints: bits come back; three are kept, written in a thread that nothing waits for."""

import errno
import shutil
import threading

import jax
import numpy as np
import pytest
from checkpoint_files import LIKE, PROGRESS, files, make_states, number, resume_last_good, save
from training_runs import Growth, advance, assert_same_bits, make_data, make_growth, snapshot

from xql_jax.errors import UserError
from xql_jax.training.checkpoints import Checkpoints, Progress
from xql_jax.training.manifests import UnfitCheckpoint
from xql_jax.training.members import make_members, member_shapes
from xql_jax.training.population import Population
from xql_jax.training.trainable import Divergence


def test_bits_and_progress_come_back(tmp_path):
    states = make_states()
    checkpoints = Checkpoints(tmp_path)
    assert checkpoints.steps == []
    assert resume_last_good(checkpoints, states) is None
    checkpoints.save(states, PROGRESS)
    checkpoints.close()

    again = Checkpoints(tmp_path)
    assert again.steps == [7]
    shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), states)
    for like in (jax.tree.map(np.zeros_like, states), shapes):
        restored, progress = again.restore(like)
        assert_same_bits(restored, states)
        assert all(isinstance(leaf, np.ndarray) for leaf in jax.tree.leaves(restored))
        assert jax.tree.structure(restored) == jax.tree.structure(states)
        assert progress == PROGRESS
    again.close()


def test_three_are_kept_and_any_is_restored(tmp_path):
    save(tmp_path, 1, 4, 9, 10)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["10", "4", "9"]
    checkpoints = Checkpoints(tmp_path)
    assert checkpoints.steps == [4, 9, 10]
    assert checkpoints.restore(LIKE)[0] == number(10)
    assert checkpoints.restore(LIKE, 4)[0] == number(4)
    with pytest.raises(UserError, match=r"no checkpoint 5 .* there are: 4, 9, 10"):
        checkpoints.restore(LIKE, 5)


@pytest.mark.parametrize(
    ("kept", "spared", "left"),
    [
        (0, None, [1, 4, 9, 10]),
        (1, None, [10]),
        (2, None, [9, 10]),
        (1, 4, [4, 10]),
        (2, 9, [4, 9, 10]),
        (0, 4, [1, 4, 9, 10]),
        (1, 5, [10]),
    ],
)
def test_others_are_told_what_stays(tmp_path, kept, spared, left):
    with Checkpoints(tmp_path, kept=kept, spared=spared) as checkpoints:
        for step in (1, 4, 9, 10):
            checkpoints.save(number(step), Progress(step=step))
    assert Checkpoints(tmp_path).steps == left


SIX = make_members([3, 4, 5], {"growth": [1.0, 4.0]})  # the last three diverge at update 32


def make_population(members):
    return Population(Growth(), members, make_data(), batch_size=4)


@pytest.fixture(scope="module")
def six(tmp_path_factory):
    """A checkpoint of six members at update 40, and what they come to at update 60."""
    population, folder = make_population(SIX), tmp_path_factory.mktemp("six")
    advance(population, 40, 40)
    saving = population.saving()
    checkpoints = Checkpoints(folder)
    checkpoints.save(saving.states, Progress(step=40, members=saving.members))
    checkpoints.close()
    metrics = population.advance(60)
    return folder, snapshot(population.states), snapshot(metrics)


@pytest.mark.parametrize("chosen", [[0, 1, 2], [4, 0, 2]])
def test_some_of_its_members_go_on_alone(six, chosen):
    """Bit for bit as the six together, in another order too, and each diverged as it had."""
    folder, states, metrics = six
    some = make_population([SIX[index] for index in chosen])
    checkpoints = Checkpoints(folder)
    progress = checkpoints.resume_last_good(member_shapes(some.states, some.members), some.resume)
    checkpoints.close()
    assert some.step == progress.step == 40
    at_32 = Divergence(32, "walk/square")
    assert some.diverged == {position: at_32 for position, index in enumerate(chosen) if index >= 3}
    assert_same_bits(some.advance(60), [metric[chosen] for metric in metrics])
    assert_same_bits(some.states, [leaf[chosen] for leaf in states])


def test_a_member_that_it_does_not_hold_is_told(six):
    checkpoints = Checkpoints(six[0])
    growth = {"x": np.zeros((), np.float32), "y": np.zeros((), np.float32), "z": np.zeros(3, np.float32)}
    with pytest.raises(
        UnfitCheckpoint, match=r"/40: it has no member seed6_growth=1; it has: seed3_growth=1,"
    ):
        checkpoints.restore({"seed6_growth=1": growth})
    assert checkpoints.restore({"seed5_growth=1": growth})[1].step == 40
    checkpoints.close()


def test_reading_makes_nothing(tmp_path):
    checkpoints = Checkpoints(tmp_path / "nowhere")
    assert checkpoints.steps == []
    with pytest.raises(UserError, match="there is none"):
        checkpoints.restore(LIKE)
    assert resume_last_good(checkpoints, LIKE) is None
    checkpoints.close()
    assert list(tmp_path.iterdir()) == []


def test_the_same_step_is_saved_once(tmp_path):
    save(tmp_path, 3)
    before = {path: path.read_bytes() for path in files(tmp_path)}
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(number(1), Progress(step=3, update_seconds=5.0))
    checkpoints.close()
    assert {path: path.read_bytes() for path in files(tmp_path)} == before


def test_a_write_cut_short_is_no_checkpoint(tmp_path):
    save(tmp_path, 3)
    # What a kill leaves: the temporary names of one in the making and of one that was being deleted.
    arrays = tmp_path / "3" / "members" / "seed0"
    shutil.copytree(arrays, tmp_path / "6.tmp" / "members" / "seed0.orbax-checkpoint-tmp")
    shutil.copytree(arrays, tmp_path / "1.tmp" / "members" / "seed0")
    checkpoints = Checkpoints(tmp_path)
    assert checkpoints.steps == [3]
    assert resume_last_good(checkpoints, LIKE)[0] == number(3)
    save(tmp_path, 6)
    assert checkpoints.restore(LIKE)[0] == number(6)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["3", "6"]


class Held:
    """Holds the writing thread before the checkpoint takes its name, as slow a disk as the test needs."""

    def __init__(self):
        self.reached, self.released = threading.Event(), threading.Event()

    def __call__(self, folder):
        self.reached.set()
        assert self.released.wait(30)


def test_training_on_at_once_does_not_change_what_is_written(tmp_path):
    """The updates after `save` take the states' own memory while the thread has hardly begun."""
    population = make_growth(seeds=(0, 1), grid={"growth": [2.0]})
    like = member_shapes(population.states, population.members)
    for step in (1, 5, 9):
        population.advance(step)
        expected = [np.array(leaf) for leaf in jax.tree.leaves(population.saving().states)]
        before = snapshot(population.states)
        checkpoints = Checkpoints(tmp_path / str(step))
        before_write, held = threading.Event(), Held()
        checkpoints._thread.submit(before_write.wait, 30)  # nothing is written until the updates are done
        checkpoints.save(population.saving().states, Progress(step=step), held)
        for _ in range(3):
            population.advance(population.step + 1)
        before_write.set()
        assert held.reached.wait(30)
        population.advance(population.step + 1)
        assert checkpoints.steps == []  # nor is it there before the logs are
        held.released.set()
        checkpoints.wait()
        assert_same_bits(checkpoints.restore(like)[0], expected)
        assert (snapshot(population.states)[2] != before[2]).all()
        checkpoints.close()


def test_one_write_at_a_time(tmp_path):
    checkpoints, held = Checkpoints(tmp_path), Held()
    checkpoints.save(number(1), Progress(step=1), held)
    assert held.reached.wait(30)
    threading.Timer(0.2, held.released.set).start()
    checkpoints.save(number(2), Progress(step=2))
    assert held.released.is_set()
    assert 1 in checkpoints.steps
    checkpoints.close()
    assert checkpoints.steps == [1, 2]


@pytest.mark.parametrize("then", ["wait", "save", "close"])
def test_an_error_of_the_thread_is_raised_by_the_next_call(tmp_path, then):
    def full(folder):
        raise OSError(errno.ENOSPC, "No space left on device")

    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(LIKE, Progress(step=5), full)
    with pytest.raises(UserError, match=r"cannot write .*/5: No space left on device; free space .*--resume"):
        checkpoints.save(LIKE, Progress(step=6)) if then == "save" else getattr(checkpoints, then)()
    assert list(tmp_path.iterdir()) == []  # what there was of it makes room
    checkpoints.close()  # it was said once


def test_a_disk_that_refuses_orbax(tmp_path, monkeypatch, capfd):
    """tensorstore's error, as it comes at a full disk; the real one is in tests/experiments."""
    checkpoints = Checkpoints(tmp_path)

    def save(*arguments, **keywords):
        raise ValueError(f"RESOURCE_EXHAUSTED: Failed to write [os_error_code='{errno.EDQUOT}']")

    monkeypatch.setattr(checkpoints._orbax, "save", save)
    checkpoints.save(LIKE, Progress(step=5))
    with pytest.raises(UserError, match=r"cannot write .*/5: Disk quota exceeded; free space"):
        checkpoints.close()
    assert capfd.readouterr().err == ""
