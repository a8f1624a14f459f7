"""Rows in D4RL's layout, as this project makes them: whole episodes one after another."""

from collections.abc import Sequence

import numpy as np

from xql_jax.types import Batch

# By key, [N, ...]: observations, actions, rewards and next_observations in float32; terminals and timeouts as
# bool, one of which is set in the last row of each episode; optionally infos/NAME.
Rows = dict[str, np.ndarray]


def cut_off(rows: Rows, count: int) -> Rows:
    """Returns the first `count` rows; an episode that is cut in two ends there by a time-out."""
    kept = {key: array[:count].copy() for key, array in rows.items()}
    kept["timeouts"][-1] |= not kept["terminals"][-1]
    return kept


def joined_rows(parts: Sequence[Rows]) -> Rows:
    """Concatenates the rows of several parts in their order; keys that not all of them have are left out."""
    common = [key for key in parts[0] if all(key in part for part in parts)]
    return {key: np.concatenate([part[key] for part in parts]) for key in common}


def ends_of(rows: Rows) -> np.ndarray:
    """Returns bool[N], true in each episode's last row."""
    return rows["terminals"] | rows["timeouts"]


def returns_of(rows: Rows) -> np.ndarray:
    """Returns f64[E], the undiscounted return of each episode."""
    sums = np.cumsum(rows["rewards"].astype(np.float64))
    return np.diff(sums[ends_of(rows)], prepend=0.0)


def whole_returns_of(rows: Rows, episode_limit: int, cuts_episodes: bool) -> np.ndarray:
    """Returns f64[E], the returns of the episodes that were not cut off; of all, if all were.

    Args:
        episode_limit: steps. An episode of this length is whole, and so is one that ends in a terminal state.
        cuts_episodes: whether any other episode may have been cut off, as in a replay buffer, which has lost
            the ends of episodes. If not, only the last one may: by the number of transitions to collect.
    """
    ends = np.flatnonzero(ends_of(rows))
    whole = rows["terminals"][ends] | (np.diff(ends, prepend=-1) >= episode_limit)
    if not cuts_episodes:
        whole[:-1] = True
    returns = returns_of(rows)
    return returns[whole] if whole.any() else returns


def rows_of_replay(first: int, transitions: Batch, num_environments: int) -> Rows:
    """Turns a replay buffer's transitions, which N environments inserted in turn, into whole episodes.

    A buffer records terminals, but not where an episode ended for another reason: its limit, a resumption of
    the run, or the buffer's own beginning and end. Such an end is found where a transition's next observation
    differs, in any bit, from the one that its environment's next transition starts from.

    Args:
        first: number of the first transition among all that were ever inserted.
        transitions: NumPy f32[n, ...], oldest first.
        num_environments: N; transition k is of environment k % N.
    Returns:
        the rows of one environment after the other.
    """
    environments = (first + np.arange(len(transitions.rewards))) % num_environments
    order = np.argsort(environments, kind="stable")
    observations, actions, rewards, masks, following = (np.asarray(field)[order] for field in transitions)
    terminals = masks == 0
    goes_on = np.zeros(len(order), bool)
    goes_on[:-1] = (following[:-1] == observations[1:]).all(axis=1) & (np.diff(environments[order]) == 0)
    return {
        "observations": observations,
        "actions": actions,
        "rewards": rewards,
        "terminals": terminals,
        "timeouts": ~goes_on & ~terminals,
        "next_observations": following,
    }
