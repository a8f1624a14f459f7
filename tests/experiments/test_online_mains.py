"""What online trainings leave, on the host and compiled, by the real main; stopped and broken ones go on."""

import shutil

import pytest
from driver import (
    EVALUATE,
    ONLINE,
    ROOT,
    assert_every_documented_file,
    rows,
    run_folder,
    strict_json,
    succeed,
)
from mistakes import ONLINE_ARGUMENTS, TD3

from xql_jax.training.replaying import NUM_ERRORS

pytestmark = pytest.mark.slow
ON_HOST = (TD3, *ONLINE_ARGUMENTS, "--save_dir=runs")
COMPILED = (
    TD3, *ONLINE_ARGUMENTS, "--env_name=jax_point_mass:PointMass", "--num_environments=5", "--save_dir=runs",
)  # fmt: skip


@pytest.fixture(scope="module", params=[ON_HOST, COMPILED], ids=["host", "compiled"])
def online(request, tmp_path_factory):
    """A run that has ended: its arguments, and where it was trained."""
    folder = tmp_path_factory.mktemp("online")
    shutil.copy(ROOT / "tests" / "envs" / "jax_point_mass.py", folder)
    succeed(request.param, folder, main=ONLINE)
    return request.param, folder


def test_an_online_run_leaves_what_offline_runs_do_and_is_evaluated(online):
    arguments, folder = online
    run = run_folder(folder)
    assert_every_documented_file(run, 1, "replay", "bellman_errors.csv", "preprocessing.json")
    errors = [row["step"] for row in rows(run / "bellman_errors.csv")]
    assert errors == [step for step in ("100", "200") for _ in range(NUM_ERRORS)]
    assert [row["step"] for row in rows(run / "evaluations.csv")] == ["100", "200"]
    assert [row["step"] for row in rows(run / "metrics.csv")] == ["50", "100", "150", "200"]
    summary = strict_json(run / "summary.json")
    lag = 0 if arguments is COMPILED else 99
    assert (summary["status"], summary["step"], summary["policy_lag"]) == ("finished", 200, lag)
    evaluated = succeed([str(run), "--episodes=1"], folder, main=EVALUATE)
    assert "1 episodes of td3, 200 steps, " in evaluated
