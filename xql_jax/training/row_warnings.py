"""Warnings from the rows of a training: V has run away, or the policy clones or follows few rows."""

import logging
import math
from collections.abc import Mapping, Sequence

import numpy as np

from xql_jax.learners.method import Part
from xql_jax.settings import values_of
from xql_jax.training.loop import RowCallback
from xql_jax.training.members import Member, Ramp

LOG = logging.getLogger(__name__)
NEEDED = "it needs a larger beta, which --beta_nats=0.1 finds"
FEW = 0.9  # of the most nats; then a handful of rows has all of the weight
RIGHT_WEIGHT = (0.5, 2.0)  # of the mean of exp((Q - V) / beta), which is 1 where V is the soft maximum of Q
CLONING, SINGLE_ROWS = 0.02, 3.0  # nats of a policy's weights: below, above
SETTLED, LATE = 0.2, 0.5  # shares of a training after which weights are judged, and whether a policy clones
FOUND = (0.5, 2.0)  # of the wanted nats of V's weights at the end: beta was found


def watch_values(
    learner: Part,
    members: Sequence[Member],
    rewards: np.ndarray,
    ramps: Sequence[Ramp] = (),
    until: float = math.inf,
) -> RowCallback:
    """Returns a callback that warns once of each member whose V is beyond every return that rewards allow.

    Returns lie between the least and the largest reward at every step, and 0, as episodes may end. With XQL a
    beta that is too small lets V run away without being infinite. V may be beyond them by 1, near which
    networks start, or by a tenth of the largest size of a return.

    Args:
        rewards: f32[N] of single steps of the data that are learned from.
        ramps: hyperparameters that change with the step.
        until: the last step at which nothing but these data is learned from.
    """
    least, most = min(0.0, float(rewards.min())), max(0.0, float(rewards.max()))
    own = values_of(learner)
    discounts = [member.hyperparameters.get("discount", own.get("discount", 1.0)) for member in members]
    hint = "it needs a larger beta" if "beta" in own else "try lower learning rates"
    hint = NEEDED if "beta_nats" in own else hint
    if own.get("clip_rule") == "both":  # beyond which V has no gradient that leads back
        hint = f"try clip_rule=above first; if that does not help, {hint}"
    warned: set[str] = set()

    def watch(step: int, columns: Mapping[str, Sequence[float]]) -> None:
        # The largest so far, because V follows a falling discount slowly.
        ramped = [
            float(ramp.at(int(min(place, step))))
            for ramp in ramps
            if ramp.name == "discount"
            for place in (*ramp.steps, step)
        ]
        values = columns.get("value/v_mean", [math.nan] * len(members))
        for member, discount, value in zip(members, discounts, values, strict=True):
            steps = 1.0 / max(1.0 - max(ramped, default=discount), 1e-12)
            low, high = least * steps, most * steps
            margin = max(1.0, 0.1 * max(high, -low))
            is_beyond = math.isfinite(value) and not low - margin <= value <= high + margin
            if is_beyond and step <= until and member.name not in warned:
                warned.add(member.name)
                bound = f"above {high:.4g}" if value > high else f"below {low:.4g}"
                LOG.warning(
                    f"{member}: V is {value:.4g} on average, but the rewards, as they are learned from, "
                    f"allow no return {bound}: V has run away: {hint}"
                )

    return watch


def watch_policy(members: Sequence[Member], max_steps: int) -> RowCallback:
    """Returns a callback that warns once of each member whose policy clones, or follows few rows.

    At the start Q and V are alike, so that every policy clones: that is judged in the second half.
    """
    warned: set[str] = set()

    def watch(step: int, columns: Mapping[str, Sequence[float]]) -> None:
        divergences = columns.get("actor/divergence_mean", [math.nan] * len(members))
        for member, nats in zip(members, divergences, strict=True):
            is_cloning = step >= LATE * max_steps and nats < CLONING
            is_single = step >= SETTLED * max_steps and nats > SINGLE_ROWS
            if not (is_cloning or is_single) or member.name in warned:
                continue
            warned.add(member.name)
            what = "so few rows have all the weight"
            if is_cloning:
                what = "so this is cloning: Q has next to no part in it"
            LOG.warning(
                f"{member}: the policy's weights are {nats:.2g} nats from the data, {what}; "
                "--policy_nats=0.3 holds another distance, in any unit of rewards"
            )

    return watch


def watch_weights(
    learner: Part,
    members: Sequence[Member],
    max_steps: int,
    ramps: Sequence[Ramp] = (),
    handover: int | None = None,
) -> RowCallback:
    """Returns a callback that warns once of each member whose V, or X-TD3's Q, is no soft maximum.

    It is for members that find their beta: the fit may lag behind its targets, or follow few rows, and at the
    end beta may not be found yet. V that is fitted to other actions, too, has no mean of 1 over the data's.

    Args:
        ramps: hyperparameters that change with the step, in fine-tuning from the hand-over on.
        handover: the updates before the first step of fine-tuning; None in other trainings.
    """
    values, warned = values_of(learner), set[str]()
    own = values.get("beta_nats", 0.0)
    has_others = values.get("uniform_actions") or values.get("action_noise")
    of_nats = [ramp for ramp in ramps if ramp.name == "beta_nats"]

    def watch(step: int, columns: Mapping[str, Sequence[float]]) -> None:
        since = step - (handover or 0)
        is_ramped = of_nats and (handover is None or since > 0)
        ramped = {"beta_nats": of_nats[0].at(since)} if is_ramped else {}  # a sweep's, too, after a hand-over
        fit, targets, name = "V", "Q", "value"
        if "critic/weight_mean" in columns:  # X-TD3
            fit, targets, name = "Q", "target", "critic"
        weights, divergences = (
            columns.get(f"{name}/{number}_mean", [math.nan] * len(members))
            for number in ("weight", "divergence")
        )
        for member, weight, divergence in zip(members, weights, divergences, strict=True):
            nats = {"beta_nats": own, **member.hyperparameters, **ramped}["beta_nats"]
            if nats and step >= max_steps and not _is_within(divergence / nats, FOUND):
                LOG.warning(
                    f"{member}: beta has not been found: at the end {fit}'s weights are {divergence:.2g} "
                    f"nats from the data, not {nats:g}: train longer, or begin nearer with --beta beside "
                    "--beta_nats"
                )
            is_wrong = nats and not has_others and not _is_within(weight, RIGHT_WEIGHT)
            if is_wrong and step >= SETTLED * max_steps and member.name not in warned:
                warned.add(member.name)
                where = "too high: few rows pull it up"
                if weight > RIGHT_WEIGHT[1]:
                    where = f"too low: it lags behind {targets}, less so with more updates or fewer nats"
                LOG.warning(
                    f"{member}: the mean of exp(({targets} - {fit}) / beta) is {weight:.2g} instead of 1, so "
                    f"{fit} is {where}"
                )

    return watch


def _is_within(value: float, bounds: tuple[float, float]) -> bool:
    """Whether a number is between two, or there is none."""
    return not math.isfinite(value) or bounds[0] <= value <= bounds[1]


def watch_divergence(members: Sequence[Member], batch_size: int) -> RowCallback:
    """Returns a callback that warns once of each member whose V, or X-TD3's Q, follows single rows.

    The divergence of the weights exp((Q - V) / beta) is at most log(batch_size), where one row has all of it.
    """
    most, warned = math.log(batch_size), set[str]()

    def watch(step: int, columns: Mapping[str, Sequence[float]]) -> None:
        fit, name = ("Q", "critic") if "critic/divergence_mean" in columns else ("V", "value")
        divergences = columns.get(f"{name}/divergence_mean", [math.nan] * len(members))
        for member, divergence in zip(members, divergences, strict=True):
            if divergence > FEW * most and member.name not in warned:
                warned.add(member.name)
                LOG.warning(
                    f"{member}: {fit} follows single rows: their weights are {divergence:.3g} nats from the "
                    f"data, of at most {most:.3g}: {NEEDED}"
                )

    return watch
