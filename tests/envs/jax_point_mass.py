"""A user's environment in JAX: a point that is to come to rest at the origin of a line or a plane."""

import flax.struct
import jax
import jax.numpy as jnp

from xql_jax.envs.compiled import Step

PUSH, FRICTION = 0.1, 0.9


@flax.struct.dataclass
class Point:
    position: jax.Array
    velocity: jax.Array
    key: jax.Array  # of what is drawn in the episode: nothing, but it must come through every restart
    steps: jax.Array


class PointMass:
    """Observations f32[2 D], position and velocity; a step pays 1 - |position|, and ends beyond 2."""

    dimension = 1
    observation_size, action_size = 2, 1
    episode_limit = 20
    steps_per_second = 10.0

    def reset(self, key):
        key_position, key = jax.random.split(key)
        position = jax.random.uniform(key_position, (self.dimension,), minval=-1.0, maxval=1.0)
        point = Point(position, jnp.zeros(self.dimension), key, jnp.int32(0))
        return point, _seen(point)

    def step(self, state, action):
        velocity = FRICTION * state.velocity + PUSH * action
        state = state.replace(position=state.position + velocity, velocity=velocity, steps=state.steps + 1)
        distance = jnp.abs(state.position).max()
        return state, Step(_seen(state), 1.0 - distance, distance > 2.0)


class PlanarPointMass(PointMass):
    dimension = 2
    observation_size, action_size = 4, 2


class Breaking(PointMass):
    """Its fifth step gives NaN."""

    def step(self, state, action):
        state, given = super().step(state, action)
        broken = state.steps == 5
        return state, given._replace(observation=jnp.where(broken, jnp.nan, given.observation))


class Endless(PointMass):
    episode_limit = None


class Misshapen(PointMass):
    observation_size = 3


class Growing(PointMass):
    """Its states are others after a step."""

    def step(self, state, action):
        state, given = super().step(state, action)
        return {"point": state}, given


def _seen(point):
    return jnp.concatenate([point.position, point.velocity])
