"""The report at the command line: what is written, how it is served and ended, and a thousand runs."""

import http.client
import os
import re
import resource
import signal
import subprocess
import sys
import time

import pytest
from main_runs import REPORT, contents, environment_of_processes
from mistakes import assert_told
from written_runs import write_run

MISTAKES = {
    "report of nothing": ("report", "name folders of runs"),
    "report of no folder": ("report nowhere", "nowhere: no such folder"),
    "report of a file": ("report good.hdf5", "good.hdf5: no such folder"),
    "report without runs": ("report minari", "no runs there"),
    "report into a run": ("report {run} --out={run}/checkpoints", "--out=", "that is of the run in"),
    "report into a file": ("report {run} --out=good.hdf5", "--out=good.hdf5", "cannot be made"),
    "port without a server": ("report {run} --port=8001", "--port", "--serve"),
    "output of a server": ("report {run} --serve --out=a", "--out", "--serve writes nothing"),
    "port that is not this user's": ("report nowhere --serve --port=1", "no such folder"),
}


def test_mistakes_are_told_in_a_line_and_touch_nothing(place):
    (place.folder / "minari").mkdir(exist_ok=True)
    for name, outcome in place.outcomes(MISTAKES).items():
        assert_told(outcome, MISTAKES[name][1:])


def test_the_page_and_the_tables_are_written(server, tmp_path):
    write_run(tmp_path / "runs", "pen-human-v0", "xql", {0: [1.0, 12.25], 1: [2.0, 13.75]})
    broken = write_run(tmp_path / "runs", "pen-human-v0", "bc", {0: [1.0]})
    (broken / "evaluations.csv").write_text("step\n")
    before = contents(tmp_path)
    outcome = server.run(["runs", "--out=new/report", "--bootstrap_samples=100"], tmp_path, main=REPORT)
    assert (outcome.code, outcome.err) == (0, "")
    assert "1 runs, 1 scores" in outcome.out
    assert f"left out: {broken.relative_to(tmp_path / 'runs')}: evaluations.csv: damaged" in outcome.out
    after = contents(tmp_path)
    files = {
        f"new/report/{name}"
        for name in ("index.html", "scores.csv", "statistics.csv", "runs.csv", "scores.tex")
    }
    assert after.keys() - before.keys() == {"new", "new/report", *files}
    assert {name: after[name] for name in before} == before  # the runs' files are as they were
    assert b"13.0" in after["new/report/index.html"]
    assert b",13," in after["new/report/scores.csv"]


def test_the_same_runs_are_the_same_report(server, tmp_path):
    for seed in range(3):
        write_run(tmp_path / "runs", "pen-human-v0", "xql", {seed: [1.0, seed]})
    for out in ("a", "b"):
        assert server.run(["runs", f"--out={out}"], tmp_path, main=REPORT).code == 0
    found = contents(tmp_path)
    for name in ("scores.csv", "statistics.csv", "runs.csv", "scores.tex"):
        assert found[f"a/{name}"] == found[f"b/{name}"]
    made = [re.sub(rb"Made [0-9-]+ [0-9:]+", b"", found[f"{out}/index.html"]) for out in "ab"]
    assert made[0] == made[1]


class Served:
    """report.py --serve on a folder, as a user starts it."""

    def __init__(self, folder, *arguments):
        self.process = subprocess.Popen(
            [sys.executable, str(REPORT), str(folder), "--serve", "--port=0", *arguments],
            env=environment_of_processes(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        line = self.process.stdout.readline()
        found = re.search(r"http://127\.0\.0\.1:(\d+)/", line)
        assert found, (line, self.process.stderr.read())
        self.port = int(found[1])

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.process.kill()
        self.process.wait()

    def get(self, path, method="GET", **headers):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request(method, path, headers=headers)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def resident(self):
        with open(f"/proc/{self.process.pid}/statm") as file:
            return int(file.read().split()[1]) * resource.getpagesize()


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_the_server_in_good_order(tmp_path, number, code):
    write_run(tmp_path, "pen-human-v0", "xql", {0: [1.0, 12.25]})
    before = contents(tmp_path)
    with Served(tmp_path) as served:
        status, page = served.get("/")
        assert (status, b"12.2" in page) == (200, True)
        served.process.send_signal(number)
        out, err = served.process.communicate(timeout=30)
        assert (served.process.returncode, err) == (code, "")
        assert out == f"stopped by {number.name}\n"
    assert contents(tmp_path) == before


@pytest.mark.slow
def test_ten_thousand_requests_while_a_run_goes_on(tmp_path):
    """Everything but the fixed paths is refused, the page follows the run, memory stays flat."""
    run = write_run(tmp_path / "runs", "pen-human-v0", "xql", {0: [1.0]}, status=None)
    (tmp_path / "runs" / "secret").write_text("root:x:0")
    (tmp_path / "runs" / "link").symlink_to("/etc")
    outside = write_run(tmp_path / "outside", "pen-human-v0", "bc", {0: [7.77]})
    (tmp_path / "runs" / "led").symlink_to(outside)
    refused = [
        ("/../../../../etc/passwd", "GET"), ("/..%2f..%2fetc/passwd", "GET"), ("/link/passwd", "GET"),
        ("//etc/passwd", "GET"), ("/secret", "GET"), (f"{tmp_path}/runs/secret", "GET"), ("/", "POST"),
        ("/", "DELETE"), ("/config.json", "GET"), ("/" + "a" * 5_000, "GET"),
    ]  # fmt: skip
    sizes, start = [], time.monotonic()
    with Served(tmp_path / "runs", "--bootstrap_samples=100") as served:
        for number in range(10_000):
            if number % 1_000 == 0:
                sizes.append(served.resident())
                with (run / "evaluations.csv").open("a") as file:
                    file.write(f"{2_000 + number},0,8.0,{number}.5,50,,3.0\n")
            if number % 2:
                path, method = refused[number // 2 % len(refused)]
                status, body = served.get(path, method)
                assert status in (404, 405, 414), (path, status)
                assert b"root:" not in body
            else:
                status, body = served.get(("/", "/scores.csv", "/stamp")[number // 2 % 3])
                assert status == 200
                assert b"7.77" not in body
        time.sleep(3)
        served.get("/")
        time.sleep(3)
        assert b"9000.5" in served.get("/")[1]
    print(
        f"10,000 requests in {time.monotonic() - start:.0f} s, MB resident:",
        *(size // 10**6 for size in sizes),
    )
    assert sizes[-1] - sizes[3] < 15e6


@pytest.mark.slow
def test_a_thousand_runs_are_a_page_within_a_minute_and_2_gb(tmp_path):
    tasks = [
        f"{robot}-{data}-v2"
        for robot in ("hopper", "halfcheetah", "walker2d")
        for data in ("random", "medium")
    ]
    tasks += [f"antmaze-{maze}-v0" for maze in ("umaze", "medium-play", "medium-diverse", "large-play")]
    methods = ["xql", "iql", "bc", "td3_bc", "cql", "awac", "onestep", "sql", "eql", "dt"]
    for task in tasks:
        for method in methods:
            for seed in range(9):
                curve = [len(task) + 3 * len(method) + seed + step % 7 for step in range(50)]
                write_run(tmp_path / "runs", task, method, {seed: curve})
        grid = {(seed, beta): [beta + seed] * 50 for seed in range(6) for beta in (0.5, 1.0, 2.0, 5.0, 10.0)}
        for tau in range(10):
            write_run(
                tmp_path / "runs", task, "mxql", grid, swept=["beta"], diverged=[(1, 0.5)], beta=1.0, tau=tau
            )
    assert len(list(tmp_path.rglob("config.json"))) == 1_000
    start = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, str(REPORT), str(tmp_path / "runs"), f"--out={tmp_path / 'out'}"],
        env=environment_of_processes(), stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    with process.stdout as out:
        said = out.read()
    _, status, used = os.wait4(process.pid, 0)
    seconds = time.monotonic() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    size = (tmp_path / "out" / "index.html").stat().st_size
    processor = used.ru_utime + used.ru_stime  # what it takes alone: other tests may share the machine
    told = (
        f"1,000 runs in {seconds:.1f} s ({processor:.1f} s of the processor), "
        f"{used.ru_maxrss / 1e6:.2f} GB, page of {size / 1e6:.1f} MB"
    )
    print(told)
    assert process.returncode == 0
    assert "1000 runs" in said
    assert processor < 60, told
    assert used.ru_maxrss < 2e6, told  # KB
