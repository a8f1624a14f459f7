"""Returns-to-go of online episodes: unknown at first, and written into the replay buffer when they end."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from xql_jax.data.replay import ReplayBuffer
from xql_jax.data.views import discounted_returns
from xql_jax.types import AnyBatch, CalibratedBatch


class RunningReturns:
    """The rewards of N environments' running episodes; when these end, their returns-to-go are known."""

    def __init__(self, number: int):
        self._rows: list[list[tuple[int, float, float]]] = [[] for _ in range(number)]
        self._known: list[tuple[int, float]] = []

    def step(self, first: int, batch: AnyBatch, ended: np.ndarray, learner: Any) -> CalibratedBatch:
        """Returns the environments' transitions with an unknown return-to-go, -inf.

        Their numbers are `first`, ..., first + N - 1. `ended` bool[N] is true where an episode ends, by a
        terminal or a time-out.
        """
        for index, rows in enumerate(self._rows):
            rows.append((first + index, float(batch.rewards[index]), float(batch.masks[index])))
            if ended[index]:
                numbers, rewards, masks = zip(*rows, strict=True)
                is_last = np.arange(len(rows)) == len(rows) - 1
                returns = discounted_returns(rewards, masks, is_last, learner.discount, learner.endless)
                self._known += zip(numbers, returns.tolist(), strict=True)
                rows.clear()
        unknown: Any = np.full(len(ended), -np.inf, np.float32)  # NumPy's
        return CalibratedBatch(**batch._asdict(), returns_to_go=unknown)

    def known(self) -> list[tuple[int, float]]:
        """Returns (transition's number, return-to-go) of the episodes that have ended since the last call."""
        known, self._known = self._known, []
        return known


def with_returns(buffers: ReplayBuffer, known: Sequence[Sequence[tuple[int, float]]]) -> ReplayBuffer:
    """Returns buffers of a `CalibratedBatch` f32[m, capacity, ...] with the returns-to-go of `known`.

    These are, for each of the m, pairs (transition's number, return-to-go). Overwritten transitions are
    passed over.
    """
    returns = np.array(buffers.data.returns_to_go)
    for ring, inserted, pairs in zip(returns, np.asarray(buffers.inserted), known, strict=True):
        for number, value in pairs:
            if number >= inserted - len(ring):
                ring[number % len(ring)] = value
    # A copy, because `device_put` may share NumPy's memory, which must not be donated.
    placed = jnp.copy(jax.device_put(returns, buffers.data.rewards.sharding))
    return ReplayBuffer(buffers.data._replace(returns_to_go=placed), buffers.inserted)


def first_unknown(rows: AnyBatch, stop: int) -> int:
    """Returns which of transitions stop - n, ..., stop - 1 is the first without a return-to-go, or `stop`."""
    unknown = np.isneginf(rows.returns_to_go) if isinstance(rows, CalibratedBatch) else np.zeros(0, bool)
    return stop - len(unknown) + int(np.argmax(unknown)) if unknown.any() else stop
