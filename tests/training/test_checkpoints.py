"""Checkpoints: bits come back; three are kept, written in a thread that nothing waits for."""

import errno
import json
import os
import pathlib
import random
import shutil
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from training_runs import (
    Growth,
    advance,
    assert_same_bits,
    make_data,
    make_growth,
    offline_population,
    snapshot,
)

from xql_jax.errors import Damaged, UserError
from xql_jax.files import digest
from xql_jax.training.checkpoint_parts import DamagedCheckpoint, UnfitCheckpoint
from xql_jax.training.checkpoints import Checkpoints, Progress
from xql_jax.training.members import make_members
from xql_jax.training.strategy import Divergence

# Numbers that a detour by text or arithmetic may lose: a subnormal, -0.0, the largest, a NaN with a payload.
BITS = np.array([1, 0x80000000, 0x7F7FFFFF, 0x7FC12345, 0x3DCCCCCD], np.uint32)
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


def make_states():
    """Those of two members, seed0 and seed1."""
    bias = {"bias": np.ones((2, 1), jnp.bfloat16)}
    steps = {"seed0": 2**31 - 1, "seed1": -1}
    return {
        name: {"params": (BITS.view(np.float32).copy(), bias), "step": np.array(step, np.int32)}
        for name, step in steps.items()
    }


def files(folder):
    return sorted(path for path in folder.rglob("*") if path.is_file())


def save(folder, *steps):
    """Checkpoints of these steps, whose one number is the step."""
    checkpoints = Checkpoints(folder)
    for step in steps:
        checkpoints.save({"states": number(step)}, Progress(step=step))
    checkpoints.close()


def resume_last_good(checkpoints, like):
    """Returns the states and the progress of the last good checkpoint, None where there never was one."""
    given = []
    like = {"states": like}
    progress = checkpoints.resume_last_good(like, lambda items, *of: given.append((items["states"], *of)))
    if progress is None:
        assert given == []
        return None
    ((states, same),) = given
    assert same == progress
    return states, progress


def test_bits_and_progress_come_back(tmp_path):
    states = make_states()
    checkpoints = Checkpoints(tmp_path)
    assert checkpoints.steps == []
    assert resume_last_good(checkpoints, states) is None
    checkpoints.save({"states": states}, PROGRESS)
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
            checkpoints.save({"states": number(step)}, Progress(step=step))
    assert Checkpoints(tmp_path).steps == left


SIX = make_members([3, 4, 5], {"growth": [1.0, 4.0]})  # the last three diverge at update 32


def make_population(members):
    return offline_population(Growth(), members, make_data(), 4)


@pytest.fixture(scope="module")
def six(tmp_path_factory):
    """A checkpoint of six members at update 40, and what they come to at update 60."""
    population, folder = make_population(SIX), tmp_path_factory.mktemp("six")
    advance(population, 40, 40)
    saving = population.saving()
    checkpoints = Checkpoints(folder)
    checkpoints.save(saving.items, Progress(step=40, members=saving.members))
    checkpoints.close()
    metrics = population.advance(60)
    return folder, snapshot(population.states), snapshot(metrics)


@pytest.mark.parametrize("chosen", [[0, 1, 2], [4, 0, 2]])
def test_some_of_its_members_go_on_alone(six, chosen):
    """Bit for bit as the six together, in another order too, and each diverged as it had."""
    folder, states, metrics = six
    some = make_population([SIX[index] for index in chosen])
    checkpoints = Checkpoints(folder)
    progress = checkpoints.resume_last_good(some.saved_shapes(), some.resume)
    checkpoints.close()
    assert some.step == progress.step == 40
    at_32 = Divergence(32, "walk/square")
    assert some.diverged == {position: at_32 for position, index in enumerate(chosen) if index >= 3}
    alive = [position for position, index in enumerate(chosen) if index < 3]
    found = [np.asarray(metric)[alive] for metric in jax.tree.leaves(some.advance(60))]
    assert_same_bits(found, [metric[chosen][alive] for metric in metrics])
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
    checkpoints.save({"states": number(1)}, Progress(step=3, update_seconds=5.0))
    checkpoints.close()
    assert {path: path.read_bytes() for path in files(tmp_path)} == before


def test_a_write_cut_short_is_no_checkpoint(tmp_path):
    save(tmp_path, 3)
    # What a kill leaves: the temporary names of one in the making and of one that was being deleted.
    arrays = tmp_path / "3" / "states"
    shutil.copytree(arrays, tmp_path / "6.tmp" / "states.orbax-checkpoint-tmp")
    shutil.copytree(arrays, tmp_path / "1.tmp" / "states")
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
    like = population.saved_shapes()["states"]
    for step in (1, 5, 9):
        population.advance(step)
        expected = [np.array(leaf) for leaf in jax.tree.leaves(population.saving().items["states"])]
        before = snapshot(population.states)
        checkpoints = Checkpoints(tmp_path / str(step))
        before_write, held = threading.Event(), Held()
        checkpoints._thread.submit(before_write.wait, 30)  # nothing is written until the updates are done
        checkpoints.save(population.saving().items, Progress(step=step), held)
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
    checkpoints.save({"states": number(1)}, Progress(step=1), held)
    assert held.reached.wait(30)
    threading.Timer(0.2, held.released.set).start()
    checkpoints.save({"states": number(2)}, Progress(step=2))
    assert held.released.is_set()
    assert 1 in checkpoints.steps
    checkpoints.close()
    assert checkpoints.steps == [1, 2]


@pytest.mark.parametrize("then", ["wait", "save", "close"])
def test_an_error_of_the_thread_is_raised_by_the_next_call(tmp_path, then):
    def full(folder):
        raise OSError(errno.ENOSPC, "No space left on device")

    checkpoints = Checkpoints(tmp_path)
    checkpoints.save({"states": LIKE}, Progress(step=5), full)
    with pytest.raises(UserError, match=r"cannot write .*/5: No space left on device; free space .*--resume"):
        checkpoints.save({"states": LIKE}, Progress(step=6)) if then == "save" else getattr(
            checkpoints, then
        )()
    assert list(tmp_path.iterdir()) == []  # what there was of it makes room
    checkpoints.close()  # it was said once


def test_a_disk_that_refuses_orbax(tmp_path, monkeypatch, capfd):
    """tensorstore's error, as it comes at a full disk; the real one is in tests/experiments."""
    checkpoints = Checkpoints(tmp_path)

    def save(*arguments, **keywords):
        raise ValueError(f"RESOURCE_EXHAUSTED: Failed to write [os_error_code='{errno.EDQUOT}']")

    monkeypatch.setattr(checkpoints._orbax, "save", save)
    checkpoints.save({"states": LIKE}, Progress(step=5))
    with pytest.raises(UserError, match=r"cannot write .*/5: Disk quota exceeded; free space"):
        checkpoints.close()
    assert capfd.readouterr().err == ""


def flips(path, generator):
    """Some offsets of a file, its first and last bytes among them, each with a bit to flip."""
    size = path.stat().st_size
    offsets = {0, 1, size // 2, size - 2, size - 1, *generator.sample(range(size), min(size, 4))}
    return [(offset, 1 << generator.randrange(8)) for offset in sorted(offsets & set(range(size)))]


def test_one_flipped_bit_anywhere(tmp_path):
    """The bits as they were or an older checkpoint's or a line: never other numbers, never a traceback."""
    states = make_states()
    older = jax.tree.map(lambda leaf: leaf + 1, states)
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save({"states": older}, Progress(step=3))
    checkpoints.save({"states": states}, PROGRESS)
    checkpoints.wait()
    generator, outcomes = random.Random(0), {}
    for path in files(tmp_path / "7"):
        content = path.read_bytes()
        for offset, bit in flips(path, generator):
            changed = bytearray(content)
            changed[offset] ^= bit
            path.write_bytes(changed)
            where = f"{path.relative_to(tmp_path / '7')}[{offset}]"
            try:
                restored, progress = checkpoints.restore(states)
                assert_same_bits(restored, states)
                assert progress == PROGRESS
                outcomes[where] = "same"
            except UnfitCheckpoint as error:
                outcomes[where] = str(error)
        path.write_bytes(content)
    assert len(outcomes) > 40
    told = [outcome for outcome in outcomes.values() if outcome != "same"]
    assert all(line.startswith(f"checkpoint {tmp_path / '7'}: damaged: ") for line in told)
    assert not any("\n" in line for line in told)
    # White space, or the likes, in the JSON of the digests themselves may change; nothing else.
    assert all("checkpoint.json" in where for where, outcome in outcomes.items() if outcome == "same")
    assert_same_bits(checkpoints.restore(states)[0], states)
    checkpoints.close()


def flip(path, offset=-1):
    content = bytearray(path.read_bytes())
    content[offset] ^= 4
    path.write_bytes(content)


def largest(folder):
    return max(files(folder / "states"), key=lambda path: path.stat().st_size)


def write_json(path, **changes):
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


DAMAGES = {
    "a flipped bit": lambda folder: flip(largest(folder)),
    "a truncated file": lambda folder: largest(folder).write_bytes(largest(folder).read_bytes()[:-3]),
    "an empty file": lambda folder: largest(folder).write_bytes(b""),
    "a missing file": lambda folder: largest(folder).unlink(),
    "no arrays": lambda folder: shutil.rmtree(folder / "states"),
    "nothing": lambda folder: (shutil.rmtree(folder), folder.mkdir()),
    "no digests": lambda folder: (folder / "checkpoint.json").unlink(),
    "half of the JSON": lambda folder: (folder / "checkpoint.json").write_text('{"progress": {"step": 5'),
    "other JSON": lambda folder: (folder / "checkpoint.json").write_text("[[1]]"),
    "deep JSON": lambda folder: (folder / "checkpoint.json").write_text("[" * 100_000),
    "no text": lambda folder: (folder / "checkpoint.json").write_bytes(b"\xff\xfe\x00"),
    "another step": lambda folder: write_json(folder / "checkpoint.json", progress={"step": 6}),
    "a file instead": lambda folder: (shutil.rmtree(folder), folder.touch()),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_is_set_aside_for_the_one_before(tmp_path, caplog, damage):
    save(tmp_path, 4, 5, 6)
    DAMAGES[damage](tmp_path / "5")
    DAMAGES[damage](tmp_path / "6")
    damaged = {path: path.read_bytes() for path in files(tmp_path)}
    checkpoints = Checkpoints(tmp_path)
    for step in (None, 5, 6):
        with pytest.raises(DamagedCheckpoint):
            checkpoints.restore(LIKE, step)
    assert {path: path.read_bytes() for path in files(tmp_path)} == damaged  # reading renames nothing
    states, progress = resume_last_good(checkpoints, LIKE)
    assert (states, progress) == (number(4), Progress(step=4))
    assert [(record.levelname, record.getMessage().split(": ")[0]) for record in caplog.records] == [
        ("WARNING", f"checkpoint {tmp_path / str(step)}") for step in (6, 5)
    ]
    assert all(line.endswith("the run goes on from 4") for line in caplog.messages)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["4", "damaged-5", "damaged-6"]
    save(tmp_path, 5, 6)
    assert checkpoints.steps == [4, 5, 6]
    checkpoints.close()


@pytest.mark.parametrize(("kept", "goes_on"), [(2, False), (3, True)])
def test_damage_elsewhere_does_not_cost_all_that_came_after_a_spared_one(tmp_path, kept, goes_on):
    """One file of the replay buffer, say, which all checkpoints need but that of the hand-over."""
    save(tmp_path, 4, 5, 6)

    def resume(items, progress):
        if progress.step > 4:
            raise Damaged("buffer: missing")

    with Checkpoints(tmp_path, kept=kept, spared=4) as checkpoints:
        if goes_on:  # it is one of the latest
            assert checkpoints.resume_last_good({"states": LIKE}, resume) == Progress(step=4)
        else:
            with pytest.raises(
                UserError, match=r"^buffer: missing, nor can the 1 before it, so .*--save_dir"
            ):
                checkpoints.resume_last_good({"states": LIKE}, resume)
            assert checkpoints.steps == [4, 5, 6]


@pytest.mark.parametrize("kind", ["another run's", "another step's"])
def test_what_is_of_another_run_or_step_is_refused(tmp_path, kind):
    for run in ("ours", "theirs"):
        with Checkpoints(tmp_path / run, run) as checkpoints:
            for step in (4, 5, 6) if run == "theirs" else (4, 5):
                checkpoints.save({"states": number(step)}, Progress(step=step))
    ours = tmp_path / "ours"
    shutil.copytree(tmp_path / "theirs" / "6" if kind == "another run's" else ours / "4", ours / "6")
    words = "it is of another run, theirs; this one is ours" if kind == "another run's" else "it is of step 4"
    with Checkpoints(ours, "ours") as checkpoints:
        with pytest.raises(DamagedCheckpoint, match=words):
            checkpoints.restore(LIKE, 6)
        assert resume_last_good(checkpoints, LIKE)[1].step == 5


@pytest.mark.parametrize(
    ("like", "told"),
    [
        ({"x": np.zeros(2, np.float32)}, r"\['x'\] is float32\[\], not float32\[2\]"),
        ({"x": np.zeros((), np.int32)}, r"\['x'\] is float32\[\], not int32\[\]"),
        ({**LIKE["seed0"], "y": np.zeros((), np.float32)}, r"\['y'\] is not there, not float32\[\]"),
        ({}, r"\['x'\] is float32\[\], not wanted"),
    ],
)
def test_other_states_are_told_not_converted(tmp_path, like, told):
    """orbax cuts and fills arrays of other shapes, and converts other types, without a word."""
    like = {"seed0": like}
    save(tmp_path, 4, 5)
    with pytest.raises(UnfitCheckpoint, match=told):
        Checkpoints(tmp_path).restore(like)
    with pytest.raises(UserError, match=r"another version of the program.*--save_dir"):
        resume_last_good(Checkpoints(tmp_path), like)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["4", "5"]


def test_a_checkpoint_of_an_earlier_version_is_told(tmp_path):
    save(tmp_path, 3, 4)
    content = json.loads((tmp_path / "4" / "checkpoint.json").read_text())
    content["members"] = {"seed0": {"['x']": "float32[]"}}
    content.pop("digest")
    (tmp_path / "4" / "checkpoint.json").write_text(json.dumps({**content, "digest": digest(content)}))
    with pytest.raises(UserError, match=r"4: written by an earlier version.*--save_dir$"):
        resume_last_good(Checkpoints(tmp_path), LIKE)


@pytest.mark.parametrize("number", [errno.EMFILE, errno.EIO, errno.EACCES])
def test_what_the_system_refuses_is_no_damage(tmp_path, monkeypatch, number):
    save(tmp_path, 4, 5)
    refused, read_bytes = largest(tmp_path / "5"), pathlib.Path.read_bytes

    def read(path):
        if path == refused:
            raise OSError(number, os.strerror(number))
        return read_bytes(path)

    checkpoints = Checkpoints(tmp_path)
    monkeypatch.setattr(pathlib.Path, "read_bytes", read)
    for restore in (checkpoints.restore, lambda like: resume_last_good(checkpoints, like)):
        with pytest.raises(UserError, match=f"^cannot read {refused}: {os.strerror(number)}$") as error:
            restore(LIKE)
        assert type(error.value) is UserError
    monkeypatch.undo()
    assert checkpoints.steps == [4, 5]
