"""One run of two processes with two devices each, against the run of one: rows, checkpoints, and losses."""

import csv
import json
import shutil
import signal
import socket
import time

import numpy as np
import orbax.checkpoint as ocp
import pytest
from broken_runs import MAX_STEPS, checkpoint_steps, flatten, run_folder

MEMBERS = [f"seed{seed}" for seed in range(42, 50)]
EIGHT = ("--num_seeds=8", "--eval_interval=300", "--eval_episodes=1")
PATIENCE = 500  # seconds, for a run of eight members beside others
pytestmark = pytest.mark.slow


class Pair:
    """Two processes of one run, and what each says."""

    def __init__(self, bench, save_dir, *arguments, others=(), by_slurm=False):
        """`others` are the second's alone; by SLURM they are told of one another by its variables."""
        with socket.create_server(("localhost", 0)) as free:
            port = free.getsockname()[1]
        self._logs = [bench.folder / f"{save_dir.name} {index}" for index in range(2)]
        self.processes = []
        for index, log in enumerate(self._logs):
            with log.open("w") as file:
                told, variables = ((), slurm(port, index)) if by_slurm else (flags(port, index), ())
                process = bench.start(
                    save_dir, *EIGHT, *told, *arguments, *(others if index else ()),
                    prefix=(*devices(2), *variables), log=file,
                )  # fmt: skip
            self.processes.append(process)

    def outcomes(self, timeout=PATIENCE):
        """Exit code and text of each."""
        try:
            codes = [process.wait(timeout) for process in self.processes]
        finally:
            for process in self.processes:
                process.kill()
        return [(code, log.read_text()) for code, log in zip(codes, self._logs, strict=True)]


def flags(port, index):
    return (f"--coordinator_address=localhost:{port}", "--num_processes=2", f"--process_id={index}")


def slurm(port, index):
    """What `srun -n 2` tells each of its tasks; JAX gets the port from the job's number."""
    variables = {
        "SLURM_JOB_ID": port,
        "SLURM_STEP_NODELIST": "localhost",
        "SLURM_NTASKS": 2,
        "SLURM_PROCID": index,
        "SLURM_LOCALID": index,
    }
    return [f"{name}={value}" for name, value in variables.items()]


def devices(number):
    return ("env", f"JAX_NUM_CPU_DEVICES={number}")


def run_alone(bench, save_dir, *arguments):
    """The folder of a run of one process on one device."""
    assert bench.finish(bench.start(save_dir, *EIGHT, *arguments), PATIENCE) == 0, bench.log()
    return run_folder(save_dir)


@pytest.fixture(scope="module")
def alone(bench):
    """The run of one process on one device."""
    return run_alone(bench, bench.folder / "alone")


@pytest.fixture(scope="module")
def pair(bench):
    """The run of two processes, and their outcomes."""
    save_dir = bench.folder / "pair"
    outcomes = Pair(bench, save_dir).outcomes()
    return run_folder(save_dir), outcomes


def test_the_first_process_alone_speaks(pair):
    _, ((code, out), (other_code, other_out)) = pair
    assert (code, other_code) == (0, 0), out + other_out
    assert "done: pointmaze-umaze-v0, xql, 600 updates" in out
    assert other_out == ""


def test_two_processes_equal_one(pair, alone):
    assert_same_run(pair[0], alone)
    assert sorted(path.name for path in (pair[0] / "tb").iterdir()) == MEMBERS


def test_a_checkpoint_of_two_processes_goes_on_with_one(bench, alone):
    """SIGTERM to process 1 alone stops both, at one step."""
    for attempt in range(5):
        save_dir = bench.folder / f"two then one {attempt}"
        both = Pair(bench, save_dir)
        await_rows(save_dir, both.processes)
        both.processes[1].send_signal(signal.SIGTERM)
        outcomes = both.outcomes()
        if outcomes[0][0]:
            break
    assert [code for code, _ in outcomes] == [143, 143], outcomes
    assert "stopped by SIGTERM; go on with --resume" in outcomes[0][1]
    run = run_folder(save_dir)
    assert 0 < checkpoint_steps(run)[-1] < MAX_STEPS
    assert json.loads((run / "summary.json").read_text())["status"] == "interrupted"
    assert_same_run(run_alone(bench, save_dir, "--resume"), alone)


def test_a_checkpoint_of_one_process_goes_on_with_two(bench, alone):
    for attempt in range(5):
        save_dir = bench.folder / f"one then two {attempt}"
        one = bench.start(save_dir, *EIGHT, prefix=devices(3))
        await_rows(save_dir, [one])
        one.send_signal(signal.SIGTERM)
        if bench.finish(one, PATIENCE):
            break
    assert one.returncode == 143, bench.log()
    assert 0 < checkpoint_steps(run_folder(save_dir))[-1] < MAX_STEPS
    outcomes = Pair(bench, save_dir, "--resume").outcomes()
    assert [code for code, _ in outcomes] == [0, 0], outcomes
    assert_same_run(run_folder(save_dir), alone)


def test_two_processes_extend_a_run_by_seeds(bench, alone):
    save_dir = bench.folder / "extended"
    shutil.copytree(alone.parents[2], save_dir)
    outcomes = Pair(bench, save_dir, "--num_seeds=10", "--extend").outcomes()
    assert [code for code, _ in outcomes] == [0, 0], outcomes
    assert "by seeds 50, 51, in a run of their own" in outcomes[0][1]
    assert {path.name.split("_")[0] for path in save_dir.glob("*/*/*")} == {
        "seeds42-49",
        "seeds50-51",
    }


@pytest.mark.parametrize("lost", [0, 1])
def test_a_killed_process_stops_the_other_with_a_line(bench, alone, lost):
    for attempt in range(5):
        save_dir = bench.folder / f"lost {lost} {attempt}"
        both = Pair(bench, save_dir)
        await_rows(save_dir, both.processes)
        both.processes[lost].kill()
        outcomes = both.outcomes(timeout=60)
        if outcomes[lost][0]:
            break
    code, out = outcomes[1 - lost]
    assert (outcomes[lost][0], code) == (-signal.SIGKILL, 2), outcomes
    line = f"error: process {lost} of 2 has gone; the others stop too: type them all again with --resume"
    assert out.splitlines()[-1].startswith(line)
    assert out.count("error") == 1
    assert "Traceback" not in out
    outcomes = Pair(bench, save_dir, "--resume").outcomes()
    assert [code for code, _ in outcomes] == [0, 0], outcomes
    assert_same_run(run_folder(save_dir), alone)


def test_a_finished_run_is_not_done_again(bench, pair):
    outcomes = Pair(bench, bench.folder / "pair", "--resume").outcomes()
    assert [code for code, _ in outcomes] == [0, 0], outcomes
    assert "this run has ended already" in outcomes[0][1]


def test_what_one_process_is_told_wrong_ends_all(bench):
    save_dir = bench.folder / "told wrong"
    both = Pair(bench, save_dir, others=["--batch_size=16"])
    line = "process 1: other settings or data than those of process 0: batch_size=16, there 32"
    (code, out), (other_code, other_out) = both.outcomes()
    assert (code, other_code) == (2, 2)
    assert out.splitlines()[-1] == f"error: {line}"
    assert other_out == f"error: {line.removeprefix('process 1: ')}\n"
    assert not save_dir.exists()


def test_slurms_tasks_find_one_another(bench, alone):
    save_dir = bench.folder / "slurm"
    outcomes = Pair(bench, save_dir, by_slurm=True).outcomes()
    assert [code for code, _ in outcomes] == [0, 0], outcomes
    assert_same_run(run_folder(save_dir), alone)


def test_one_of_slurms_tasks_can_train_alone(bench, pair):
    """It does not wait for the other, who is not there: the run is there already."""
    log = bench.folder / "task"
    with log.open("w") as file:
        process = bench.start(
            bench.folder / "pair", *EIGHT, "--num_processes=1", prefix=("env", *slurm(1, 0)), log=file
        )
    assert bench.finish(process, PATIENCE) == 2
    assert "this run exists" in log.read_text()


def test_the_first_does_not_wait_for_ever(bench):
    log = bench.folder / "in vain"
    with socket.create_server(("localhost", 0)) as free:
        port = free.getsockname()[1]
    with log.open("w") as file:
        process = bench.start(bench.folder / "nothing", *EIGHT, *flags(port, 0), "--join_seconds=2", log=file)
    assert bench.finish(process, PATIENCE) == 2
    (line,) = log.read_text().splitlines()
    assert line == "error: in 2 s (--join_seconds), of 2 processes these did not come: 1"
    assert not (bench.folder / "nothing").exists()


def test_a_port_that_is_taken_is_told(bench):
    log = bench.folder / "taken"
    with socket.create_server(("", 0)) as taken, log.open("w") as file:
        told = flags(taken.getsockname()[1], 0)
        process = bench.start(bench.folder / "nothing", *EIGHT, *told, log=file)
        assert bench.finish(process, PATIENCE) == 2
    (line,) = log.read_text().splitlines()
    assert line.startswith(f"error: {told[0]}: process 0 cannot listen on port")


def test_processes_that_were_told_of_different_numbers_are_refused(bench):
    (code, out), (other_code, other_out) = Pair(
        bench, bench.folder / "numbers", others=["--num_processes=3"]
    ).outcomes()
    assert (code, other_code) == (2, 2)
    assert out == "error: --num_processes: process 1 was told of 3 processes, process 0 of 2\n"
    assert other_out.endswith("the processes of this run did not come together; process 0 says why\n")


def test_a_folder_that_is_there_is_refused_by_all(bench, pair):
    """The first finds it; the second says the same."""
    outcomes = Pair(bench, bench.folder / "pair").outcomes()
    assert [code for code, _ in outcomes] == [2, 2], outcomes
    for _, out in outcomes:
        assert "this run exists" in out.splitlines()[-1]


def test_more_processes_than_members_are_refused(bench):
    outcomes = Pair(bench, bench.folder / "too few", "--num_seeds=1").outcomes()
    for code, out in outcomes:
        assert code == 2
        assert "1 member(s) are too few for 2 processes" in out.splitlines()[-1]


def assert_same_run(run, expected):
    """All but the metrics' last bits, which XLA rounds as it likes for so many devices."""
    states, expected_states = (last_states(path) for path in (run, expected))
    assert states.keys() == expected_states.keys()
    for name, array in states.items():
        np.testing.assert_allclose(array, expected_states[name], rtol=1e-4, atol=1e-5, err_msg=name)
    for file in ("metrics.csv", "evaluations.csv"):
        header, numbers = table(run / file)
        expected_header, expected_numbers = table(expected / file)
        assert header == expected_header
        np.testing.assert_allclose(numbers, expected_numbers, rtol=1e-3, atol=1e-4)
    for name in ("status", "step", "diverged"):
        assert summary(run)[name] == summary(expected)[name]
    for name in ("learning_curve.png", "maze.png"):
        assert (run / name).stat().st_size > 0


def last_states(run):
    """The last checkpoint's arrays by name, read by orbax alone."""
    assert checkpoint_steps(run)[-1] == MAX_STEPS
    members = sorted((run / "checkpoints" / str(MAX_STEPS) / "members").iterdir())
    assert [path.name for path in members] == MEMBERS
    return dict(flatten({path.name: ocp.StandardCheckpointer().restore(path) for path in members}, ""))


def table(path):
    """The header and the numbers of a CSV file, without its last column, the seconds; 0 for an empty cell."""
    with path.open(newline="") as file:
        header, *found = csv.reader(file)
    return header, np.array([[float(cell or 0) for cell in row[:-1]] for row in found])


def summary(run):
    return json.loads((run / "summary.json").read_text())


def await_rows(save_dir, processes):
    """Returns when the run has a row, or a process has ended."""
    while all(process.poll() is None for process in processes):
        if any(path.stat().st_size for path in save_dir.glob("*/*/*/metrics.csv")):
            return
        time.sleep(0.002)
