"""Checkpoints: bits come back; three are kept, written in a thread that nothing waits for."""

import errno
import os
import pathlib
import re
import shutil
import threading

import jax
import numpy as np
import pytest
from training_runs import Growth, assert_same_bits, make_data, make_growth, offline_population, snapshot

from xql_jax.errors import Damaged, UserError
from xql_jax.training.checkpoints import Checkpoints, Progress, Snapshot
from xql_jax.training.members import make_members
from xql_jax.training.population import Divergence

# Numbers that a detour by text or arithmetic may lose: a subnormal, -0.0, the largest, a NaN with a payload.
BITS = np.array([1, 0x80000000, 0x7F7FFFFF, 0x7FC12345, 0x3DCCCCCD], np.uint32).view(np.float32)
STATES = {
    name: {"params": (BITS.copy(), {"bias": np.ones((2, 1), bool)}), "step": np.array(step, np.int32)}
    for name, step in {"seed0": 2**31 - 1, "seed1": -1}.items()
}
PROGRESS = Progress(
    step=7,
    update_seconds=0.1 + 0.2,
    evaluation_seconds=1e-9,
    members={"seed0": {"diverged": None}, "seed1": {"diverged": {"step": 5, "quantity": "value/loss"}}},
    held={"seconds": {"acting": 1e-300}},
)


def number(x):
    """The states of one member, whose one number is x."""
    return {"seed0": {"x": np.array(x, np.float32)}}


LIKE = number(0)


def files(folder):
    return sorted(path for path in folder.rglob("*") if path.is_file())


def save(folder, *steps, run="", **options):
    """Checkpoints of these steps, whose one number is the step."""
    with Checkpoints(folder, run, **options) as checkpoints:
        for step in steps:
            checkpoints.save(Snapshot({"states": number(step)}, Progress(step=step)))
    return checkpoints


def resume_last_good(checkpoints, like=LIKE):
    """Returns the states and the progress of the last good checkpoint, None where there never was one."""
    given = []
    progress = checkpoints.resume_last_good({"states": like}, lambda items, *of: given.append((items, *of)))
    assert (progress is None) == (not given)
    return (given[0][0]["states"], progress) if given else None


def test_bits_and_progress_come_back(tmp_path):
    checkpoints = Checkpoints(tmp_path / "run")
    assert (checkpoints.steps, resume_last_good(checkpoints, STATES)) == ([], None)
    with pytest.raises(UserError, match=r"no checkpoint 7 .*; there are: none"):
        checkpoints.restore(LIKE, 7)
    assert list(tmp_path.iterdir()) == []  # reading makes nothing
    with checkpoints:
        checkpoints.save(Snapshot({"states": STATES}, PROGRESS))
        checkpoints.wait()
        before = {path: path.read_bytes() for path in files(tmp_path)}
        checkpoints.save(Snapshot({"states": STATES}, Progress(step=7, update_seconds=5.0)))  # once
    assert {path: path.read_bytes() for path in files(tmp_path)} == before
    shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), STATES)
    restored, progress = Checkpoints(tmp_path / "run").restore(shapes, 7)
    assert_same_bits(restored, STATES)
    assert jax.tree.structure(restored) == jax.tree.structure(STATES)
    assert progress == PROGRESS


@pytest.mark.parametrize(
    ("kept", "spared", "left"),
    [(3, None, [4, 9, 10]), (0, None, [1, 4, 9, 10]), (1, 4, [4, 10]), (2, 9, [4, 9, 10]), (1, 5, [10])],
)
def test_the_latest_and_one_more_are_kept(tmp_path, kept, spared, left):
    checkpoints = save(tmp_path, 1, 4, 9, 10, kept=kept, spared=spared)
    assert sorted(int(path.name) for path in tmp_path.iterdir()) == checkpoints.steps == left
    assert checkpoints.restore(LIKE, 10)[0] == number(10)
    assert checkpoints.restore(LIKE, left[0])[0] == number(left[0])
    with pytest.raises(UserError, match=f"no checkpoint 5 .* there are: {', '.join(map(str, left))}"):
        checkpoints.restore(LIKE, 5)


def test_training_on_at_once_does_not_change_what_is_written(tmp_path):
    """The updates after `save` take the states' own memory while the thread has hardly begun."""
    population = make_growth(seeds=(0, 1), grid={"growth": [2.0]})
    for step in (1, 5, 9):
        population.advance(step)
        expected = snapshot(population.snapshot(Progress()).items["states"])
        released, reached = threading.Event(), threading.Event()

        def write_more(folder, reached=reached, released=released):
            reached.set()
            assert released.wait(30)

        with Checkpoints(tmp_path / str(step)) as checkpoints:
            before = threading.Event()
            checkpoints._thread.submit(before.wait, 30)  # nothing is written until the updates are done
            checkpoints.save(population.snapshot(Progress(step))._replace(write_more=write_more))
            population.advance(population.step + 3)
            before.set()
            assert reached.wait(30)
            assert checkpoints.steps == []  # nor is it there before the logs are
            threading.Timer(0.1, released.set).start()
            checkpoints.save(population.snapshot(Progress(99)))  # waits for the first
            assert released.is_set()
            assert step in checkpoints.steps
            assert_same_bits(checkpoints.restore(population.saved_shapes()["states"], step)[0], expected)


def test_a_folder_that_cannot_be_listed_is_no_empty_one(tmp_path):
    """Else `--resume` would begin anew."""
    (tmp_path / "checkpoints").touch()
    with pytest.raises(OSError, match="checkpoints"):
        _ = Checkpoints(tmp_path / "checkpoints").steps


@pytest.mark.parametrize("then", ["wait", "save", "__exit__"])
def test_an_error_of_the_thread_is_raised_by_the_next_call(tmp_path, then):
    def full(folder):
        raise OSError(errno.ENOSPC, "No space left on device")

    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(Snapshot({"states": LIKE}, Progress(step=5), full))
    arguments = (Snapshot({"states": LIKE}, Progress(step=6)),) if then == "save" else ()
    with pytest.raises(UserError, match=r"cannot write .*/5: No space left on device; free space .*--resume"):
        getattr(checkpoints, then)(*arguments)
    assert list(tmp_path.iterdir()) == []  # what there was of it makes room
    checkpoints.wait()  # it was said once


DAMAGES = {
    "of another run, theirs": lambda folder: shutil.copytree(
        folder.parent / "theirs" / folder.name, folder, dirs_exist_ok=True
    ),
    "not JSON": lambda folder: (folder / "checkpoint.json").write_text('{"progress": {"step": 5'),
    "checkpoint.json: missing": lambda folder: (folder / "checkpoint.json").unlink(),
    "states.npz: missing": lambda folder: (folder / "states.npz").unlink(),
    "states.npz is not as it was written": lambda folder: (folder / "states.npz").write_bytes(b""),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_is_left_for_the_one_before(tmp_path, caplog, damage):
    save(tmp_path / "theirs", 5, 6, run="theirs")
    checkpoints = save(tmp_path, 3, 4, 5, 6, run="ours", kept=0)
    for step in (5, 6):
        DAMAGES[damage](tmp_path / str(step))
        with pytest.raises(Damaged, match=damage):
            checkpoints.restore(LIKE, step)
    assert resume_last_good(checkpoints) == (number(4), Progress(step=4))
    line, _ = caplog.messages
    assert re.search(rf"{tmp_path}/6.*{damage}.*; it is deleted, and the run goes on from 4$", line)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["3", "4", "theirs"]


def test_if_all_checkpoints_are_damaged_none_is_deleted(tmp_path):
    checkpoints = save(tmp_path, 3, 4)
    for step in (3, 4):
        (tmp_path / str(step) / "states.npz").write_bytes(b"")
    with pytest.raises(UserError, match=r"/4: damaged: .*; no checkpoint is whole, so .* --save_dir$"):
        resume_last_good(checkpoints)
    assert checkpoints.steps == [3, 4]


@pytest.mark.parametrize(
    ("like", "difference"),
    [
        ({"x": np.zeros(2, np.float32)}, r"\['x'\] is float32\[\], not float32\[2\]"),
        ({**LIKE["seed0"], "y": np.zeros((), np.float32)}, r"\['y'\] is not there, not float32\[\]"),
        ({}, r"\['x'\] is float32\[\], not wanted"),
    ],
)
def test_other_states_are_refused_not_converted(tmp_path, like, difference):
    with pytest.raises(UserError, match=f"by another version of the program: {difference}.*--save_dir"):
        resume_last_good(save(tmp_path, 4, 5), {"seed0": like})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["4", "5"]


def test_what_the_system_refuses_is_no_damage(tmp_path, monkeypatch):
    checkpoints = save(tmp_path, 4, 5)

    def refuse(path):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(pathlib.Path, "read_bytes", refuse)
    with pytest.raises(UserError, match=r"^cannot read .*/5/checkpoint.json: Input/output error$") as error:
        resume_last_good(checkpoints)
    assert type(error.value) is UserError
    assert checkpoints.steps == [4, 5]


def test_some_members_go_on_alone(tmp_path):
    """Bit for bit as the six together, in another order, and each diverged as it had."""
    six, chosen = make_members([3, 4, 5], {"growth": [1.0, 4.0]}), [4, 0, 2]  # the last three diverge at 32
    population = offline_population(Growth(), six, make_data(), 4)
    population.advance(40)
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(population.snapshot(Progress(40)))
    metrics = snapshot(population.advance(60))
    some = offline_population(Growth(), [six[index] for index in chosen], make_data(), 4)
    checkpoints.resume_last_good(some.saved_shapes(), some.resume)
    assert (some.step, some.diverged) == (40, {0: Divergence(32, "walk/square")})
    for found, expected in zip(snapshot(some.advance(60)), metrics, strict=True):
        np.testing.assert_array_equal(found[1:], expected[chosen][1:])
    assert_same_bits(some.states, [leaf[chosen] for leaf in snapshot(population.states)])
