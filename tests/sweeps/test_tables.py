"""A table's plan, what it trains, and that what is there is not trained again."""

import dataclasses
import os
from pathlib import Path

import numpy as np
import pytest
from tiny_runs import write_dataset
from tiny_sweeps import TINY, sweep_settings

from xql_jax.commands import sweeping
from xql_jax.configuration import suite_config
from xql_jax.data.loading import cached_file
from xql_jax.errors import UserError
from xql_jax.reports.paper_tables import read_paper_table
from xql_jax.runs.train import train_run
from xql_jax.sweeps import plan, tables, worker
from xql_jax.sweeps.settings import ReproductionSettings
from xql_jax.sweeps.tables import as_sweep
from xql_jax.training.signals import StopSignals

ROOT = Path(__file__).resolve().parents[2]
WIDTHS = {"hidden_dims": (8,)}


@pytest.fixture
def settings(tmp_path, monkeypatch):
    """Two methods on data of one's own, and on a task of Table 1 whose data are not there."""
    monkeypatch.setenv("D4RL_DATASET_DIR", str(tmp_path / "nothing"))
    monkeypatch.setattr(
        plan,
        "config_of",
        lambda method, task, finetune: suite_config(
            method.split(":")[0],
            suites=("pointmaze", "locomotion"),
            differences={method.split(":")[0]: WIDTHS},
        ),
    )
    data = write_dataset(tmp_path / "data.npz")
    return ReproductionSettings(
        methods=("bc", "iql"),
        datasets=(f"pointmaze-umaze-v0={data}", "hopper-medium-v2"),
        num_seeds=2,
        max_steps=20,
        eval_episodes=1,
        save_dir=str(tmp_path / "runs"),
    )


def make_plan(settings):
    return plan.make_plan(as_sweep(settings))


def train(settings):
    """Trains what is lacking; yields each cell and its run's record."""
    for cell, outcome in worker.train(
        make_plan(settings), as_sweep(settings), worker.InProcess(), StopSignals()
    ):
        assert not outcome.failure
        [record] = [one.record for one in make_plan(settings).cells if str(one) == str(cell)]
        assert record.summary == outcome.summary
        yield cell, record


def table_of(settings):
    return tables.table_of(make_plan(settings).cells, read_paper_table(settings.table))


def states(settings):
    return {(cell.dataset.split("=")[0], cell.method): cell.state for cell in make_plan(settings).cells}


def test_missing_data_are_downloaded_once(settings, monkeypatch):
    asked = []

    def fetch(task):
        asked.append(task.name)
        place = cached_file(task)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.touch()

    monkeypatch.setattr(sweeping, "task_file", fetch)
    there = sweeping.downloaded(make_plan(settings), as_sweep(settings))
    assert asked == ["hopper-medium-v2"]
    assert {cell.state for cell in there.cells} == {"to do"}


@pytest.mark.slow
def test_a_table_is_planned_trained_resumed_and_written(settings):
    maze, hopper = ("pointmaze-umaze-v0", "hopper-medium-v2")
    without = {(hopper, "bc"): "no data", (hopper, "iql"): "no data"}
    assert states(settings) == {(maze, "bc"): "to do", (maze, "iql"): "to do", **without}
    planned = make_plan(settings)
    assert [planned.seconds(cell) for cell in planned.cells] == [None] * 4  # nothing was ever run
    assert [cell.updates for cell in planned.cells] == [40] * 4
    assert planned.cells[2].missing.endswith("nothing/hopper_medium-v2.hdf5")

    trained = train(settings)
    cell, run = next(trained)
    assert (cell.method, run.summary["step"]) == ("bc", 20)
    trained.close()
    assert states(settings) == {(maze, "bc"): "finished", (maze, "iql"): "to do", **without}
    planned = make_plan(settings)
    spent = sum(run.summary["seconds"].values())
    assert planned.seconds(planned.cells[0]) == 0.0
    assert planned.seconds(planned.cells[1]) == pytest.approx(spent, rel=1e-6)  # as that of the only run
    before = {path: path.stat().st_mtime_ns for path in run.path.rglob("*")}

    [(cell, last)] = list(train(settings))
    assert cell.method == "iql"
    assert {path: path.stat().st_mtime_ns for path in run.path.rglob("*")} == before

    table = table_of(settings)
    assert table.methods == ["bc", "iql"]
    entry = table.entry(settings.datasets[0], "iql")
    assert entry.last == tuple(last.summary["results"][0]["last_score_by_seed"])
    assert (len(entry.last), entry.updates, entry.paper) == (2, 20, None)
    missing = table.entry(hopper, "iql")
    assert (missing.last, missing.paper, missing.note[:8]) == ((), 66.3, "no data:")


@pytest.mark.slow
def test_the_table_of_fine_tuning_has_both_phases(settings):
    changed = {**vars(settings), "table": "2", "num_pretraining_steps": 10, "datasets": settings.datasets[:1]}
    asked = ReproductionSettings(**{**changed, "methods": ("iql",), "eval_interval": 2})
    [cell] = make_plan(asked).cells
    assert (cell.steps, cell.updates) == (30, 60)
    [(_, run)] = list(train(asked))
    assert set(states(asked).values()) == {"finished"}
    entry = table_of(asked).entry(asked.datasets[0], "iql")
    [phases] = run.summary["finetuning"]
    assert entry.before == tuple(phases["offline_score_by_seed"])
    assert entry.last == tuple(phases["online_score_by_seed"])
    assert entry.regret == phases["cumulative_regret"]
    same_length = {"table": "1", "max_steps": 30, "eval_interval": 2}  # as the run's own
    of_table_1 = ReproductionSettings(**{**changed, "methods": ("iql",), **same_length})
    assert set(states(of_table_1).values()) == {"to do"}


@pytest.mark.slow
@pytest.mark.parametrize(
    "change", [{"seed": 1}, {"num_seeds": 3}, {"max_steps": 21}, {"eval_episodes": 2}, {"eval_interval": 7}]
)
def test_runs_of_other_settings_are_no_part_of_the_table(settings, change):
    changed = {**vars(settings), "methods": ("bc",), "datasets": settings.datasets[:1]}
    asked = ReproductionSettings(**changed)
    list(train(asked))
    assert set(states(asked).values()) == {"finished"}
    assert set(states(ReproductionSettings(**{**changed, **change})).values()) == {"to do"}


def test_tuned_xql_is_xql_with_table_4s_values(tmp_path):
    settings = ReproductionSettings(
        methods=("xql", "xql_t"),
        datasets=("kitchen-complete-v0",),
        save_dir=str(tmp_path),
    )
    own, tuned = (cell.settings for cell in make_plan(settings).cells)
    assert (own.tuned, tuned.tuned) == (False, True)
    resolved = []
    for one in (own, tuned):
        found = one.resolved()
        resolved.append((found.config.beta, found.batch_size))
    assert resolved == [(5.0, 256), (2.0, 1024)]


@pytest.mark.slow
def test_sweeps_and_changed_fields_are_columns_of_their_own(settings):
    methods = ("bc", "iql:critic_loss=huber:tau=0.25")
    changes = {"methods": methods, "sweep": "expectile=0.6,0.9", "datasets": settings.datasets[:1]}
    asked = ReproductionSettings(**{**vars(settings), **changes})
    cells, runs = zip(*train(asked), strict=True)
    assert [cell.members for cell in cells] == [2, 4]  # cloning has no expectile
    assert [len(result["seeds"]) for result in runs[1].summary["results"]] == [2, 2]
    assert (runs[1].config["critic_loss"], runs[1].config["tau"]) == ("huber", 0.25)
    with pytest.raises(UserError, match="--sweep: no method asked for has 'betta'"):
        make_plan(ReproductionSettings(**{**vars(settings), "sweep": "betta=1,2"}))
    method = "iql:critic_loss=huber:tau=0.25"
    assert table_of(asked).methods == [
        "bc",
        f"{method} expectile=0.6",
        f"{method} expectile=0.9",
    ]


@pytest.mark.slow
def test_a_run_on_what_the_file_held_before_is_not_taken_for_one_on_what_it_holds(settings):
    asked = ReproductionSettings(**{**vars(settings), "methods": ("bc",), "datasets": settings.datasets[:1]})
    list(train(asked))
    data = Path(settings.datasets[0].split("=")[1])
    data.touch()
    assert set(states(asked).values()) == {"finished"}  # the same data, written later
    others = data.with_name("others.npz")
    write_dataset(others, size=160)
    os.utime(others, (0, 0))
    others.rename(data)  # older than the run
    assert set(states(asked).values()) == {"to do"}


@pytest.mark.slow
def test_a_run_with_references_of_its_own_is_not_taken_for_one_without(tmp_path):
    """Its scores are on another scale."""
    random = np.random.default_rng(0)
    shapes = {"observations": (40, 11), "actions": (40, 3), "rewards": 40, "next_observations": (40, 11)}
    arrays = {name: random.uniform(-1, 1, shape) for name, shape in shapes.items()}
    np.savez(tmp_path / "data.npz", terminals=np.arange(40) % 10 == 9, **arrays)
    data = f"Hopper-v5={tmp_path / 'data.npz'}"
    asked = sweep_settings(tmp_path, methods=(f"bc{TINY}",), datasets=(data,))
    [cell] = plan.make_plan(asked).cells
    scored = dataclasses.replace(cell.settings, random_return=0.0, expert_return=1.0)
    train_run(scored)
    assert [cell.state for cell in plan.make_plan(asked).cells] == ["to do"]
