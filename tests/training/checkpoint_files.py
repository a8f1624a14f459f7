"""What the tests of checkpoints share: states of every kind of number, and folders of small checkpoints."""

import jax
import jax.numpy as jnp
import numpy as np

from xql_jax.training.checkpoint import Checkpoints, Progress

# Numbers that a detour by text or arithmetic may lose: a subnormal, -0.0, the largest, a NaN with a payload.
BITS = np.array([1, 0x80000000, 0x7F7FFFFF, 0x7FC12345, 0x3DCCCCCD], np.uint32)
PROGRESS = Progress(
    step=7,
    diverged={"2": {"step": 5, "quantity": "value/loss"}},
    update_seconds=0.1 + 0.2,
    evaluation_seconds=1e-9,
)
LIKE = {"x": jnp.float32(0)}


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


def resume_last_good(checkpoints, like):
    """Returns the states and the progress of the last good checkpoint, None where there never was one."""
    given = []
    progress = checkpoints.resume_last_good(like, lambda *checkpoint: given.append(checkpoint))
    if progress is None:
        assert given == []
        return None
    ((states, same),) = given
    assert same == progress
    return states, progress
