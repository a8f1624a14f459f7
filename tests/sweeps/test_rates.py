"""A plan's times: by the rates of the methods, by sizes and seeds, corrected by what has finished."""

import dataclasses
from types import SimpleNamespace

import pytest
from tiny_sweeps import sweep_settings

from xql_jax.learners.registry import OFFLINE, ONLINE
from xql_jax.sweeps import rates
from xql_jax.sweeps.plan import FINISHED, make_plan, seconds_left


@pytest.fixture
def expected(tmp_path, monkeypatch):
    """Returns what is expected of a part of one run, on a machine of 100 GFLOP/s."""
    monkeypatch.setattr(rates, "gflops_per_second", lambda: 100.0)

    def of(part="update", **changes):
        changes = {"methods": ("xql",), "max_steps": 100_000, "eval_interval": None} | changes
        [cell] = make_plan(sweep_settings(tmp_path, **changes))
        return cell.expected[part]

    return of


def test_updates_by_method_sizes_and_speed(expected, monkeypatch):
    """A method that is in no table has XQL's rate."""
    assert {"xql", "dt"} < {*rates._table("methods")} <= {*OFFLINE, *ONLINE}
    usual = expected()
    assert expected(methods=("dt",)) > 5 * usual
    assert expected(num_seeds=6) == pytest.approx(3 * usual)
    assert expected(max_steps=300_000) == pytest.approx(3 * usual)
    batches = [expected(methods=(f"xql:batch_size={size}",)) for size in (256, 512, 768)]
    assert batches[2] - batches[1] == pytest.approx(batches[1] - batches[0])
    assert 1.7 < batches[1] / batches[0] < 2
    widths = [expected(methods=(f"xql:hidden_dims={width}/{width}",)) for width in (256, 512)]
    assert 3.5 < widths[1] / widths[0] < 4
    assert expected(methods=("xql:num_critics=4",)) > 1.3 * usual
    monkeypatch.setattr(rates, "gflops_per_second", lambda: 200.0)
    assert expected() == pytest.approx(usual / 2)


def test_an_evaluations_time_is_its_episodes(expected):
    usual = expected("evaluation")
    assert expected("evaluation", eval_episodes=10) == pytest.approx(10 * usual)
    assert expected("evaluation", eval_interval=5_000) == pytest.approx(2 * usual)
    pointmaze = rates._table("environments")["pointmaze"]
    rate = pointmaze["steps_per_second"] * 100 / pointmaze["gflops_per_second"]
    assert usual == pytest.approx(2 * 10 * 300 / rate)  # seeds, evaluations, steps


def test_online_and_fine_tuning_count_updates_and_steps(expected):
    online = {"datasets": ("cheetah-run",), "num_seeds": 1}
    slow, usual = (expected(**online, methods=(f"xtd3{one}",)) for one in (":updates_per_step=2", ""))
    assert 1.2 < slow / usual < 2
    steps = {"finetune": True, "max_steps": 1_000, "methods": ("iql",)}
    without, tuned = (expected(**steps, num_pretraining_steps=number) for number in (0, 10_000))
    assert tuned - without == pytest.approx(expected(methods=("iql",), max_steps=10_000))


def test_what_has_finished_corrects_the_rest(tmp_path):
    done, rest = make_plan(sweep_settings(tmp_path, methods=("xql", "iql")))
    assert seconds_left([done, rest])[1] == rest.expected
    spent = {"compile": 1.0, "update": 3 * done.expected["update"], "evaluation": 0.0}
    done = dataclasses.replace(done, state=FINISHED, record=SimpleNamespace(summary={"seconds": spent}))
    nothing, left = seconds_left([done, rest])
    assert nothing == dict.fromkeys(rates.PARTS, 0.0)
    assert left["update"] == pytest.approx(3 * rest.expected["update"])
    assert left["evaluation"] == 0
