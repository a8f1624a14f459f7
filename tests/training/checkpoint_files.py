"""What the tests of checkpoints share: states of every kind of number, and folders of small checkpoints."""

import jax.numpy as jnp
import numpy as np

from xql_jax.training.checkpoints import Checkpoints, Progress

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
        checkpoints.save(number(step), Progress(step=step))
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
