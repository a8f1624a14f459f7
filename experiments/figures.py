"""Draws figures of the paper from computations made anew, with the numbers behind each as CSV.

Examples:
  python experiments/figures.py --figure=2
  python experiments/figures.py --figure=4 --figure=B1 --out=pictures
  python experiments/figures.py

Writes OUT/figure_NAME.png and OUT/figure_NAME_TABLE.csv. All take 20 seconds on two CPU cores.
"""

import time

from absl import flags

from xql_jax import command_line
from xql_jax.figures import FIGURES
from xql_jax.outputs import make_folder

flags.DEFINE_multi_enum(
    "figure",
    ["all"],
    [*FIGURES, "all"],
    "Which; may be repeated. "
    + "; ".join(f"{name}: {figure.what}" for name, figure in FIGURES.items())
    + ".",
)
flags.DEFINE_string("out", "results/figures", "Folder for the pictures and tables.")
flags.DEFINE_integer("seed", 0, "Of samples and initial networks.", lower_bound=0, upper_bound=2**31 - 1)
FLAGS = flags.FLAGS


def main() -> int:
    names = FIGURES if "all" in FLAGS.figure else dict.fromkeys(FLAGS.figure)
    folder = make_folder("out", FLAGS.out)
    for name in names:
        start = time.perf_counter()
        paths = FIGURES[name].write(name, folder, FLAGS.seed)
        seconds = time.perf_counter() - start
        print(f"figure {name}: {FIGURES[name].what} ({seconds:.1f} s)", *paths, sep="\n  ", flush=True)
    return 0


if __name__ == "__main__":
    command_line.run(main)
