"""The paper's tables of offline scores, as it prints them."""

import csv
import dataclasses
import functools
from collections.abc import Mapping
from importlib import resources

# The paper's columns by this project's names; xql_t is XQL with Table 4's values of each dataset.
NAMES = {
    "BC": "bc",
    "10%BC": "bc10",
    "DT": "dt",
    "AWAC": "awac",
    "Onestep RL": "onestep",
    "TD3+BC": "td3_bc",
    "BRAC-p": "brac_p",
    "BEAR": "bear",
    "CQL": "cql",
    "IQL": "iql",
    "XQL": "xql",
    "XQL-T": "xql_t",
}
TABLES = ("1", "3")


@dataclasses.dataclass(frozen=True)
class PaperTable:
    """Normalised scores by dataset and method, but for those that the paper leaves blank.

    Source: Garg et al. 2023, Table 1 (Gym, AntMaze, Kitchen) and Table 3 (Adroit).
    """

    datasets: tuple[str, ...]
    methods: tuple[str, ...]
    scores: Mapping[tuple[str, str], float]  # by dataset and method


@functools.cache
def read_paper_table(name: str) -> PaperTable:
    """Returns the table of that number, one of `TABLES`."""
    text = (resources.files("xql_jax.reports") / "paper" / f"table_{name}.csv").read_text()
    rows = [row for row in csv.DictReader(text.splitlines()) if row["dataset"] != "runtime"]
    columns = {column: NAMES[column] for column in rows[0] if column in NAMES}
    scores = {
        (row["dataset"], method): float(row[column])
        for row in rows
        for column, method in columns.items()
        if row[column] != "-"
    }
    return PaperTable(tuple(row["dataset"] for row in rows), tuple(columns.values()), scores)
