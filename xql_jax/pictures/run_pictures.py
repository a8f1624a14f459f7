"""The picture of a run: its learning curve."""

from collections.abc import Sequence
from pathlib import Path

from xql_jax.files import write_atomically
from xql_jax.logs.csv_rows import Row, scores_by_setting
from xql_jax.pictures import style


@style.styled()
def plot_learning_curve(
    rows: Sequence[Row],
    title: str,
    path: Path,
    unit: str = "updates",
    handover: int | None = None,
    quantity: str = "normalised score",
) -> None:
    """Draws the score against steps: a line per setting, see `draw_curves`.

    Args:
        rows: of an evaluations.csv, not empty.
        handover: the step at which fine-tuning begins. It is marked, and steps before it are updates.
    """
    groups = {
        " ".join(f"{name}={value:g}" for name, value in setting): scores
        for setting, scores in scores_by_setting(rows).items()
    }
    looks = style.looks_of(groups)
    if len(groups) == 1:
        ((name, (_, seeds, _)),) = groups.items()
        band = ", 95% interval" if len(seeds) >= style.LEAST_FOR_BAND else ""
        looks[name]["label"] = f"mean of {len(seeds)} seeds{band}" if len(seeds) > 1 else f"seed {seeds[0]}"
    figure, axes = style.single_axes([look["label"] for look in looks.values()])
    style.draw_curves(axes, groups, looks, len(groups) <= style.MOST_WITH_SEEDS, handover)
    axes.set(title=title, xlabel=f"updates, then {unit}" if handover else unit, ylabel=quantity)
    write_atomically(path, style.render(figure))
