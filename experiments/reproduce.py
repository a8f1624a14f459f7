"""Reproduces a table of the paper: trains the missing runs, and writes their scores beside the paper's.

Examples:
  xql-reproduce --table=1 --dry_run
  xql-reproduce --table=1 --methods=xql,iql,bc --datasets=kitchen-complete-v0 --download
  xql-reproduce --table=3 --max_steps=100000
  xql-reproduce --table=2 --methods=xql,iql --datasets=antmaze-umaze-v2=umaze.hdf5
  xql-reproduce --table=1 --methods=xql,iql --datasets=Hopper-v5=hopper.hdf5,pointmaze-umaze-v0
  xql-reproduce --methods=xql,xql:loss=plain,mxql --sweep='beta=0.6,0.8,1,2,5'  # Figure 8

First prints a plan: which runs exist under --save_dir, which will be trained and for how many updates,
and which data are missing. Each dataset and method is one run of xql-train-offline (of xql-train-finetune for
table 2) with the suite's values and all seeds in one program. Finished runs are not trained again. If it is
stopped, the same command goes on.

Writes OUTPUT/table_N.{txt,csv,md,tex}: our last scores with their 95% interval over seeds, and the paper's in
brackets; in table 2 "before → after". The CSV also has the best scores in training, in a column of their own:
they flatter, and are no result.
"""

import dataclasses

from xql_jax.workshop.commands import command_line, sweeping
from xql_jax.workshop.sweeps.sweep_settings import Sweep


def main(settings: Sweep) -> int:
    return sweeping.sweep(dataclasses.replace(settings, table=settings.table or "1"))


if __name__ == "__main__":
    command_line.run(main, Sweep)
