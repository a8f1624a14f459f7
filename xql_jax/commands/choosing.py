"""The ranking of a run's members by its data, as xql-choose prints it."""

from typing import Any

import numpy as np

from xql_jax.reports.score_table import text_table
from xql_jax.runs.choice import STATISTICS, choose
from xql_jax.runs.tool_settings import ChoiceSettings


def choose_and_print(settings: ChoiceSettings) -> int:
    """Ranks the members and settings, prints them best first and how well that agrees with their scores.

    Returns the exit code.
    """
    report = choose(settings)
    _print_ranking(report["members"], "member", "index", report["agreement"])
    if report["settings"]:
        _print_ranking(report["settings"], "setting", "seeds", report["agreement_of_settings"])
    if settings.output:
        print(f"results: {settings.output}")
    return 0


def _print_ranking(entries: list[dict[str, Any]], title: str, number: str, found: dict[str, Any]) -> None:
    """Prints a line per entry and, if scores are known, a line per statistic."""
    known = [name for name in STATISTICS if any(entry[name] is not None for entry in entries)]
    titles = [STATISTICS[name].title for name in known] + ["score"] * bool(found)
    known += ["score"] * bool(found)
    rows = []
    for entry in entries:
        cells = ["" if entry[name] is None else f"{entry[name]:.4g}" for name in known]
        note = "diverged in training" if entry.get("diverged") else ""
        rows.append([entry[title], str(entry[number]), *cells, note])
    print(text_table([[title, number, *titles, ""], *rows]))
    if not found:
        return
    print(
        f"\nSpearman's rank correlation with the scores of the {title}s (95% interval), and what is lost by"
    )
    print("choosing the first (regret@1):")
    rows = []
    for name, one in found["statistics"].items():
        best = "most" if STATISTICS[name].sign > 0 else "least"
        rho = "no correlation to tell"
        if not np.isnan(one["rho"]):
            has_interval = not np.isnan(one["rho_low"])
            interval = f" ({one['rho_low']:+.2f} to {one['rho_high']:+.2f})" if has_interval else ""
            rho = f"{one['rho']:+.2f}{interval}, p {one['p_value']:.2g}"
        rows.append([f"{STATISTICS[name].title}, {best} first", rho, f"{one['regret']:.1f}"])
    rows.append(["random choice, on average", "", f"{found['regret_by_chance']:.1f}"])
    print(text_table([["statistic", "rho", "regret@1"], *rows]))
