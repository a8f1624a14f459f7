"""The report as the runs go on: made anew when they have written, not oftener, and never half."""

import itertools
import shutil
import threading
import time
from types import SimpleNamespace

import pytest
from written_runs import write_run

from xql_jax.runs.reporting import RunFinder
from xql_jax.serving import live
from xql_jax.serving.live import LiveReport
from xql_jax.serving.server import PATHS


@pytest.fixture
def clock(monkeypatch):
    """What the report takes for the time; moved by hand."""
    now = [1_000.0]
    monkeypatch.setattr(live, "time", SimpleNamespace(monotonic=lambda: now[0], strftime=time.strftime))
    return now


def append(folder, text):
    with (folder / "evaluations.csv").open("a") as file:
        file.write(text)


def test_all_paths_of_the_server_have_an_answer(tmp_path):
    write_run(tmp_path, "pen-human-v1", "bc", {0: [1.0]})
    answers = LiveReport(RunFinder([str(tmp_path)]), 100).answers()
    assert answers.keys() == set(PATHS)
    assert b"data-live" in answers["/"].content
    assert answers["/scores.csv"].kind == "text/csv"


def test_it_is_made_anew_when_a_run_has_written(tmp_path, clock):
    folder = write_run(tmp_path, "pen-human-v1", "bc", {0: [1.0]}, status=None)
    report = LiveReport(RunFinder([str(tmp_path)]), 100)
    first = report.answers()
    append(folder, "2000,0,8.0,44.5,50,,3.0\n")
    assert report.answers() is first  # so soon nobody looks
    clock[0] += 10 * live.PATIENCE
    second = report.answers()
    assert b"44.5" in second["/"].content
    assert b"44.5" in second["/scores.csv"].content
    assert second["/stamp"].content != first["/stamp"].content
    clock[0] += 10 * live.PATIENCE
    assert report.answers() is second  # nothing has changed


def test_runs_that_come_go_and_break_are_followed(tmp_path, clock):
    report = LiveReport(RunFinder([str(tmp_path)]), 100)
    assert b"Nothing has been evaluated yet" in report.answers()["/"].content
    folder = write_run(tmp_path, "pen-human-v1", "bc", {0: [1.0]})
    for change, text in (
        (lambda: None, b"1 runs (1 finished)"),
        (lambda: (folder / "config.json").write_text("{"), b"config.json: damaged"),
        (lambda: shutil.rmtree(folder), b"0 runs (0 finished)"),
        (lambda: shutil.rmtree(tmp_path), b"0 runs (0 finished)"),
    ):
        change()
        clock[0] += 10 * live.PATIENCE
        assert text in report.answers()["/"].content


def test_making_it_takes_a_fifth_of_the_time_at_most(tmp_path, clock, monkeypatch):
    folder = write_run(tmp_path, "pen-human-v1", "bc", {0: [1.0]}, status=None)
    report = LiveReport(RunFinder([str(tmp_path)]), 100)
    made, make = [], report._made

    def slowly(stamp):
        made.append(clock[0])
        clock[0] += 20
        return make(stamp)

    monkeypatch.setattr(report, "_made", slowly)
    for number in range(200):
        append(folder, f"{1001 + number},0,8.0,44.5,50,,3.0\n")
        report.answers()
        clock[0] += 2.5
    gaps = [after - before for before, after in itertools.pairwise(made)]
    assert len(gaps) > 3
    assert min(gaps) >= 5 * 20


def test_who_asks_while_it_is_made_is_not_held_up(tmp_path, monkeypatch):
    folder = write_run(tmp_path, "pen-human-v1", "bc", {0: [1.0]}, status=None)
    monkeypatch.setattr(live, "PATIENCE", 0.0)
    monkeypatch.setattr(live, "SHARE", 0.0)
    report = LiveReport(RunFinder([str(tmp_path)]), 100)
    first = report.answers()
    append(folder, "2000,0,8.0,44.5,50,,3.0\n")
    started, goes_on = threading.Event(), threading.Event()
    make = report._made

    def slowly(stamp):
        started.set()
        assert goes_on.wait(30)
        return make(stamp)

    monkeypatch.setattr(report, "_made", slowly)
    thread = threading.Thread(target=report.answers)
    thread.start()
    assert started.wait(30)
    start = time.monotonic()
    assert all(report.answers() is first for _ in range(100))
    assert time.monotonic() - start < 5
    goes_on.set()
    thread.join()
    assert b"44.5" in report.answers()["/"].content
