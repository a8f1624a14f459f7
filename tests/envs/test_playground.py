"""Playground's tasks beside DM Control's own, from the same states of the physics."""

import mujoco
import numpy as np
import pytest

from xql_jax.envs.compiled import compiled_environment
from xql_jax.suites.tasks import DM_CONTROL_NAMES, get_task

pytest.importorskip("mujoco_playground", reason="the extra `compiled` is not installed")

STATES = 4  # of each task, that a few random steps from a start lead to, with random velocities


def seen_and_earned(name):
    """By state what each of the two sees and earns, from the same positions, velocities and controls."""
    from dm_control import suite
    from dm_control.rl.control import flatten_observation
    from mujoco import mjx

    task = get_task(f"playground:{name}")
    playground = compiled_environment(task)._environment
    domain, _, theirs = DM_CONTROL_NAMES[task.name].partition("-")
    environment = suite.load(domain, theirs, task_kwargs={"random": 0})
    physics, model, random = environment.physics, playground.mj_model, np.random.default_rng(3)
    reward = getattr(playground, "_get_reward", None) or playground._reward_fn
    for _ in range(STATES):
        environment.reset()
        for _ in range(5):
            environment.step(random.uniform(-1.0, 1.0, model.nu))
        data = mujoco.MjData(model)
        data.qpos[:] = physics.data.qpos
        data.qvel[:] = physics.data.qvel[:] = 0.5 * random.normal(size=model.nv)
        data.ctrl[:] = physics.data.ctrl[:] = action = random.uniform(-1.0, 1.0, model.nu)
        mujoco.mj_forward(model, data)
        physics.forward()
        compiled = mjx.put_data(model, data, impl="jax")
        ours = np.asarray(playground._get_obs(compiled, {})), float(reward(compiled, action, {}, {}))
        seen = flatten_observation(environment.task.get_observation(physics))["observations"]
        yield ours, (seen, environment.task.get_reward(physics))


slow = pytest.mark.slow  # models take a second or more to load
EQUAL = [
    "AcrobotSwingup", "AcrobotSwingupSparse", "BallInCup", "CartpoleBalance", "CheetahRun", "FingerSpin",
    "HopperHop", "HumanoidWalk", "PointMass",
]  # fmt: skip


@pytest.mark.parametrize("name", ["CartpoleSwingup", *(pytest.param(name, marks=slow) for name in EQUAL)])
def test_the_same_state_is_seen_and_pays_as_in_dm_control(name):
    for (seen, reward), (their_seen, their_reward) in seen_and_earned(name):
        np.testing.assert_allclose(seen, their_seen, rtol=1e-6, atol=1e-6)
        assert reward == pytest.approx(their_reward, abs=1e-6)
