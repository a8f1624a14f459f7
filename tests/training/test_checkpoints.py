"""Checkpoints: bits come back or nothing does, whatever byte changed; three are kept, written in a thread."""

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
from training_runs import assert_same_bits, make_growth, snapshot

from xql_jax.errors import UserError
from xql_jax.training import checkpoint
from xql_jax.training.checkpoint import Checkpoints, DamagedCheckpoint, Progress, UnfitCheckpoint

# Numbers that a detour by text or arithmetic may lose: a subnormal, -0.0, the largest, a NaN with a payload.
BITS = np.array([1, 0x80000000, 0x7F7FFFFF, 0x7FC12345, 0x3DCCCCCD], np.uint32)
PROGRESS = Progress(
    step=7,
    diverged={"2": {"step": 5, "quantity": "value/loss"}},
    update_seconds=0.1 + 0.2,
    evaluation_seconds=1e-9,
)


def make_states():
    floats = jax.lax.bitcast_convert_type(jnp.asarray(BITS), jnp.float32)
    return {"params": (floats, {"bias": jnp.ones((2, 1), jnp.bfloat16)}), "step": jnp.int32([2**31 - 1, -1])}


def files(folder):
    return sorted(path for path in folder.rglob("*") if path.is_file())


def save(folder, *steps):
    """Checkpoints of these steps, whose one number is the step."""
    checkpoints = Checkpoints(folder)
    for step in steps:
        checkpoints.save({"x": jnp.float32(step)}, Progress(step=step))
    checkpoints.close()


LIKE = {"x": jnp.float32(0)}


def test_bits_and_progress_come_back(tmp_path):
    states = make_states()
    checkpoints = Checkpoints(tmp_path)
    assert checkpoints.latest_step is None
    assert checkpoints.restore_last_good(states) is None
    checkpoints.save(states, PROGRESS)
    checkpoints.close()

    again = Checkpoints(tmp_path)
    assert (again.latest_step, again.steps) == (7, [7])
    shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), states)
    for like in (jax.tree.map(jnp.zeros_like, states), shapes):
        restored, progress = again.restore(like)
        assert_same_bits(restored, states)
        assert jax.tree.structure(restored) == jax.tree.structure(states)
        assert progress == PROGRESS
    again.close()


def test_three_are_kept_and_any_is_restored(tmp_path):
    save(tmp_path, 1, 4, 9, 10)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["10", "4", "9"]
    checkpoints = Checkpoints(tmp_path)
    assert checkpoints.steps == [4, 9, 10]
    assert float(checkpoints.restore(LIKE)[0]["x"]) == 10.0
    assert float(checkpoints.restore(LIKE, 4)[0]["x"]) == 4.0
    with pytest.raises(UserError, match=r"no checkpoint 5 .* there are: 4, 9, 10"):
        checkpoints.restore(LIKE, 5)


def test_reading_makes_nothing(tmp_path):
    checkpoints = Checkpoints(tmp_path / "nowhere")
    assert checkpoints.steps == []
    with pytest.raises(UserError, match="there is none"):
        checkpoints.restore(LIKE)
    assert checkpoints.restore_last_good(LIKE) is None
    checkpoints.close()
    assert list(tmp_path.iterdir()) == []


def test_the_same_step_is_saved_once(tmp_path):
    save(tmp_path, 3)
    before = {path: path.read_bytes() for path in files(tmp_path)}
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save({"x": jnp.float32(1)}, Progress(step=3, update_seconds=5.0))
    checkpoints.close()
    assert {path: path.read_bytes() for path in files(tmp_path)} == before


def test_a_write_cut_short_is_no_checkpoint(tmp_path):
    save(tmp_path, 3)
    # What a kill leaves: the temporary names of one in the making and of one that was being deleted.
    shutil.copytree(tmp_path / "3" / "states", tmp_path / "6.tmp" / "states.orbax-checkpoint-tmp")
    shutil.copytree(tmp_path / "3" / "states", tmp_path / "1.tmp" / "states")
    checkpoints = Checkpoints(tmp_path)
    assert checkpoints.steps == [3]
    assert float(checkpoints.restore_last_good(LIKE)[0]["x"]) == 3.0
    save(tmp_path, 6)
    assert float(checkpoints.restore(LIKE)[0]["x"]) == 6.0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["3", "6"]


class Held:
    """Holds the writing thread before the checkpoint takes its name, as slow a disk as the test needs."""

    def __init__(self):
        self.reached, self.released = threading.Event(), threading.Event()

    def __call__(self):
        self.reached.set()
        assert self.released.wait(30)


def test_training_on_at_once_does_not_change_what_is_written(tmp_path):
    """The updates after `save` take the states' own memory while the thread has hardly begun."""
    population = make_growth(seeds=(0, 1), grid={"growth": [2.0]})
    for step in (1, 5, 9):
        population.advance(step)
        expected = snapshot(population.states)
        checkpoints = Checkpoints(tmp_path / str(step))
        before_write, held = threading.Event(), Held()
        checkpoints._thread.submit(before_write.wait, 30)  # nothing is written until the updates are done
        checkpoints.save(population.states, Progress(step=step), held)
        for _ in range(3):
            population.advance(population.step + 1)
        before_write.set()
        assert held.reached.wait(30)
        population.advance(population.step + 1)
        assert checkpoints.steps == []  # nor is it there before the logs are
        held.released.set()
        checkpoints.wait()
        assert_same_bits(checkpoints.restore(population.states)[0], expected)
        assert (snapshot(population.states)[2] != expected[2]).all()
        checkpoints.close()


def test_one_write_at_a_time(tmp_path):
    checkpoints, held = Checkpoints(tmp_path), Held()
    checkpoints.save({"x": jnp.float32(1)}, Progress(step=1), held)
    assert held.reached.wait(30)
    threading.Timer(0.2, held.released.set).start()
    checkpoints.save({"x": jnp.float32(2)}, Progress(step=2))
    assert held.released.is_set()
    assert 1 in checkpoints.steps
    checkpoints.close()
    assert checkpoints.steps == [1, 2]


@pytest.mark.parametrize("then", ["wait", "save", "close"])
def test_an_error_of_the_thread_is_raised_by_the_next_call(tmp_path, then):
    def full():
        raise OSError(errno.ENOSPC, "No space left on device")

    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(LIKE, Progress(step=5), full)
    with pytest.raises(
        UserError, match=r"cannot write .*/5: No space left on device; free space and .*--resume"
    ):
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
    checkpoints.save(older, Progress(step=3))
    checkpoints.save(states, PROGRESS)
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
    assert len(outcomes) > 60
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
def test_a_damaged_checkpoint_is_set_aside_for_the_one_before(tmp_path, capsys, damage):
    save(tmp_path, 4, 5, 6)
    DAMAGES[damage](tmp_path / "5")
    DAMAGES[damage](tmp_path / "6")
    damaged = {path: path.read_bytes() for path in files(tmp_path)}
    checkpoints = Checkpoints(tmp_path)
    for step in (None, 5, 6):
        with pytest.raises(DamagedCheckpoint):
            checkpoints.restore(LIKE, step)
    assert {path: path.read_bytes() for path in files(tmp_path)} == damaged  # reading renames nothing
    states, progress = checkpoints.restore_last_good(LIKE)
    assert (float(states["x"]), progress) == (4.0, Progress(step=4))
    said = capsys.readouterr().out.splitlines()
    assert [line.split(": ")[:2] for line in said] == [
        ["warning", f"checkpoint {tmp_path / str(step)}"] for step in (6, 5)
    ]
    assert all(line.endswith("and the run goes on from update 4") for line in said)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["4", "damaged-5", "damaged-6"]
    save(tmp_path, 5, 6)
    assert checkpoints.steps == [4, 5, 6]
    DAMAGES[damage](tmp_path / "6")
    assert checkpoints.restore_last_good(LIKE)[1].step == 5  # also where there is a damaged-6 already
    checkpoints.close()


def test_no_good_one_is_an_error_and_all_stay(tmp_path, capsys):
    save(tmp_path, 4, 5)
    for step in ("4", "5"):
        flip(largest(tmp_path / step))
    before = {path: path.read_bytes() for path in files(tmp_path)}
    with pytest.raises(UserError, match="--save_dir") as error:
        Checkpoints(tmp_path).restore_last_good(LIKE)
    assert f"checkpoint {tmp_path / '5'}: damaged: states/" in str(error.value)
    assert f"delete {tmp_path.parent} " in str(error.value)
    assert capsys.readouterr().out == ""
    assert {path: path.read_bytes() for path in files(tmp_path)} == before


@pytest.mark.parametrize(
    ("like", "told"),
    [
        ({"x": jnp.zeros(2)}, r"\['x'\] is float32\[\], not float32\[2\]"),
        ({"x": jnp.int32(0)}, r"\['x'\] is float32\[\], not int32\[\]"),
        ({"x": jnp.float32(0), "y": jnp.float32(0)}, r"\['y'\] is not there, not float32\[\]"),
        ({}, r"\['x'\] is float32\[\], not wanted"),
    ],
)
def test_other_states_are_told_not_converted(tmp_path, like, told):
    """orbax cuts and fills arrays of other shapes, and converts other types, without a word."""
    save(tmp_path, 4, 5)
    with pytest.raises(UnfitCheckpoint, match=told):
        Checkpoints(tmp_path).restore(like)
    with pytest.raises(UserError, match=r"another version of the program.*--save_dir"):
        Checkpoints(tmp_path).restore_last_good(like)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["4", "5"]


def test_progress_of_another_version_is_told(tmp_path):
    save(tmp_path, 3, 4)
    content = json.loads((tmp_path / "4" / "checkpoint.json").read_text())
    content["progress"]["phase"] = 1
    content.pop("digest")
    (tmp_path / "4" / "checkpoint.json").write_text(
        json.dumps({**content, "digest": checkpoint._digest(content)})
    )
    with pytest.raises(UserError, match=r"this version cannot read it.*phase"):
        Checkpoints(tmp_path).restore_last_good(LIKE)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["3", "4"]


def test_other_states_are_not_passed_over_for_older_ones(tmp_path, capsys):
    """They are whole: it is the program that is another."""
    save(tmp_path, 4)
    checkpoints = Checkpoints(tmp_path)
    for step in (5, 6):
        checkpoints.save({"x": jnp.zeros(2)}, Progress(step=step))
    checkpoints.close()
    flip(largest(tmp_path / "6"))
    with pytest.raises(UserError, match=r"/5: written for other states.*--save_dir"):
        Checkpoints(tmp_path).restore_last_good(LIKE)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["4", "5", "6"]
    assert capsys.readouterr().out == ""


def is_told(checkpoints, message):
    """By both ways to restore, as one line that is not of an unfit checkpoint; nothing is renamed."""
    for restore in (checkpoints.restore, checkpoints.restore_last_good):
        with pytest.raises(UserError, match=message) as error:
            restore(LIKE)
        assert type(error.value) is UserError
        assert "damaged" not in str(error.value)


class Unreadable:
    """A file that opens and then cannot be read: such an error has no file's name."""

    def __init__(self, number):
        self.error = OSError(number, os.strerror(number))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def read(self, *_):
        raise self.error

    getbuffer = fileno = readinto = readable = read


@pytest.mark.parametrize("number", [errno.EMFILE, errno.EIO, errno.ESTALE, errno.EACCES])
@pytest.mark.parametrize("file", ["checkpoint.json", "states"])
@pytest.mark.parametrize("when", ["opened", "read"])
def test_what_the_system_refuses_is_no_damage(tmp_path, monkeypatch, capsys, number, file, when):
    save(tmp_path, 4, 5)
    refused = tmp_path / "5" / "checkpoint.json" if file == "checkpoint.json" else largest(tmp_path / "5")
    real = pathlib.Path.open

    def open_file(path, *arguments, **keywords):
        if path != refused:
            return real(path, *arguments, **keywords)
        if when == "opened":
            raise OSError(number, os.strerror(number), str(path))
        return Unreadable(number)

    checkpoints = Checkpoints(tmp_path)
    monkeypatch.setattr(pathlib.Path, "open", open_file)
    is_told(checkpoints, f"^cannot read {refused}: {os.strerror(number)}$")
    monkeypatch.undo()
    assert (checkpoints.steps, capsys.readouterr().out) == ([4, 5], "")
    assert checkpoints.restore_last_good(LIKE)[1].step == 5


def test_a_folder_that_cannot_be_read_is_not_one_without_checkpoints(tmp_path, monkeypatch):
    save(tmp_path, 4)

    def listdir(path):
        raise OSError(errno.EACCES, "Permission denied", str(path))

    checkpoints = Checkpoints(tmp_path)
    monkeypatch.setattr(os, "listdir", listdir)
    is_told(checkpoints, f"^cannot read {tmp_path}: Permission denied$")


@pytest.mark.parametrize(
    ("raised", "told"),
    [
        (
            RuntimeError("RESOURCE_EXHAUSTED: out of memory\nwhile allocating"),
            "RuntimeError: RESOURCE_EXHAUSTED",
        ),
        (ValueError("unknown format"), "ValueError: unknown format"),
        (KeyError("item"), "KeyError: 'item'"),
    ],
)
def test_what_orbax_cannot_read_of_a_whole_checkpoint_is_no_damage(tmp_path, monkeypatch, raised, told):
    save(tmp_path, 4, 5)
    checkpoints = Checkpoints(tmp_path)

    def restore(*arguments, **keywords):
        raise raised

    monkeypatch.setattr(checkpoints._orbax, "restore", restore)
    is_told(checkpoints, f"^checkpoint {tmp_path / '5'}: whole, but this version cannot read it: {told}")
    assert checkpoints.steps == [4, 5]


@pytest.mark.parametrize(
    "raised",
    [
        OSError(errno.EMFILE, "Too many open files"),
        ValueError(f"Failed to open [os_error_code='{errno.EMFILE}']"),  # as tensorstore does
    ],
)
def test_what_the_system_refuses_orbax_is_told_in_its_words(tmp_path, monkeypatch, raised):
    save(tmp_path, 4, 5)
    checkpoints = Checkpoints(tmp_path)

    def restore(*arguments, **keywords):
        raise raised

    monkeypatch.setattr(checkpoints._orbax, "restore", restore)
    is_told(checkpoints, f"^cannot read {tmp_path / '5'}: Too many open files$")
    assert checkpoints.steps == [4, 5]
