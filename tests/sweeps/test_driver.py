"""A sweep gets to its end whatever becomes of single cells, and says so where one does not."""

import dataclasses
import signal

import pytest
from tiny_sweeps import TINY, rows, sweep_settings, train_all

from xql_jax.runs.offline import OfflineRun
from xql_jax.sweeps.driver import TRIES, planned_round
from xql_jax.sweeps.in_process import InProcess
from xql_jax.sweeps.plan import make_plan
from xql_jax.sweeps.worker import Outcome, work
from xql_jax.training.loop import TrainingLoop
from xql_jax.training.signals import StopSignals


class ToldOnce:
    """Trains here, but what is first asked of it ends by a signal that nobody here has sent."""

    def __init__(self):
        self.asked = 0

    def run(self, cells, stop):
        self.asked += 1
        if self.asked == 1:
            yield from ((cell, Outcome(stopped=signal.SIGTERM)) for cell in cells)
        else:
            yield from InProcess().run(cells, stop)


@pytest.mark.slow
def test_a_worker_that_was_told_to_stop_is_begun_again(tmp_path):
    settings = sweep_settings(tmp_path)
    outcomes = train_all(settings, ToldOnce())
    assert [outcome.summary.get("status") for _, outcome in outcomes] == [None, None, "finished", "finished"]


class Elsewhere:
    """Says that runs have finished, whose files nobody here sees."""

    def run(self, cells, stop):
        yield from ((cell, Outcome({"status": "finished", "results": [], "step": 20})) for cell in cells)


@pytest.mark.parametrize(("halve_at", "goal"), [((), "its end"), ((5,), "an evaluation of step 5")])
def test_a_cell_that_never_gets_there_is_told_and_given_up(tmp_path, halve_at, goal):
    settings = sweep_settings(tmp_path, methods=(f"bc{TINY}",), halve_at=halve_at)
    *others, (_, last) = train_all(settings, Elsewhere())
    assert len(others) == TRIES
    assert last.failure == f"did not come to {goal} in {TRIES} tries"


@pytest.mark.slow
def test_a_failure_is_the_cells_alone(tmp_path, monkeypatch):
    def fail(run):
        raise MemoryError("no room")

    settings = sweep_settings(tmp_path)
    bc = make_plan(settings).cells[0]
    open_run = OfflineRun.open
    monkeypatch.setattr(
        OfflineRun, "open", lambda run: fail(run) if run.config.algorithm == "bc" else open_run(run)
    )
    outcomes = {str(cell): outcome for cell, outcome in train_all(settings)}
    assert outcomes.pop(str(bc)).failure == "MemoryError: no room"
    assert [outcome.summary["status"] for outcome in outcomes.values()] == ["finished"]


@pytest.mark.slow
def test_halving_goes_on_after_a_kill_in_a_later_round(tmp_path, monkeypatch):
    swept = {"methods": (f"iql{TINY}",), "sweep": "expectile=0.6,0.9", "keep": 1.0}
    halved = sweep_settings(tmp_path, **swept, halve_at=(5, 10))
    first = planned_round(make_plan(halved), halved)
    for cell in first.cells:
        settings = cell.settings
        assert work(type(settings)(**{**vars(settings), "pause_at": 5})).summary["status"] == "interrupted"
    train = TrainingLoop.run

    def killed(loop, stop, **options):
        train(loop, stop, **{**options, "pause_at": 15})
        raise SystemExit

    monkeypatch.setattr(TrainingLoop, "run", killed)
    with pytest.raises(SystemExit):  # its rows have gone on, and it has said nothing since
        work(first.cells[0].settings)
    monkeypatch.undo()
    assert planned_round(make_plan(halved), halved).until == 10
    assert train_all(halved)[-1][1].summary["status"] == "finished"
    assert all(found[-1][0] == 20 for found in rows(halved).values())


@pytest.mark.slow
def test_another_variants_run_is_not_taken_for_the_cells(tmp_path):
    variant = sweep_settings(tmp_path, methods=(f"iql{TINY}:scale_rewards=false",))
    train_all(variant)
    assert [cell.state for cell in make_plan(variant).cells] == ["finished"]
    plain = sweep_settings(tmp_path, methods=(f"iql{TINY}",))
    assert [cell.state for cell in make_plan(plain).cells] == ["to do"]


def test_a_signal_at_a_runs_very_end_still_stops_the_sweep(tmp_path, monkeypatch):
    finish = OfflineRun.details

    def told(run, population):
        run.stop.request()
        return finish(run, population)

    monkeypatch.setattr(OfflineRun, "details", told)
    settings = sweep_settings(tmp_path)
    [(_, outcome)] = train_all(settings)
    assert (outcome.summary["status"], outcome.stopped) == ("finished", signal.SIGINT)
    assert [cell.state for cell in make_plan(settings).cells] == ["finished", "to do"]


def test_a_cell_that_goes_on_has_any_number_of_tries(tmp_path):
    class StoppedEachTime(InProcess):
        def run(self, cells, stop):
            there = cells[0].step + 2  # a checkpoint further, less than a round
            yield from super().run(
                [
                    dataclasses.replace(cell, settings=dataclasses.replace(cell.settings, pause_at=there))
                    for cell in cells
                ],
                stop,
            )

    settings = sweep_settings(tmp_path, methods=(f"bc{TINY}",))
    outcomes = train_all(settings, StoppedEachTime())
    assert [outcome.summary["status"] for _, outcome in outcomes] == ["interrupted"] * 9 + ["finished"]
    assert len(outcomes) > TRIES


def test_a_signal_while_a_run_is_set_up_stops_the_sweep(tmp_path, monkeypatch):
    stop = StopSignals()
    set_up = OfflineRun.population

    def told(run, *args, **options):
        stop.request()
        return set_up(run, *args, **options)

    monkeypatch.setattr(OfflineRun, "population", told)
    settings = sweep_settings(tmp_path)
    [(_, outcome)] = train_all(settings, stop=stop)
    assert (outcome.summary["status"], outcome.summary["step"]) == ("interrupted", 0)
    assert len(make_plan(settings).cells) == 2
