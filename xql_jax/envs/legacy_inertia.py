"""The masses and inertias that MuJoCo gave to capsules before version 2.1.2, when D4RL's data was made."""

import mujoco

INERTIAL_FIELDS = ("body_mass", "body_inertia", "body_ipos", "body_iquat")


def compile_with_legacy_inertia(spec: mujoco.MjSpec) -> mujoco.MjModel:
    """Compiles `spec`, and changes it: capsules get the mass and inertia of a cylinder in their place.

    That cylinder is longer than the capsule's cylindrical part by half a radius at each end, which makes it
    lighter than the capsule. Shapes, contacts, joints and motors are today's. MuJoCo's own compiler adds up
    the cylinders' masses, and scales them if the robot's file fixes the total.

    Source: MuJoCo's changelog, version 2.1.2. Differs: MuJoCo 2.1 itself was not available for comparison;
    the resulting masses are those that others quote for Gym's v2 robots.
    """
    model = spec.compile()
    # Ids are collected first, because they shift as geoms are added.
    capsules = [(geom, geom.id) for geom in spec.geoms if geom.type == mujoco.mjtGeom.mjGEOM_CAPSULE]
    for capsule, i in capsules:
        radius, half_length, _ = model.geom_size[i]
        capsule.parent.add_geom(
            type=mujoco.mjtGeom.mjGEOM_CYLINDER,
            size=[radius, half_length + radius / 2, 0.0],
            pos=model.geom_pos[i],
            quat=model.geom_quat[i],
            density=capsule.density,
        )
        capsule.mass = 0.0
    cylinders = spec.compile()
    for field in INERTIAL_FIELDS:
        getattr(model, field)[:] = getattr(cylinders, field)
    mujoco.mj_setConst(model, mujoco.MjData(model))  # recomputes derived values, such as the solver's weights
    return model
