"""Masses and inertias of MuJoCo before 2.1.2, by hand and against the masses that others quote."""

import mujoco
import numpy as np
import pytest

from xql_jax.envs import make_environment
from xql_jax.tasks import get_task

# Total masses in kg, today's and the old ones. The cheetah's file fixes its total.
MASSES = {
    "halfcheetah-medium-v2": (14.0, 14.0),
    "hopper-medium-v2": (15.820, 15.265),
    "walker2d-medium-v2": (23.677, 22.698),
    "antmaze-umaze-v2": (0.9109, 0.8787),
}
ALL_ROBOTS = pytest.mark.parametrize("name", MASSES)


def models(name: str) -> tuple[mujoco.MjModel, mujoco.MjModel]:
    """The model with today's masses, and with the old ones."""
    today, old = (make_environment(get_task(name), legacy_inertia=legacy).model for legacy in (False, True))
    return today, old


@ALL_ROBOTS
def test_total_masses(name):
    np.testing.assert_allclose([model.body_mass.sum() for model in models(name)], MASSES[name], rtol=1e-4)


def test_hopper_torso_and_thigh_weigh_as_quoted_of_gyms_v2():
    _, old = models("hopper-medium-v2")
    torso, thigh = old.body("torso"), old.body("thigh")
    np.testing.assert_allclose([torso.mass[0], thigh.mass[0]], [3.5343, 3.9270], atol=5e-5)


def test_hopper_torso_by_hand():
    # A cylinder of water's density, radius r, as long as the capsule's and r / 2 at each end.
    radius, length = 0.05, 2 * 0.2 + 0.05
    mass = 1000 * np.pi * radius**2 * length
    across, along = mass * (3 * radius**2 + length**2) / 12, mass * radius**2 / 2
    torso = models("hopper-medium-v2")[1].body("torso")
    np.testing.assert_allclose(torso.mass, mass)
    np.testing.assert_allclose(torso.inertia, [across, across, along])


def test_cheetah_torso_by_hand():
    # Torso and head make one body, and all capsules' masses are scaled to a total of 14 kg.
    today, old = models("halfcheetah-medium-v2")
    capsules = today.geom_type == mujoco.mjtGeom.mjGEOM_CAPSULE
    radius = 0.046
    lengths = 2 * today.geom_size[capsules, 1] + radius
    masses = 14.0 * lengths / lengths.sum()  # the radius is the same of all
    expected = np.bincount(today.geom_bodyid[capsules], masses)
    np.testing.assert_allclose(old.body_mass, expected)
    centre = masses[:2] @ today.geom_pos[capsules][:2] / masses[:2].sum()
    np.testing.assert_allclose(old.body("torso").ipos, centre, atol=1e-12)
    assert (np.abs(old.body_mass - today.body_mass)[1:] > 0.003).all()


@ALL_ROBOTS
def test_nothing_but_masses_and_what_follows_from_them_changes(name):
    today, old = models(name)
    changed = {
        key
        for key in dir(today)
        if isinstance(value := getattr(today, key), np.ndarray)
        and not np.array_equal(value, getattr(old, key))
    }
    assert changed <= {
        "body_mass",
        "body_inertia",
        "body_ipos",
        "body_iquat",
        *("body_subtreemass", "body_invweight0", "dof_M0", "dof_invweight0", "dof_length", "actuator_acc0"),
        *("cam_poscom0", "light_poscom0"),
    }
    # `mj_setConst` has seen the new masses: the inertia of each joint alone is that of the simulation.
    data = mujoco.MjData(old)
    mujoco.mj_forward(old, data)
    matrix = np.zeros((old.nv, old.nv))
    mujoco.mj_fullM(old, matrix, data.qM)
    np.testing.assert_allclose(old.dof_M0, np.diag(matrix))
    np.testing.assert_allclose(old.body_subtreemass[0], old.body_mass.sum())
