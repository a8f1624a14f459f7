"""Reference returns, which stand for scores 0 and 100: given, or measured in the task's environment."""

import logging
from collections.abc import Sequence

import numpy as np

from xql_jax.data.dataset import checked_references
from xql_jax.data.rows import returns_of
from xql_jax.errors import UserError
from xql_jax.runs.behaviours import RANDOM, Place, open_behaviour
from xql_jax.runs.collecting import Behaviour, collect
from xql_jax.runs.tool_settings import ReferenceSettings
from xql_jax.tasks import References

LOG = logging.getLogger(__name__)
STREAM = 1  # of random numbers, so that these episodes differ from the collected ones


class ReferenceReturns:
    """The random and the expert policy's return; returns that are not given are measured.

    Args:
        settings: may give one or both returns.
        experts: names of policies; the expert's return is that of the best one.
        place: the task and simulator for the measurement.
        member: index of the member, for policies that are runs with several members.
        seed: of the episodes.
    Raises:
        UserError: if the settings contradict each other, or a policy cannot be opened.
    """

    def __init__(
        self,
        settings: ReferenceSettings,
        experts: Sequence[str],
        place: Place,
        member: int | None,
        seed: int,
    ):
        given, random = settings.expert_return, settings.random_return
        if given is not None and experts:
            raise UserError(f"--expert_return={given:g} beside --expert={experts[0]}: give one of them")
        self.wanted = given is not None or bool(experts)
        if random is not None and not self.wanted:
            raise UserError(f"--random_return={random:g} says nothing without --expert_return or --expert")
        if given is not None and random is not None:
            checked_references(random, given, "--random_return and --expert_return")
        self._settings, self._place, self._seed = settings, place, seed

        def opened(name: str) -> Behaviour:
            return open_behaviour(name, place, member=member, deterministic=True)

        self._experts = [opened(name) for name in experts]
        self._random = opened(RANDOM)

    def plan(self) -> str:
        """Describes the returns, or how they will be measured."""
        if not self.wanted:
            return "none"
        settings, episodes = self._settings, self._settings.reference_episodes
        texts = []
        for who, given, measured in (
            ("random", settings.random_return, [self._random]),
            ("expert", settings.expert_return, self._experts),
        ):
            names = " or ".join(behaviour.name for behaviour in measured)
            texts.append(
                f"{who} {given:g}" if given is not None else f"{who}: {episodes} episodes of {names}"
            )
        return "; ".join(texts)

    def measure(self) -> References | None:
        """Returns the references; None if none are wanted.

        Raises:
            UserError: if the expert's return is not above the random policy's.
        """
        if not self.wanted:
            return None
        settings = self._settings
        random, expert = settings.random_return, settings.expert_return
        random = self.of(self._random) if random is None else random
        expert = max(map(self.of, self._experts)) if expert is None else expert
        return checked_references(random, expert, "references")

    def of(self, behaviour: Behaviour) -> float:
        """Measures the mean return of a policy, which acts by its mean or mode."""
        place, episodes = self._place, self._settings.reference_episodes
        rows = collect(place.task, place.suite, behaviour, self._seed, episodes=episodes, stream=STREAM)
        mean = float(np.mean(returns_of(rows)))
        LOG.info(f"reference: {behaviour.name} has a mean return of {mean:.6g} in {episodes} episodes")
        return mean
