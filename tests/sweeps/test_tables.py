"""A table's plan, what it trains, and that what is there is not trained again."""

import numpy as np
import pytest
from tiny_sweeps import TINY, states, sweep_settings, train_all

from xql_jax.workshop.reports.scores import read_paper_table
from xql_jax.workshop.sweeps.plan import make_plan
from xql_jax.workshop.sweeps.tables import of_table, scores_of

BC, IQL = f"bc{TINY}", f"iql{TINY}"


def table_settings(folder, **changes):
    settings = sweep_settings(folder, **{"table": "1", **changes})
    return of_table(settings, read_paper_table(settings.table))


@pytest.mark.slow
def test_the_table_of_fine_tuning_has_both_phases(tmp_path):
    changes = {"methods": (IQL,), "eval_interval": 2}
    settings = table_settings(tmp_path, **changes, table="2", num_pretraining_steps=10)
    [cell] = make_plan(settings)
    assert (cell.steps, cell.members) == (30, 2)
    [(_, outcome)] = train_all(settings)
    assert states(settings) == ["finished"]
    entry, *_ = scores_of(make_plan(settings), read_paper_table("2"))
    assert (entry.dataset, entry.method) == (settings.datasets[0], IQL)
    [phases] = outcome.summary["finetuning"]
    assert entry.before == tuple(phases["offline_score_by_seed"])
    assert entry.last == tuple(phases["online_score_by_seed"])
    assert states(table_settings(tmp_path, **changes, max_steps=30)) == ["to do"]  # as long as the run is


@pytest.mark.slow
def test_a_run_with_references_of_its_own_is_no_cells(tmp_path):
    random = np.random.default_rng(0)
    shapes = {"observations": (40, 11), "actions": (40, 3), "rewards": 40, "next_observations": (40, 11)}
    arrays = {name: random.uniform(-1, 1, shape) for name, shape in shapes.items()}
    np.savez(tmp_path / "hopper.npz", terminals=np.ones(40), **arrays)
    data = f"Hopper-v5={tmp_path / 'hopper.npz'}"
    settings = sweep_settings(tmp_path, methods=(BC,), datasets=(data,))
    train_all(settings)
    [returns] = scores_of(make_plan(settings))
    assert returns.cell().endswith(" (return)")
