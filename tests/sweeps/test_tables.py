"""A table's plan, what it trains, and that what is there is not trained again."""

import dataclasses
import os
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from tiny_runs import write_dataset
from tiny_sweeps import TINY, states, sweep_settings, train_all

from xql_jax.commands import sweeping
from xql_jax.configuration import ConfigFile, defaults, update_all
from xql_jax.data.loading import cached_file
from xql_jax.reports.printed_tables import read_paper_table
from xql_jax.runs import machine
from xql_jax.runs.kinds import train_run
from xql_jax.sweeps import plan, tables
from xql_jax.sweeps.plan import make_plan
from xql_jax.sweeps.sweep_settings import ReproductionSettings
from xql_jax.sweeps.tables import as_sweep

MAZE, HOPPER = "pointmaze-umaze-v0", "hopper-medium-v2"


@pytest.fixture
def asked(tmp_path, monkeypatch):
    """Makes sweeps for a table: two methods on data of one's own, and on tasks without their data."""
    monkeypatch.setenv("D4RL_DATASET_DIR", str(tmp_path / "nothing"))

    def small(method, task, finetune, network="paper"):
        config = defaults(method.split(":")[0], task.suite.name)
        update_all(config, hidden_dims=(8,))
        return ConfigFile(None, config)

    monkeypatch.setattr(plan, "config_of", small)
    own = f"{MAZE}={write_dataset(tmp_path / 'data.npz')}"

    def make(*others, **changes):
        changes = {"methods": ("bc", "iql"), "datasets": (own, *others), "eval_interval": None} | changes
        return as_sweep(sweep_settings(tmp_path, ReproductionSettings, **changes))

    return make


def table_of(settings, name="1"):
    return tables.table_of(make_plan(settings), read_paper_table(name))


def test_returns_are_no_scores_but_by_the_users_references(tmp_path):
    write_dataset(tmp_path / "data.npz")
    datasets = tuple(f"{task}={tmp_path / 'data.npz'}" for task in (MAZE, "Hopper-v5"))
    settings = sweep_settings(tmp_path, datasets=datasets, methods=("bc",))

    def cells_of(*references):
        for cell in make_plan(dataclasses.replace(settings, references=references)):
            result = {"hyperparameters": {}, "last_score_by_seed": [300.0], "best_score_by_seed": [700.0]}
            summary = {"results": [result], "quantity": cell.settings.task.quantity, "step": 20}
            record = SimpleNamespace(summary=summary, path=tmp_path, content={})
            yield dataclasses.replace(cell, state=plan.FINISHED, record=record)

    maze, hopper = tables.table_of(list(cells_of())).entries.values()
    assert (maze.cell(), hopper.cell(), hopper.is_normalised) == ("300.0", "300.0 (return)", False)
    maze, hopper = tables.table_of(list(cells_of("Hopper-v5=200,1200"))).entries.values()
    assert (maze.last, hopper.last, hopper.best) == ((300.0,), (10.0,), (50.0,))
    assert hopper.cell() == "10.0"


def test_missing_data_are_downloaded_once(asked, monkeypatch):
    fetched = []

    def fetch(task):
        fetched.append(task.name)
        place = cached_file(task)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.touch()

    monkeypatch.setattr(sweeping, "task_file", fetch)
    settings = asked(HOPPER)
    there = sweeping.downloaded(make_plan(settings), settings)
    assert fetched == [HOPPER]
    assert {cell.state for cell in there} == {"to do"}


@pytest.mark.slow
def test_seeds_of_several_runs_are_one_entry_of_the_table(tmp_path):
    changes = {"methods": (f"bc{TINY}",), "num_seeds": 3}
    together, apart = (
        sweep_settings(tmp_path / name, **changes, seeds_per_run=number)
        for name, number in (("a", 3), ("b", 2))
    )
    assert (len(train_all(together)), len(train_all(apart))) == (1, 2)
    [one], [other] = (tables.table_of(make_plan(own)).entries.values() for own in (together, apart))
    assert len(one.last) == 3
    assert (one.last, one.best) == (other.last, other.best)  # companions change no number


@pytest.mark.slow
def test_the_table_of_fine_tuning_has_both_phases(asked):
    changes = {"methods": ("iql",), "eval_interval": 2}
    settings = asked(**changes, table="2", num_pretraining_steps=10)
    [cell] = make_plan(settings)
    assert (cell.steps, cell.members) == (30, 2)
    [(_, outcome)] = train_all(settings)
    assert states(settings) == ["finished"]
    entry = table_of(settings, "2").entries[settings.datasets[0], "iql"]
    [phases] = outcome.summary["finetuning"]
    assert entry.before == tuple(phases["offline_score_by_seed"])
    assert entry.last == tuple(phases["online_score_by_seed"])
    assert entry.regret == phases["cumulative_regret"]
    assert states(asked(**changes, table="1", max_steps=30)) == ["to do"]  # as long as the run is


@pytest.mark.slow
def test_runs_of_other_settings_data_or_code_are_others(asked, monkeypatch, capsys):
    train_all(asked(methods=("bc",)))
    assert states(asked(methods=("bc",))) == ["finished"]
    other_method = ("methods", ("bc:actor_lr=0.5",))
    for name, value in (("seed", 1), ("num_seeds", 3), ("max_steps", 21), ("eval_episodes", 2), other_method):
        assert states(asked(**{"methods": ("bc",), name: value})) == ["to do"], name
    monkeypatch.setattr(machine, "code_digest", lambda: "edited")
    sweeping.sweep(asked(methods=("bc",), dry_run=True))
    assert "trained by other code: 1" in capsys.readouterr().out
    data = Path(asked().datasets[0].split("=")[1])
    before = data.stat()
    data.touch()
    assert states(asked(methods=("bc",))) == ["finished"]  # the same data, written later
    others = data.with_name("others.npz")
    with np.load(data) as arrays:
        np.savez(others, **{**arrays, "actions": -arrays["actions"]})
    os.utime(others, ns=(before.st_atime_ns, before.st_mtime_ns))
    others.rename(data)  # of the same size and time, as rsync -t leaves it
    assert data.stat()[6:9] == before[6:9]
    assert states(asked(methods=("bc",))) == ["to do"]


@pytest.mark.slow
def test_sweeps_and_changed_fields_are_columns_of_their_own(asked):
    method = "iql:critic_loss=huber:tau=0.25"
    settings = asked(methods=("bc", method), sweep="expectile=0.6,0.9")
    unfinished = table_of(settings).methods
    outcomes = train_all(settings)
    assert [cell.members for cell in make_plan(settings)] == [2, 4]  # cloning has no expectile
    run = make_plan(settings)[1].record
    assert [len(result["seeds"]) for result in run.summary["results"]] == [2, 2]
    assert (run.config["critic_loss"], run.config["tau"]) == ("huber", 0.25)
    columns = ["bc", f"{method} expectile=0.6", f"{method} expectile=0.9"]
    table = table_of(settings)
    assert table.methods == unfinished == columns
    entries = [table.entries[settings.datasets[0], column] for column in columns]
    results = [result for _, outcome in outcomes for result in outcome.summary["results"]]
    assert [entry.last for entry in entries] == [tuple(result["last_score_by_seed"]) for result in results]
    assert [(len(entry.last), entry.updates, entry.paper) for entry in entries] == [(2, 20, None)] * 3


@pytest.mark.slow
def test_a_run_with_references_of_its_own_is_not_taken_for_one_without(tmp_path):
    """Its scores are on another scale."""
    random = np.random.default_rng(0)
    shapes = {"observations": (40, 11), "actions": (40, 3), "rewards": 40, "next_observations": (40, 11)}
    arrays = {name: random.uniform(-1, 1, shape) for name, shape in shapes.items()}
    np.savez(tmp_path / "hopper.npz", terminals=np.arange(40) % 10 == 9, **arrays)
    data = f"Hopper-v5={tmp_path / 'hopper.npz'}"
    settings = sweep_settings(tmp_path, methods=(f"bc{TINY}",), datasets=(data,))
    [cell] = make_plan(settings)
    train_run(dataclasses.replace(cell.settings, random_return=0.0, expert_return=1.0))
    assert states(settings) == ["to do"]
