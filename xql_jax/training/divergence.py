"""Divergence: a member whose numbers stop being finite is frozen at its last finite state, and reported.

The compiled program returns whether all numbers of a call were finite. Only if they were not, the call's
updates are run again to find the last finite state, by bisection. To keep that state inside the program would
need a choice between two states in every update, which takes a CPU about a tenth of its speed.

Members that act inside the program cannot run updates again, because their experience has changed meanwhile.
`compiled_population.py` makes that choice there, once each time that all environments have acted.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from xql_jax.training.groups import Group
from xql_jax.training.updates import STATE, MemberState

Finite = dict[str, np.ndarray]  # by the name of a metric or `STATE`: whether it was finite, bool[m]


@dataclasses.dataclass(frozen=True)
class Divergence:
    """The first step after which a member's metrics, state or actions were found not to be all finite."""

    # Offline, the update, counted from 1 as in the logs. Online, the environment step that ends the round; if
    # actions were not finite, the step that they were for.
    step: int
    quantity: str  # the metrics that were not finite, or "state", or "actions"


def not_finite(finite: Mapping[str, np.ndarray]) -> str:
    """Returns the names of what was not finite; the state only if nothing else names the cause."""
    broken = [name for name, was_finite in finite.items() if not was_finite]
    return ", ".join([name for name in broken if name != STATE] or broken)


def find_divergence(
    run_program: Callable[[Sequence[Group], int, int], list[Finite]],
    group: Group,
    before: MemberState,
    place: int,
    start: int,
    stop: int,
) -> tuple[MemberState, int, str]:
    """Finds a member's last finite state by bisection; numbers that stop being finite stay so.

    Args:
        run_program: of the population.
        before: the group's members at update `start`; after update `stop` the one at `place` is not finite.
    Returns:
        The group's members at that state, the update after it, and what is not finite then.
    """
    after = group.members

    def finite_after(members: MemberState, first: int, last: int) -> Finite:
        group.members = members.joined(group.members.apart[1])
        [finite] = run_program([group], first, last)
        return {name: of[place] for name, of in finite.items()}

    good, bad = start, stop
    while bad - good > 1:
        middle = (good + bad) // 2
        if all(finite_after(before, start, middle).values()):
            good = middle
        else:
            bad = middle
    finite_after(before, start, good)
    last_finite = group.members.apart[0]
    quantity = not_finite(finite_after(last_finite, good, bad))
    group.members = after.joined(group.members.apart[1])
    return last_finite, bad, quantity
