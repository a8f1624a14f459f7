"""Policies as evaluations call them, with or without a memory of their episodes."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from xql_jax.errors import UserError
from xql_jax.numerics.jax_settings import settings_of_jax
from xql_jax.types import Array, Learner, Params, State

Act = Callable[[np.ndarray], np.ndarray]  # observations f32[M, K, O] to actions f32[M, K, A]


@dataclasses.dataclass(frozen=True)
class RecurrentPolicy:
    """Policies that act by what they have seen of an episode; all episodes of a call begin together."""

    act: Act
    begin: Callable[[], None]  # to be called before the first step
    remember: Callable[[np.ndarray], None] = lambda rewards: None  # after every step, its rewards f64[M, K]

    def __call__(self, observations: np.ndarray) -> np.ndarray:
        return self.act(observations)


def with_memory_of(policy: Act, act: Act) -> Act:
    """Returns `act`, a function that calls the policy, together with the policy's memory, if any."""
    return dataclasses.replace(policy, act=act) if isinstance(policy, RecurrentPolicy) else act


class ActionQueue:
    """Carries out chunks of h actions, one action a step, in several episodes that may begin at any step."""

    def __init__(self, length: int):
        self._length = length  # h
        self._left: np.ndarray | None = None  # i64[...], actions of its chunk that each episode has left
        self._chunks = np.empty(0)  # [..., h, A]

    def begin(self, begins: np.ndarray | None = None) -> None:
        """Drops the chunks of the episodes where `begins` bool[...] is true; None: of all."""
        if begins is None:
            self._left = None
        elif self._left is not None:
            self._left = np.where(begins, 0, self._left)

    def next(self, chunks_now: Callable[[], np.ndarray]) -> np.ndarray:
        """Returns the next actions [..., A]; calls for chunks [..., h * A] if an episode has none left."""
        if self._length == 1:
            return chunks_now()
        if self._left is None or not self._left.all():
            decided = chunks_now()
            sizes = self._length, decided.shape[-1] // self._length
            decided = decided.reshape(*decided.shape[:-1], *sizes)
            if self._left is None:
                self._left, self._chunks = np.zeros(decided.shape[:-2], np.int64), decided
            is_new = self._left == 0
            self._chunks = np.where(is_new[..., None, None], decided, self._chunks)
            self._left = np.where(is_new, self._length, self._left)
        place = (self._length - self._left)[..., None, None]
        self._left = self._left - 1
        return np.take_along_axis(self._chunks, place, axis=-2)[..., 0, :]


def open_loop(policy: Act, action_chunk: int) -> Act:
    """Returns the policy that carries out chunks f32[M, K, h * A] open loop: f32[M, K, A] a step."""
    if action_chunk == 1:
        return policy
    queue = ActionQueue(action_chunk)
    return RecurrentPolicy(lambda observations: queue.next(lambda: policy(observations)), queue.begin)


def prepared(policy: Act, preprocessing: Any) -> Act:
    """Returns the policy in an environment's own units, see `Preprocessing`, an action a step."""
    return open_loop(deciding(policy, preprocessing), preprocessing.action_chunk)


def deciding(policy: Act, preprocessing: Any) -> Act:
    """Returns the policy in an environment's own units as it decides: chunks f32[M, K, h * A] stay chunks."""
    latest = np.empty(0)  # the observations before the step whose rewards come next

    def act(observations: np.ndarray) -> np.ndarray:
        nonlocal latest
        if isinstance(policy, RecurrentPolicy):
            latest = np.array(observations)  # a copy: the caller may overwrite them
        actions = policy(preprocessing.observations(observations))
        return preprocessing.acted(actions)

    if not isinstance(policy, RecurrentPolicy):
        return act

    def remember(rewards: np.ndarray) -> None:
        policy.remember(preprocessing.rewards_met(latest, np.asarray(rewards, np.float32)))

    return RecurrentPolicy(act, policy.begin, remember)


@settings_of_jax()
def deterministic_policy(learners: Learner, states: State, device: jax.Device | None = None) -> Act:
    """Returns the deterministic policies of stacked learners and states: f32[M, K, O] to f32[M, K, A].

    They act on the device, by default JAX's first, under a run's settings of JAX in whatever thread.
    """
    learners, actors = jax.device_put((learners, learners.actor(states)), device or jax.local_devices()[0])
    if not hasattr(learners, "act_remembering"):
        return settings_of_jax()(lambda observations: np.asarray(_act(learners, actors, observations)))
    places = 0, 0  # M and K of the previous step
    memory: State = None  # None: the next step is the first of the episodes
    rewards: np.ndarray | None = None  # of the previous step; None: not passed yet

    def begin() -> None:
        nonlocal memory, rewards
        memory, rewards = None, np.zeros((), np.float32)

    def remember(seen: np.ndarray) -> None:
        nonlocal rewards
        rewards = np.array(seen, np.float32)  # a copy: the caller may overwrite them

    @settings_of_jax()
    def act(observations: np.ndarray) -> np.ndarray:
        nonlocal memory, rewards, places
        shape = observations.shape[:2]
        if rewards is None:
            raise UserError("a policy with a memory needs a call of begin or remember before each step")
        if (memory is not None and places != shape) or rewards.size not in (1, math.prod(shape)):
            raise UserError(
                f"{shape[1]} observations, but {places[1]} before, and {rewards.size} rewards: call "
                "policy.begin() when episodes begin"
            )
        earned, rewards, places = np.broadcast_to(rewards, shape), None, shape
        actions, memory = _act_remembering(learners, actors, memory, observations, earned)
        return np.asarray(actions)

    return RecurrentPolicy(act, begin, remember)


def finite_policy(act: Act, report: Callable[[int], object]) -> Act:
    """Returns the policies with 0, the centre of the bounds, for each NaN or infinite entry of an action.

    So the other members' episodes can continue. `report` is called with a member's index each time one of its
    actions is not finite. `prepared` comes later, because its clipping would hide infinity.
    """

    def act_finite(observations: np.ndarray) -> np.ndarray:
        actions = act(observations)
        finite = np.isfinite(actions)
        for index in np.flatnonzero(~finite.all(axis=(1, 2))).tolist():
            report(index)
        return np.where(finite, actions, np.float32(0.0))

    return with_memory_of(act, act_finite)


@jax.jit
def _act(learners: Learner, actors: Params, observations: Array) -> Array:
    def act(learner: Learner, actor: Params, batch: Array) -> Array:
        return learner.act(actor, batch, jax.random.key(0), deterministic=True)

    return jax.vmap(act)(learners, actors, observations)


@jax.jit
def _act_remembering(
    learners: Any, actors: Params, memory: State, observations: Array, rewards: Array
) -> tuple[Array, State]:
    """Returns the actions f32[M, K, A] and the new memory; memory None stands for the start of episodes."""

    def act(learner: Any, actor: Params, memory: State, *seen: Array) -> tuple[Array, State]:
        memory = learner.begin(actor, seen[0]) if memory is None else memory
        return learner.act_remembering(actor, memory, *seen)

    return jax.vmap(act)(learners, actors, memory, observations, rewards)
