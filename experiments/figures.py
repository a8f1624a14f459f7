"""Draws the paper's figures, and writes the numbers of each as CSV.

Examples:
  xql-figures --figure=2
  xql-figures --figure=2,4 --output=pictures
  xql-figures --figure=3 --runs=results
  xql-figures

Writes OUTPUT/figure_NAME.png (or other --formats) and OUTPUT/figure_NAME_TABLE.csv.
Figures 2 and 4 need no runs, and take 20 seconds in all on two CPU cores; they are drawn if no --figure is
given. Figures 1, 3, 5 and 6 show finished runs of xql-train-online under --runs; figures 7 to 12 show runs of
xql-train-offline or xql-reproduce.
"""

import time
from collections.abc import Sequence

from xql_jax.errors import UserError
from xql_jax.files.outputs import check_output
from xql_jax.files.paths import as_written, located
from xql_jax.numerics.jax_settings import check_platforms
from xql_jax.pictures.style import FORMATS
from xql_jax.settings import (
    COUNT_OR_NONE,
    SEVERAL,
    TEXT,
    Command,
    setting,
    some_of,
)
from xql_jax.workshop.commands import command_line
from xql_jax.workshop.paper.figures import FIGURES, FIGURES_OF_RUNS, write_figure

ALL = FIGURES | FIGURES_OF_RUNS


@Command
def main(
    *,
    figure: Sequence[str] = setting(
        ("all",),
        SEVERAL,
        "Figures to draw, separated by commas. all: those that need no runs. "
        + "; ".join(f"{name}: {ALL[name].what}" for name in sorted(ALL))
        + ".",
        by_commas=True,
    ),
    runs: str = setting("results", TEXT, "Folder under which figures 1, 3 and 5 to 12 find their runs."),
    output: str = setting("results/figures", TEXT, "Folder for the pictures and tables."),
    seed: int = setting(0, COUNT_OR_NONE, "Random seed for samples and initial networks."),
    formats: Sequence[str] = setting(
        ("png",),
        some_of(*FORMATS),
        f"Formats of the pictures, as in --formats=png,pdf; known: {', '.join(FORMATS)}.",
        by_commas=True,
    ),
) -> int:
    known = {name.lower(): [name] for name in ALL} | {"all": list(FIGURES)}
    for name in figure or [""]:
        if name.strip().lower() not in known:
            raise UserError(f"--figure={name}: must be one of {', '.join([*ALL, 'all'])}")
    check_platforms()
    names = list(dict.fromkeys(one for name in figure for one in known[name.strip().lower()]))
    root = located(runs)
    of_runs = {name: ALL[name].compute(root) for name in names if name in FIGURES_OF_RUNS}
    folder = check_output("output", f"{output}/figure").parent
    print(f"figures {', '.join(names)} into {output}", flush=True)
    for name in names:
        start = time.perf_counter()
        tables = of_runs.get(name) or FIGURES[name].compute(seed)
        paths = write_figure(name, folder, tables, ALL[name].draw(tables), formats)
        seconds = time.perf_counter() - start
        print(
            f"figure {name}: {ALL[name].what} ({seconds:.1f} s)",
            *map(as_written, map(str, paths)),
            sep="\n  ",
            flush=True,
        )
    return 0


if __name__ == "__main__":
    command_line.run(main)
