"""Checks the units of actions: a run's beside an environment's, and those of data without an environment."""

from collections.abc import Iterator

import numpy as np

from xql_jax.data.dataset import Dataset, listed
from xql_jax.errors import UserError
from xql_jax.types import ActionBounds

SMALL, TINY = 0.5, 0.1  # half the range of an action's entry: of most entries, of any
ALLOWED = "--allow_other_bounds (in Python allow_other_bounds=True)"


def check_bounds(own: ActionBounds, others: ActionBounds, run: str, environment: str) -> None:
    """Raises UserError if an environment takes other actions than the run's; unknown bounds are ±1."""
    size = max(len(own.low), len(others.low))
    ours, theirs = (np.array(bounds.filled(size)) for bounds in (own, others))
    if ours.shape != theirs.shape:
        return  # `check_fits` tells of sizes
    differs = ~np.isclose(ours, theirs, rtol=1e-5, atol=1e-9).all(axis=0)
    if differs.any():
        entry = int(differs.argmax())
        raise UserError(
            f"{run}: its actions are {ours[0, entry]:g} to {ours[1, entry]:g} in entry {entry}, and "
            f"{environment} takes {theirs[0, entry]:g} to {theirs[1, entry]:g}: did the run learn for "
            f"another environment? {ALLOWED} acts in the run's units all the same"
        )


def check_units(range_: ActionBounds, others: ActionBounds, run: str, environment: str) -> None:
    """Raises UserError if the actions of data, of unknown bounds, are too small to be scaled from ±1."""
    if not range_.low or others.are_unit or not (small := small_entries(np.array(range_))).size:
        return
    entry = int(small[0])
    raise UserError(
        f"{run}: trained on data alone, whose actions are {range_.low[entry]:g} to {range_.high[entry]:g} in "
        f"entry {entry}; {environment} takes {others.low[entry]:g} to {others.high[entry]:g}, so they are no "
        f"share of its bounds: train with --env_name, which scales them by the bounds; {ALLOWED} leaves them "
        "in the data's units"
    )


def small_entries(actions: np.ndarray) -> np.ndarray:
    """Returns the entries of actions f32[N, A] in so small a unit that ±1 cannot be their bounds.

    Most entries have less than half of that range, or an entry has less than a tenth. Constant entries do
    not count.
    """
    reach = (actions.max(axis=0) - actions.min(axis=0)) / 2
    moving = reach > 0
    if moving.any() and np.median(reach[moving]) < SMALL:
        return np.flatnonzero(moving & (reach < SMALL))
    return np.flatnonzero(moving & (reach < TINY))


def small_units(source: Dataset) -> Iterator[str]:
    """Yields a line if the actions of a source without a task are in small units."""
    actions = source.batch.actions
    if (small := small_entries(actions)).size:
        entry, least, most = int(small[0]), actions.min(axis=0), actions.max(axis=0)
        yield (
            f"actions are in small units: entries {listed(small)}, entry {entry} of {least[entry]:.3g} to "
            f"{most[entry]:.3g}. Without a task the bounds are taken to be ±1, so Q hardly sees such actions"
            ": divide them by their bounds, and multiply the policy's by these; or give an --env_name, whose "
            "bounds do both"
        )
