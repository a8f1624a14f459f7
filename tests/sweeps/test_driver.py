"""A sweep gets to its end whatever becomes of single cells, and says so where one does not."""

import signal

import pytest
from tiny_sweeps import TINY, sweep_settings, train_all

from xql_jax.runs import offline
from xql_jax.sweeps.plan import make_plan
from xql_jax.training.loop import TrainingLoop


@pytest.mark.slow
def test_a_failure_is_the_cells_alone(tmp_path, monkeypatch):
    settings = sweep_settings(tmp_path)
    bc = make_plan(settings).cells[0]
    load = offline.load_data

    def fail(job, *others):
        if job.settings.config.algorithm == "bc":
            raise RuntimeError("no room")
        return load(job, *others)

    monkeypatch.setattr(offline, "load_data", fail)
    outcomes = {str(cell): outcome for cell, outcome in train_all(settings)}
    assert outcomes.pop(str(bc)).failure == "RuntimeError: no room"
    assert [outcome.summary["status"] for outcome in outcomes.values()] == ["finished"]


def test_a_signal_at_a_runs_very_end_still_stops_the_sweep(tmp_path, monkeypatch):
    train = offline.train

    def told(*arguments, draw, **options):
        return train(*arguments, draw=lambda population: arguments[-1].request(), **options)

    monkeypatch.setattr(offline, "train", told)
    settings = sweep_settings(tmp_path)
    [(_, outcome)] = train_all(settings)
    assert (outcome.summary["status"], outcome.stopped) == ("finished", signal.SIGINT)
    assert [cell.state for cell in make_plan(settings).cells] == ["finished", "to do"]


def test_a_cell_whose_worker_is_stopped_goes_on_as_long_as_it_gets_further(tmp_path, monkeypatch):
    """Stopped after each two updates, it is trained ten times; stopped at once, it is given up."""
    train = TrainingLoop.run
    settings = sweep_settings(tmp_path, methods=(f"bc{TINY}",))

    def stopped_after(steps):
        def run(loop, stop, **options):
            last, write = loop.progress.step + steps, loop._write_due

            def write_and_stop(*arguments):
                write(*arguments)
                if loop.progress.step >= last:
                    stop.request()

            if steps == 0:
                stop.request()
            loop._write_due = write_and_stop
            train(loop, stop, **options, steps_per_call=1)
            stop.received = None  # only this worker was stopped, not the sweep

        monkeypatch.setattr(TrainingLoop, "run", run)
        return [outcome.summary["status"] for _, outcome in train_all(settings)]

    assert stopped_after(0) == ["interrupted"]
    assert stopped_after(2) == ["interrupted"] * 9 + ["finished"]
