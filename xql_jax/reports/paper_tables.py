"""The scores on D4RL that the paper prints in its tables."""

import csv
import dataclasses
import functools
from collections.abc import Mapping
from importlib import resources

# The paper's column names and this project's names; xql_t is XQL with Table 4's values for each dataset.
NAMES = {
    "BC": "bc", "10%BC": "bc10", "DT": "dt", "AWAC": "awac", "Onestep RL": "onestep", "TD3+BC": "td3_bc",
    "BRAC-p": "brac_p", "BEAR": "bear", "CQL": "cql", "IQL": "iql", "XQL": "xql", "XQL-T": "xql_t",
}  # fmt: skip
TABLES = ("1", "2", "3")
FINETUNING = "2"  # the table with the scores before and after fine-tuning


@dataclasses.dataclass(frozen=True)
class PaperTable:
    """Normalised scores by dataset and method, without the cells that the paper leaves blank.

    Source: Garg et al. 2023, Table 1 (Gym, AntMaze, Kitchen), Table 2 (AntMaze, fine-tuned) and Table 3
    (Adroit).
    """

    datasets: tuple[str, ...]
    methods: tuple[str, ...]
    scores: Mapping[tuple[str, str], float]  # by dataset and method
    before: Mapping[tuple[str, str], float]  # scores before fine-tuning; empty except for Table 2


@functools.cache
def read_paper_table(name: str) -> PaperTable:
    """Returns the paper's table with that number, one of `TABLES`."""
    text = (resources.files("xql_jax.reports") / "paper" / f"table_{name}.csv").read_text()
    rows = [row for row in csv.DictReader(text.splitlines()) if row["dataset"] != "runtime"]
    after = "_finetuned" if name == FINETUNING else ""
    columns = [column.removesuffix(after) for column in rows[0] if column.endswith(after)]
    methods = {column: NAMES[column] for column in columns if column in NAMES}

    def scores(ending: str) -> dict[tuple[str, str], float]:
        return {
            (row["dataset"], method): float(row[column + ending])
            for row in rows
            for column, method in methods.items()
            if row[column + ending] != "-"
        }

    datasets = tuple(row["dataset"] for row in rows)
    return PaperTable(datasets, tuple(methods.values()), scores(after), scores("_offline") if after else {})
