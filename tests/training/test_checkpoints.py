"""Checkpoints: bits and progress come back, three are kept, and a write cut short is none."""

import jax
import jax.numpy as jnp
import numpy as np
from training_runs import assert_same_bits

from xql_jax.training.checkpoint import Checkpoints, Progress

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


def test_bits_and_progress_come_back(tmp_path):
    states = make_states()
    checkpoints = Checkpoints(tmp_path)
    assert checkpoints.latest_step is None
    checkpoints.save(states, PROGRESS)
    checkpoints.close()

    again = Checkpoints(tmp_path)
    assert again.latest_step == 7
    restored, progress = again.restore(jax.tree.map(jnp.zeros_like, states))
    assert_same_bits(restored, states)
    assert jax.tree.structure(restored) == jax.tree.structure(states)
    assert progress == PROGRESS
    again.close()


def test_three_are_kept_and_the_last_is_restored(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    for step in (1, 4, 9, 10):
        checkpoints.save({"x": jnp.float32(step)}, Progress(step=step))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["10", "4", "9"]
    assert float(checkpoints.restore({"x": jnp.float32(0)})[0]["x"]) == 10.0
    checkpoints.close()


def test_the_same_step_is_saved_once(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save({"x": jnp.float32(1)}, Progress(step=3))
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    checkpoints.save({"x": jnp.float32(1)}, Progress(step=3, update_seconds=5.0))
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    checkpoints.close()


def test_a_write_cut_short_is_no_checkpoint(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save({"x": jnp.float32(1)}, Progress(step=3))
    checkpoints.close()
    # What a kill leaves: orbax's temporary name, made as orbax makes it but never renamed.
    unfinished = tmp_path / "6.orbax-checkpoint-tmp"
    (unfinished / "states").mkdir(parents=True)
    again = Checkpoints(tmp_path)
    assert again.latest_step == 3
    again.save({"x": jnp.float32(2)}, Progress(step=6))
    assert float(again.restore({"x": jnp.float32(0)})[0]["x"]) == 2.0
    again.close()
