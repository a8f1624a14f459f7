"""The scores on D4RL that the paper prints in its tables."""

import csv
import functools
from collections.abc import Mapping
from importlib import resources
from typing import NamedTuple

PAPER_TABLES = ("1", "2", "3")
FINETUNING_TABLE = "2"  # the table with the scores before and after fine-tuning
BEFORE_FINETUNING = "_offline"  # ends the name of a column with the scores before


class PaperTable(NamedTuple):
    """Normalised scores by dataset and method, without the cells that the paper leaves blank.

    Methods have this project's names; xql_t is XQL with Table 4's values for each dataset.

    Source: Garg et al. 2023, Table 1 (Gym, AntMaze, Kitchen), Table 2 (AntMaze, fine-tuned) and Table 3
    (Adroit).
    """

    datasets: tuple[str, ...]
    methods: tuple[str, ...]
    scores: Mapping[tuple[str, str], float]  # by dataset and method
    before: Mapping[tuple[str, str], float]  # scores before fine-tuning; empty except for Table 2


@functools.cache
def read_paper_table(name: str) -> PaperTable:
    """Returns the paper's table with that number, one of `PAPER_TABLES`."""
    text = (resources.files("xql_jax.workshop.reports") / "printed" / f"table_{name}.csv").read_text()
    (_, *columns), *rows = csv.reader(text.splitlines())
    scores: dict[tuple[str, str], float] = {}
    before: dict[tuple[str, str], float] = {}
    for dataset, *cells in rows:
        for column, cell in zip(columns, cells, strict=True):
            if cell != "-":
                of_phase = before if column.endswith(BEFORE_FINETUNING) else scores
                of_phase[dataset, column.removesuffix(BEFORE_FINETUNING)] = float(cell)
    methods = tuple(column for column in columns if not column.endswith(BEFORE_FINETUNING))
    return PaperTable(tuple(dataset for dataset, *_ in rows), methods, scores, before)
