"""Each benchmark runs and prints what it is read for; its numbers are the machine's."""

import json
import math

import jax
import pytest
from driver import ROOT, run_main, run_process

pytestmark = pytest.mark.slow
RESULTS = {  # arguments, and what is measured
    "throughput": (
        "--algorithm=bc --transitions=20000 --members=1,3 --updates=5 --turns=1",
        {"loop", "unrolled", "1 members", "3 members", "share_of_peak"},
    ),
    "evaluation": ("--tasks=maze2d-umaze-v1,hopper-medium-v2 --seconds=0.2", {"maze2d-umaze-v1"}),
    "compiled": (
        "--env_name=tests.envs.jax_point_mass:PointMass --algorithm=td3 --num_environments=4 --width=16"
        " --seconds=0.1 --turns=1",
        {"compiled"},
    ),
    "online": (
        "--algorithm=td3 --env_name=pendulum-swingup --steps=100 --turns=1",
        {"straightforward", "overlapped", "updates alone"},
    ),
}


@pytest.mark.parametrize("name", RESULTS)
def test_it_measures(name):
    arguments, measured = RESULTS[name]
    outcome = run_main(arguments.split(), main=ROOT / "benchmarks" / f"{name}.py")
    assert outcome.code == 0, outcome.err
    results = json.loads(outcome.out.splitlines()[-1])
    for result in results if isinstance(results, list) else [results]:
        numbers = jax.tree.leaves([result[name] for name in measured])
        assert all(math.isfinite(number) and number > 0 for number in numbers)


def test_claims_runs(tmp_path):
    """What is trained is evaluated member by member, and is left out the second time."""
    words = ["maze-xql", "--updates=3", "--episodes=1", f"--output={tmp_path}"]
    for _ in range(2):
        outcome = run_process(words, ROOT, 900, ROOT / "benchmarks" / "claims_runs.py", JAX_PLATFORMS="cpu")
        assert outcome.code == 0, outcome.err
    assert outcome.out == ""
    rows = (tmp_path / "maze-xql.csv").read_text().splitlines()
    assert [row.split(",")[:2] for row in rows] == [["step", "seed"], *(["3", str(n)] for n in range(8))]
