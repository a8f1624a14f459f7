"""Episodes of policies: one loop for evaluations, data collection and videos; summaries of scores."""

from collections.abc import Iterator

import numpy as np

from xql_jax.envs.vector import VectorEnv, VectorStep
from xql_jax.rollout.acting import Act, RecurrentPolicy


def rollout(
    env: VectorEnv, policy: Act, observations: np.ndarray, num_members: int = 1
) -> Iterator[tuple[np.ndarray, VectorStep]]:
    """Lets the policies act until no environment has an episode.

    Args:
        env: N environments, of which each member (policy) has as many, one member after the other.
        policy: called once per step, always with the same shape.
        observations: f32[N, O], from `env.reset`.
    Yields:
        After each step, the observations f32[N, O] that were acted on, and the step.
    """
    memory = policy if isinstance(policy, RecurrentPolicy) else None
    if memory:
        memory.begin()
    while env.running.any():
        actions = np.asarray(policy(observations.reshape(num_members, -1, *observations.shape[1:])))
        step = env.step(actions.reshape(-1, *actions.shape[2:]))
        if memory:
            memory.remember(step.rewards.reshape(num_members, -1))
        yield observations, step
        observations = step.observations
