"""The pictures of a report: learning curves."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure

from xql_jax.pictures import style
from xql_jax.rollout.run_summary import by_seed_and_step
from xql_jax.runs.kinds import OFFLINE_TRAINING
from xql_jax.workshop.reports.method_scores import comparable
from xql_jax.workshop.reports.score_table import MethodScore


class Picture(NamedTuple):
    heading: str
    figure: Figure
    notes: Sequence[str]


@style.styled()
def learning_curves(scores: Sequence[MethodScore]) -> list[Picture]:
    """Returns a picture per dataset and phase, and of what can be compared there, see `draw_curves`."""
    pictures, every = [], style.looks_of(score.method for score in scores)
    for apart, group in comparable(scores):
        best = sorted(group, key=lambda score: -np.nan_to_num(score.mean, nan=-np.inf))[: style.MOST_LINES]
        # A method looks the same in all pictures, unless there are too many to be told apart.
        known = every if len(every) <= style.MOST_LINES else style.looks_of(score.method for score in best)
        looks, curves = {}, {}
        for score in best:
            mark = f" ({score.diverged} of {len(score.members)} diverged)" if score.diverged else ""
            looks[score.method] = known[score.method] | {"label": style.wrapped(score.method + mark)}
            curves[score.method] = by_seed_and_step(
                (member.seed, step, value)
                for member in score.members
                for step, value in zip(member.steps, member.values, strict=True)
            )
        run = best[0].run
        handovers = {run.handover for score in best for run in score.runs}
        handover = run.handover if len(handovers) == 1 else None
        figure, axes = style.single_axes(look["label"] for look in looks.values())
        style.draw_curves(axes, curves, looks, len(best) <= style.MOST_WITH_SEEDS, handover)
        axes.set(xlabel=f"updates, then {run.unit}s" if run.handover else f"{run.unit}s")
        axes.set(ylabel="normalised score" if run.is_normalised else "return")
        notes = [f"The {len(best)} best of {len(group)} methods."] if len(best) < len(group) else []
        place = run.dataset if run.kind == OFFLINE_TRAINING else f"{run.dataset}, {run.kind}"
        pictures.append(Picture(f"{place} {apart}".rstrip(), figure, notes))
    return pictures
