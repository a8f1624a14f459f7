"""A plan's times: by the rates of the methods, by sizes and seeds, corrected by what has finished."""

import dataclasses
from types import SimpleNamespace

import pytest
from tiny_sweeps import sweep_settings

from xql_jax.learners.registry import OFFLINE, ONLINE
from xql_jax.sweeps import rates
from xql_jax.sweeps.plan import FINISHED, make_plan, seconds_left
from xql_jax.sweeps.settings import SweepSettings


@pytest.fixture(autouse=True)
def machine(monkeypatch):
    """One that makes 100 GFLOP/s."""
    monkeypatch.setattr(rates, "gflops_per_second", lambda: 100.0)


def planned(folder, **changes):
    changes = {"methods": ("xql",), "max_steps": 100_000, "eval_interval": None} | changes
    [cell] = make_plan(sweep_settings(folder, **changes))
    return cell.expected


def test_the_tables_name_methods_and_environments():
    """A method that is in none has XQL's rate."""
    assert {"xql", "dt"} < {*rates._table("methods")} <= {*OFFLINE, *ONLINE}
    assert {"gymnasium", "pointmaze"} < {*rates._table("environments")}


def test_decision_transformer_takes_longer_than_xql(tmp_path):
    """By its rate, although nothing of it has ever finished."""
    assert planned(tmp_path, methods=("dt",))["update"] > 5 * planned(tmp_path)["update"]


def test_seeds_batches_and_widths_multiply_the_updates_time(tmp_path):
    usual = planned(tmp_path)
    assert planned(tmp_path, num_seeds=6)["update"] == pytest.approx(3 * usual["update"])
    assert planned(tmp_path, max_steps=300_000)["update"] == pytest.approx(3 * usual["update"])
    batches = [planned(tmp_path, methods=(f"xql:batch_size={size}",))["update"] for size in (256, 512, 768)]
    assert batches[2] - batches[1] == pytest.approx(batches[1] - batches[0])
    assert 1.7 < batches[1] / batches[0] < 2
    widths = [planned(tmp_path, methods=(f"xql:hidden_dims={w}/{w}",))["update"] for w in (256, 512)]
    assert 3.5 < widths[1] / widths[0] < 4
    assert planned(tmp_path, methods=("xql:num_critics=4",))["update"] > 1.3 * usual["update"]


def test_an_evaluations_time_is_its_episodes(tmp_path):
    usual = planned(tmp_path)
    assert planned(tmp_path, eval_episodes=10)["evaluation"] == pytest.approx(10 * usual["evaluation"])
    assert planned(tmp_path, eval_interval=5_000)["evaluation"] == pytest.approx(2 * usual["evaluation"])
    pointmaze = rates._table("environments")["pointmaze"]
    rate = pointmaze["steps_per_second"] * 100 / pointmaze["gflops_per_second"]
    assert usual["evaluation"] == pytest.approx(2 * 10 * 300 / rate)  # seeds, evaluations, steps


def test_a_fast_machine_takes_less(tmp_path, monkeypatch):
    usual = planned(tmp_path)
    monkeypatch.setattr(rates, "gflops_per_second", lambda: 200.0)
    assert planned(tmp_path)["update"] == pytest.approx(usual["update"] / 2)


def test_online_and_fine_tuning_count_updates_and_steps(tmp_path):
    online = SweepSettings(
        methods=("xtd3",), datasets=("cheetah-run",), num_seeds=1, max_steps=100_000, save_dir=str(tmp_path)
    )
    [slow] = make_plan(dataclasses.replace(online, methods=("xtd3:updates_per_step=2",)))
    [usual] = make_plan(online)
    assert 1.2 < slow.expected["update"] / usual.expected["update"] < 2
    steps = {"finetune": True, "max_steps": 1_000, "methods": ("iql",)}
    tuned = [planned(tmp_path, **steps, num_pretraining_steps=number)["update"] for number in (0, 10_000)]
    offline = planned(tmp_path, methods=("iql",), max_steps=10_000)["update"]
    assert tuned[1] - tuned[0] == pytest.approx(offline)


def test_what_has_finished_corrects_the_rest(tmp_path):
    done, rest = make_plan(sweep_settings(tmp_path, methods=("xql", "iql")))
    assert seconds_left([done, rest])[1] == rest.expected
    spent = {"compile": 1.0, "update": 3 * done.expected["update"], "evaluation": 0.0}
    done = dataclasses.replace(done, state=FINISHED, record=SimpleNamespace(summary={"seconds": spent}))
    nothing, left = seconds_left([done, rest])
    assert nothing == dict.fromkeys(rates.PARTS, 0.0)
    assert left["update"] == pytest.approx(3 * rest.expected["update"])
    assert left["evaluation"] == 0
