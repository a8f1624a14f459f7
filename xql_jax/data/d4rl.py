"""D4RL's rule that turns rows into transitions."""

from collections.abc import Mapping

import numpy as np


def qlearning_dataset(
    arrays: Mapping[str, np.ndarray], episode_limit: int | None, keeps_last: bool = False
) -> dict[str, np.ndarray]:
    """Turns rows into transitions, as D4RL's `qlearning_dataset` with `terminate_on_end=False` does.

    Row i becomes (o_i, a_i, r_i, terminal_i, o_{i+1}). A row with a time-out is left out, because the next
    row belongs to another episode. So is the last row. A terminal row stays: its mask hides the next
    observation.

    Source: `d4rl.qlearning_dataset`, D4RL 1.1, here without its loop over rows.
    Args:
        episode_limit: steps; used only if there are no timeouts, to find them by counting.
        keeps_last: keep the last row, too, if it is terminal; D4RL drops it. Its next observation is unknown,
            but the mask hides it, so its own observation is used.
    """
    terminals = arrays["terminals"] != 0
    if "timeouts" in arrays:
        left_out = arrays["timeouts"] != 0
    else:
        assert episode_limit is not None
        left_out = counted_timeouts(terminals, episode_limit)
    left_out[-1] |= not (keeps_last and terminals[-1])
    kept = np.flatnonzero(~left_out)
    return {
        "observations": arrays["observations"][kept],
        "actions": arrays["actions"][kept],
        "next_observations": arrays["observations"][np.minimum(kept + 1, len(terminals) - 1)],
        "rewards": arrays["rewards"][kept],
        "terminals": terminals[kept],
    }


def counted_timeouts(terminals: np.ndarray, episode_limit: int) -> np.ndarray:
    """Returns bool[N]: the rows at which D4RL's step counter stands at the limit.

    The counter restarts from 0 after a time-out but from 1 after a terminal, because D4RL resets it before it
    counts the terminal row.
    """
    starts = np.append(0, np.flatnonzero(terminals[:-1]) + 1)
    counter = np.empty(len(terminals), np.int64)
    first = 0
    for start, stop in zip(starts, np.append(starts[1:], len(terminals)), strict=True):
        counter[start:stop] = np.arange(first, first + stop - start) % episode_limit
        first = 0 if counter[stop - 1] == episode_limit - 1 else 1
    return counter == episode_limit - 1
