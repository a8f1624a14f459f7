"""Ranks the policies of an offline run (one per seed and setting) by its data: no environment is needed.

Examples:
  xql-choose results/pointmaze-umaze-v0/xql/seeds0-5_1a2b3c4d --output=choice.csv
  xql-choose results/.../checkpoints/20000 --max_steps=50000 --discount=0.995
  xql-choose results/mine/iql/seeds0-3_1a2b3c4d --dataset=held_out.npz  # not learned from

The argument is a run's folder, or one of its checkpoints; the default is the last checkpoint. The policies
act deterministically. They are judged by fitted-Q evaluation, which is trained here for all of them at once,
and by their own V and Q. If the run was evaluated, its scores are shown, too, and how well each ranking
correlates with them. Nothing in the folder is changed. docs/choosing.md explains how to read the result.
"""

from typing import Any

import numpy as np

from xql_jax.commands import command_line
from xql_jax.reports.score_table import text_table
from xql_jax.tools.choose import STATISTICS, ChoiceSettings, choose


def main(settings: ChoiceSettings) -> int:
    report = choose(settings)
    print_ranking(report["members"], "member", "index", report["agreement"])
    if report["settings"]:
        print_ranking(report["settings"], "setting", "seeds", report["agreement_of_settings"])
    if settings.output:
        print(f"results: {settings.output}")
    return 0


def print_ranking(entries: list[dict[str, Any]], title: str, number: str, found: dict[str, Any]) -> None:
    """Prints a line per entry and, if scores are known, a line per statistic."""
    known = [name for name in STATISTICS if any(entry[name] is not None for entry in entries)]
    titles = [STATISTICS[name].title for name in known]
    if found:
        known, titles = [*known, "score"], [*titles, "score"]
    rows = []
    for entry in entries:
        cells = ["" if entry[name] is None else f"{entry[name]:.4g}" for name in known]
        note = "diverged in training" if entry.get("diverged") else ""
        rows.append([entry[title], str(entry[number]), *cells, note])
    print(text_table([[title, number, *titles, ""], *rows]))
    if not found:
        return
    what = "(95% interval), and what is lost by\nchoosing the first (regret@1):"
    print(f"\nSpearman's rank correlation with the scores of the {title}s {what}")
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


if __name__ == "__main__":
    command_line.run(main, ChoiceSettings)
