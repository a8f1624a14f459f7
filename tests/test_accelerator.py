"""benchmarks/accelerator.py writes all that it promises, and says of the rest why it is lacking."""

import importlib.util
import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PROGRAM = ROOT / "benchmarks" / "accelerator.py"
TINY = (
    "--batch_sizes=16",
    "--transitions=500",
    "--repeats=2",
    "--seconds=0.01",
    "--online=xtd3",
    "--minutes=60",
)
SIMULATORS = ("dm_control", "gymnasium", "imageio", "minari", "ml_collections", "mujoco", "tensorboardX")

pytestmark = pytest.mark.slow


def run(*arguments, without=()):
    """Runs the program on one CPU device, as if the modules `without` were not installed."""
    lacking = f"import runpy, sys; sys.modules.update(dict.fromkeys({without}))"
    code = f"{lacking}; sys.argv.pop(0); runpy.run_path(sys.argv[0], run_name='__main__')"
    return subprocess.run(
        [sys.executable, "-c", code, PROGRAM, *arguments],
        env={**os.environ, "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        timeout=900,
    )


def measure(folder, *arguments, code=0, without=()):
    """Returns the file that the program wrote, and what it printed."""
    finished = run(*TINY, f"--output={folder / 'found.json'}", *arguments, without=without)
    assert finished.returncode == code, finished.stderr
    assert [path.name for path in folder.iterdir()] == ["found.json"]  # nothing half-written
    return json.loads((folder / "found.json").read_text()), finished.stdout


def names(results):
    """What was measured, by the names of the plan."""
    training = (
        f"{row['algorithm']}, {row['members']} members, batch {row['batch_size']}, {row['data']}"
        for row in results["training"]
    )
    online = (f"{row['algorithm']}, {row['environment']}" for row in results["online"])
    return [*(f"products of {row['size']}" for row in results["products"]), *training, *online]


def reasons(rows):
    return {row["what"]: row["reason"] for row in rows}


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    return measure(tmp_path_factory.mktemp("accelerator"), "--algorithms=xql,bc", "--members=2")


PLAN = {"products of 1024", "products of 2048", "xtd3, stand-in", "xtd3, cheetah-run"} | {
    f"{algorithm}, 2 members, batch 16, {data}"
    for algorithm in ("xql", "bc")
    for data in ("resident", "streamed")
}


def test_measures_all_that_is_planned(measured):
    results, _ = measured
    lacking = {} if importlib.util.find_spec("dm_control") else {"xtd3, cheetah-run": "no dm_control"}
    assert reasons(results["skipped"]) == lacking
    assert results["failed"] == []
    assert sorted(names(results)) == sorted(PLAN - set(lacking))


def test_tells_of_the_machine_and_the_versions(measured):
    results, _ = measured
    assert results["device"] == {"kind": "cpu", "count": 1, "platform": "cpu"}
    assert set(results["versions"]) == {"python", "jax", "jaxlib", "flax", "optax", "numpy"}
    assert results["commit"] is None or re.fullmatch("[0-9a-f]{40}(-dirty)?", results["commit"])
    assert results["settings"]["transitions"] == 500
    assert socket.gethostname() not in json.dumps(results)


def test_numbers_are_positive_and_agree(measured):
    results, _ = measured
    spreads = [row["gflops"] for row in results["products"]]
    spreads += [row["updates_per_second"] for row in results["training"]]
    spreads += [row["steps_per_second"] for row in results["online"]]
    for spread in spreads:
        assert 0 < spread["min"] <= spread["median"] <= spread["max"]
    for row in results["training"] + results["online"]:
        assert 0 < row["compile_seconds"] < row["set_up_seconds"] < results["total_seconds"]
        assert row["hidden_dims"] == [256, 256]
        assert row["memory"]["of"] == "process"
        assert row["memory"]["bytes"] > 10 * 2**20
    for row in results["online"]:
        assert set(row["milliseconds_per_step"]) == {"environment", "acting", "waiting for the learner"}


def test_shares_are_of_the_best_product(measured):
    results, _ = measured
    assert results["peak_gflops"] == max(row["gflops"]["max"] for row in results["products"])
    # bc: 2 * 16 * (11 * 256 + 256 * 256 + 256 * 3) = 2,211,840 forward; three times that, less the first
    # layer's gradient of its input, 2 * 16 * 11 * 256. xql: the 559,415,296 of a batch of 256 are XLA's count
    # of the update within 2%.
    flops = {"bc": 6_545_408, "xql": 559_415_296 // 16}
    for row in results["training"]:
        assert row["flops_per_update"] == flops[row["algorithm"]]
        share = row["updates_per_second"]["median"] * row["flops_per_update"] / (1e9 * results["peak_gflops"])
        assert row["share_of_peak"] == pytest.approx(share / row["devices"])


def test_hours_of_table_1_are_those_of_the_fastest_population_of_xql(measured):
    results, _ = measured
    [best] = results["table_1"]["hours"]
    xql = [row for row in results["training"] if row["algorithm"] == "xql"]
    fastest = max(xql, key=lambda row: row["updates_per_second"]["median"])
    assert best["hours"] == pytest.approx(108e6 / fastest["updates_per_second"]["median"] / 3600)
    assert (best["batch_size"], best["members"], best["data"]) == (16, fastest["members"], fastest["data"])
    assert "18 tasks * 6 seeds * 1000000 updates" in results["table_1"]["formula"]


def test_prints_a_table_and_a_row_of_markdown(measured):
    results, output = measured
    *table, header, rule, row = output.splitlines()
    assert [line.count("|") for line in (header, rule, row)] == [4, 4, 4]
    for measurement in results["training"]:
        name = f"{measurement['algorithm']} x {measurement['members']}, 16, {measurement['data']}, updates/s"
        assert f"{measurement['updates_per_second']['median']:,.0f}" in next(x for x in table if name in x)
    assert f"xql x 2: {results['training'][0]['updates_per_second']['median']:,.0f}" in row


def test_what_the_time_does_not_allow_is_listed(tmp_path):
    results, output = measure(tmp_path, "--algorithms=xql,bc", "--members=2", "--minutes=0.01")
    skipped = reasons(results["skipped"])
    assert skipped
    assert sorted([*skipped, *names(results)]) == sorted(PLAN)
    assert all("of 1 s were gone" in reason for reason in skipped.values())
    assert all(f"not measured: {what}: " in output for what in skipped)
    assert results["table_1"]["hours"] == []


def test_needs_neither_simulators_nor_what_only_mains_need(tmp_path):
    results, _ = measure(tmp_path, "--algorithms=bc", "--members=1", without=SIMULATORS)
    skipped = reasons(results["skipped"])
    assert skipped.pop("xtd3, cheetah-run") == "no dm_control"
    assert skipped == {}
    assert len(results["training"]) == 2


def test_what_breaks_is_listed_and_the_rest_is_measured(tmp_path):
    arguments = ("--algorithms=bc", "--members=1")
    results, output = measure(tmp_path, *arguments, code=1, without=("xql_jax.training.rounds", "dm_control"))
    failed = reasons(results["failed"])
    assert set(failed) == {"xtd3, stand-in"}
    assert "xql_jax.training.rounds" in failed["xtd3, stand-in"]
    assert "not measured: xtd3, stand-in: ModuleNotFoundError" in output
    assert len(results["training"]) == 2


@pytest.mark.parametrize(
    ("argument", "words"),
    [
        ("--members=0,8", "--members"),
        ("--algorithms=xsac", "known here: xql, iql, bc"),
        ("--minutes=nan", "--minutes"),
        ("--output=/dev/null/found.json", "/dev/null is not a directory"),
        (f"--output={ROOT}", "it is a directory"),
        ("quick", "unexpected argument 'quick'"),
    ],
)
def test_a_mistake_ends_with_one_line(argument, words):
    finished = run(argument)
    assert finished.returncode == 2
    [line] = finished.stderr.splitlines()
    assert line.startswith("error: ")
    assert words in line
