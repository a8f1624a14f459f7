"""Warns of a V that follows single rows of the data, as one that runs away does."""

import logging
import math
from collections.abc import Mapping, Sequence

from xql_jax.training.loop import RowCallback
from xql_jax.training.members import Member

LOG = logging.getLogger(__name__)
FEW = 0.9  # of the most nats; then a handful of rows has all of the weight


def watch_divergence(members: Sequence[Member], batch_size: int) -> RowCallback:
    """Returns a callback that warns once of each member whose V follows single rows; it needs no rewards.

    The divergence of the weights exp((Q - V) / beta) is at most log(batch_size), where one row has all of it.
    """
    most, warned = math.log(batch_size), set[str]()

    def watch(step: int, columns: Mapping[str, Sequence[float]]) -> None:
        divergences = columns.get("value/divergence_mean", [math.nan] * len(members))
        for member, divergence in zip(members, divergences, strict=True):
            if divergence > FEW * most and member.name not in warned:
                warned.add(member.name)
                LOG.warning(
                    f"{member}: V follows single rows: their weights are {divergence:.3g} nats from the "
                    f"data, of at most {most:.3g}: it needs a larger beta, which --beta_nats=0.1 finds"
                )

    return watch
