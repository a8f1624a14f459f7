"""Checkpoints from outside: which are kept, what is refused, and that nothing is lost by it.

That bits come back whatever happens is in test_state_machine.py.
"""

import errno
import os
import pathlib
import shutil

import jax.numpy as jnp
import pytest
from driver import Driver, checkpoint_steps
from training_runs import ARRAYS, Growth

import xql_jax
from xql_jax.errors import UserError

SETTINGS = {
    "dataset": ARRAYS, "method": "training_runs:Growth", "num_seeds": 2, "batch_size": 4, "max_steps": 12,
    "log_interval": 3, "checkpoint_interval": 3, "keep_checkpoints": 0,
}  # fmt: skip


def ended(place, **changes):
    """A run that has ended, and is gone on with as if it had not."""
    run = Driver(xql_jax.train, place, SETTINGS | changes)
    run.resume()
    (run.path / "summary.json").unlink()
    return run


@pytest.mark.parametrize(("kept", "left"), [(1, [12]), (3, [6, 9, 12]), (0, [3, 6, 9, 12])])
def test_the_latest_are_kept(tmp_path, kept, left):
    assert ended(tmp_path, keep_checkpoints=kept).steps == left


def test_a_checkpoint_of_another_run_is_left_for_the_one_before(tmp_path, caplog):
    run, theirs = ended(tmp_path / "ours"), ended(tmp_path / "theirs", seed=7)
    run.resume()
    expected = run.outcome()
    (run.path / "summary.json").unlink()
    for step in ("9", "12"):
        place = run.path / "checkpoints" / step
        shutil.copytree(theirs.path / "checkpoints" / step, place, dirs_exist_ok=True)
    run.resume()
    assert run.outcome() == expected
    assert "of another run" in caplog.text
    assert "it is deleted, and the run goes on from 6" in caplog.text


def test_if_all_checkpoints_are_damaged_none_is_deleted(tmp_path):
    run = ended(tmp_path)
    for step in run.steps:
        (run.path / "checkpoints" / str(step) / "states.npz").write_bytes(b"")
    with pytest.raises(UserError, match=r"/12: damaged: .*; no checkpoint is whole, so .* --save_dir$"):
        run.resume()
    assert run.steps == [3, 6, 9, 12]


@pytest.mark.parametrize(
    ("other", "difference"),
    [
        ({"x": jnp.zeros(2)}, r"\['x'\] is float32\[\], not float32\[2\]"),
        ({"more": jnp.zeros(())}, r"\['more'\] is not there, not float32\[\]"),
    ],
)
def test_other_states_are_refused_not_converted(tmp_path, monkeypatch, other, difference):
    run, init = ended(tmp_path), Growth.init
    monkeypatch.setattr(Growth, "init", lambda *given: init(*given) | other)
    monkeypatch.setattr(Growth, "update", lambda self, state, batch, key: (state, {}))
    with pytest.raises(UserError, match=f"by another version of the program: {difference}.*--save_dir"):
        run.resume()
    assert run.steps == [3, 6, 9, 12]


def test_what_the_system_refuses_is_no_damage(tmp_path, monkeypatch):
    run, read = ended(tmp_path), pathlib.Path.read_bytes

    def refuse(path):
        if path.name == "checkpoint.json":
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return read(path)

    monkeypatch.setattr(pathlib.Path, "read_bytes", refuse)
    with pytest.raises(UserError, match=r"^cannot read .*/12/checkpoint.json: Input/output error$"):
        run.resume()
    assert run.steps == [3, 6, 9, 12]


def test_a_folder_that_cannot_be_listed_is_no_empty_one(tmp_path):
    """Else `--resume` would begin anew."""
    run = ended(tmp_path)
    shutil.rmtree(run.path / "checkpoints")
    (run.path / "checkpoints").touch()
    with pytest.raises(OSError, match="checkpoints"):
        run.resume()


def test_a_checkpoint_that_cannot_be_written_ends_the_run_and_takes_no_space(tmp_path, monkeypatch):
    replace = os.replace

    def full(source, target):
        if pathlib.Path(target).name == "6":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        replace(source, target)

    run = Driver(xql_jax.train, tmp_path, SETTINGS)
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", full)
        with pytest.raises(
            UserError, match=r"cannot write .*/6: No space left on device; free space .*--resume"
        ):
            run.resume()
    assert [path.name for path in (run.path / "checkpoints").iterdir()] == ["3"]
    assert checkpoint_steps(run.resume()) == [3, 6, 9, 12]
