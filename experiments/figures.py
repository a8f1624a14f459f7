"""Draws figures of the paper, with the numbers behind each as CSV.

Examples:
  python experiments/figures.py --figure=2
  python experiments/figures.py --figure=4 --figure=B1 --out=pictures
  python experiments/figures.py --figure=3 --runs=results
  python experiments/figures.py

Writes OUT/figure_NAME.png and OUT/figure_NAME_TABLE.csv. Figures 2, 4, B1, B2 and GEM are computed anew, all
in 20 seconds on two CPU cores; without --figure it is these. Figures 1, 3 and 5 to 12 show the finished
runs under --runs, which train_online.py and, for 7 to 12, train_offline.py and reproduce.py make.
"""

from xql_jax.commands import command_line

import itertools
import time
from pathlib import Path

from absl import flags

from xql_jax.figures import FIGURES, FIGURES_OF_RUNS
from xql_jax.figures.paper_figure import write_figure
from xql_jax.figures.recorded_runs import find_runs
from xql_jax.outputs import make_folder

ALL = FIGURES | FIGURES_OF_RUNS

flags.DEFINE_multi_enum(
    "figure",
    ["all"],
    [*ALL, "all"],
    "Which; may be repeated; all: those that need no runs. "
    + "; ".join(f"{name}: {ALL[name].what}" for name in sorted(ALL))
    + ".",
)
flags.DEFINE_string("runs", "results", "Folder under which figures 1, 3 and 5 to 12 find their runs.")
flags.DEFINE_string("out", "results/figures", "Folder for the pictures and tables.")
flags.DEFINE_integer("seed", 0, "Of samples and initial networks.", lower_bound=0, upper_bound=2**31 - 1)
FLAGS = flags.FLAGS


def main() -> int:
    asked = [FIGURES if name == "all" else [name] for name in FLAGS.figure]
    names = dict.fromkeys(itertools.chain.from_iterable(asked))
    root = Path(FLAGS.runs).expanduser()
    runs = find_runs(root) if FIGURES_OF_RUNS.keys() & names.keys() else []
    of_runs = {
        name: figure.tables(runs, f"--figure={name} --runs={root}")
        for name, figure in FIGURES_OF_RUNS.items()
        if name in names
    }
    folder = make_folder("out", FLAGS.out)
    print(f"figures {', '.join(names)} into {folder}", flush=True)
    for name in names:
        start = time.perf_counter()
        tables = of_runs.get(name) or FIGURES[name].compute(FLAGS.seed)
        paths = write_figure(name, folder, tables, ALL[name].draw)
        seconds = time.perf_counter() - start
        print(f"figure {name}: {ALL[name].what} ({seconds:.1f} s)", *paths, sep="\n  ", flush=True)
    return 0


if __name__ == "__main__":
    command_line.run(main)
