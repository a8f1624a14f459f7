"""What whole runs leave, by the real main: files, pictures, sweeps, the paper's tuned values."""

import csv
import dataclasses
import json
import shutil
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
from main_runs import EVALUATE, ROOT, ForkServer, contents, write_dataset

from xql_jax.envs import Simulation, describe_environment
from xql_jax.tasks import get_task

FILES = {
    "summary.json", "evaluations.csv", "metrics.csv", "learning_curve.png", "learning_curve.svg", "maze.png",
    "maze.svg", "config.json", "tb",
    "checkpoints", "preprocessing.json",
}  # fmt: skip
SETTINGS = (
    "--config.hidden_dims=(8,)", "--max_steps=4", "--log_interval=2", "--eval_interval=2",
    "--checkpoint_interval=2", "--eval_episodes=1", "--notqdm",
)  # fmt: skip
POINTMAZE = ROOT / "configs" / "pointmaze_config.py"
KITCHEN = ROOT / "configs" / "kitchen_config.py"
BETAS, SEEDS = (0.3, 0.5), (42, 43)
SWEEP = (f"--config={POINTMAZE}", "--sweep=beta=0.3,0.5", "--num_seeds=2")


@dataclasses.dataclass(frozen=True)
class Place:
    folder: Path
    server: ForkServer

    def main(self, save_dir, *arguments):
        """A good run's outcome; later flags win, but a config file must come first."""
        first = [argument for argument in arguments if argument.startswith("--config=")]
        last = [argument for argument in arguments if argument not in first]
        if not any(argument.startswith("--dataset=") for argument in arguments):
            first += [f"--dataset={self.folder / 'maze.npz'}", "--env_name=pointmaze-umaze-v0"]
        outcome = self.server.run(
            [*first, f"--save_dir={save_dir}", *SETTINGS, *last], self.folder,
            D4RL_DATASET_DIR=str(self.folder / "cache"),
        )  # fmt: skip
        assert (outcome.code, outcome.err) == (0, "")
        return outcome


@pytest.fixture(scope="module")
def place(server, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    write_dataset(folder / "maze.npz")
    generator = np.random.default_rng(0)
    observations, actions = generator.standard_normal((120, 60)), generator.uniform(-1, 1, (120, 9))
    write_dataset(folder / "kitchen.npz", observations=observations, actions=actions)
    return Place(folder, server)


@pytest.fixture(scope="module")
def sweep(place):
    """The folder of a run of XQL with two betas and two seeds."""
    place.main(place.folder / "sweep", *SWEEP)
    return run_folder(place.folder / "sweep")


def run_folder(save_dir):
    (config,) = save_dir.rglob("config.json")
    return config.parent


def rows(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def strict_json(path):
    """The file's content; NaN and Infinity, which are not JSON, are refused as most other parsers do."""

    def refuse(constant):
        raise AssertionError(f"{path.name} holds {constant}")

    return json.loads(path.read_text(), parse_constant=refuse)


def picture(path):
    """f32[H, W, 3] and the number of its colours."""
    pixels = matplotlib.image.imread(path)[..., :3]
    return pixels, len(np.unique(pixels.reshape(-1, 3), axis=0))


def assert_every_documented_file(run, members):
    assert {path.name for path in run.iterdir() if not path.name.startswith(".")} == FILES
    for name in ("metrics.csv", "evaluations.csv"):
        assert [row["step"] for row in rows(run / name)] == ["2"] * members + ["4"] * members
    assert {int(path.name) for path in (run / "checkpoints").iterdir()} == {2, 4}
    logs = list((run / "tb").iterdir())
    assert len(logs) == members
    for log in logs:
        (events,) = log.iterdir()
        assert events.stat().st_size > 200
    for name in ("learning_curve.png", "maze.png"):
        pixels, colours = picture(run / name)
        assert min(pixels.shape[:2]) > 300
        assert colours > 20
        blank = (pixels == 1).all(-1).mean()
        assert 0.05 < blank < 0.95  # neither all white nor without a margin
    for path in run.rglob("*.json"):
        strict_json(path)


@pytest.mark.parametrize("algorithm", [pytest.param("iql", marks=pytest.mark.slow), "bc"])
def test_a_run_leaves_every_documented_file(place, algorithm):
    save_dir = place.folder / algorithm
    outcome = place.main(save_dir, f"--config={POINTMAZE}:{algorithm}")
    run = save_dir / "pointmaze-umaze-v0" / algorithm / run_folder(save_dir).name
    assert run.name.startswith("seed42_")
    assert str(run) in outcome.out
    assert_every_documented_file(run, members=1)
    summary = strict_json(run / "summary.json")
    assert (summary["status"], summary["algorithm"], summary["step"]) == ("finished", algorithm, 4)
    assert strict_json(run / "config.json")["config"]["algorithm"] == algorithm
    # Only a method with a V paints the maze with it.
    pixels, _ = picture(run / "maze.png")
    red, green, blue = np.moveaxis(pixels, -1, 0)
    yellow = (red > 0.8) & (green > 0.8) & (blue < 0.4)  # the upper end of cividis
    assert (yellow.sum() > 100) == (algorithm == "iql")


@pytest.mark.slow
def test_a_sweep_trains_every_beta_with_every_seed(sweep):
    assert_every_documented_file(sweep, members=4)
    assert sweep.name.startswith("seeds42-43_")
    members = [(beta, seed) for beta in BETAS for seed in SEEDS]
    for name in ("metrics.csv", "evaluations.csv"):
        found = [(float(row["beta"]), int(row["seed"])) for row in rows(sweep / name)]
        assert found == members * 2
    losses = [row["value/loss"] for row in rows(sweep / "metrics.csv") if row["step"] == "4"]
    assert len(set(losses)) == 4
    logs = {path.name for path in (sweep / "tb").iterdir()}
    assert logs == {f"seed{seed}_beta={beta}" for beta, seed in members}


@pytest.mark.slow
def test_a_sweep_is_summed_up_by_setting(sweep):
    results = strict_json(sweep / "summary.json")["results"]
    assert [result["hyperparameters"] for result in results] == [{"beta": beta} for beta in BETAS]
    for beta, result in zip(BETAS, results, strict=True):
        scores = np.array(
            [
                [float(row["score"]) for row in rows(sweep / "evaluations.csv")
                 if (float(row["beta"]), int(row["seed"])) == (beta, seed)]
                for seed in SEEDS
            ]
        )  # fmt: skip
        assert scores.shape == (2, 2)
        assert (result["seeds"], result["last_step"]) == ([42, 43], 4)
        np.testing.assert_allclose(result["last_score_by_seed"], scores[:, -1])
        np.testing.assert_allclose(result["best_score_by_seed"], scores.max(1))
        assert result["best_step_by_seed"] == [(2, 4)[index] for index in scores.argmax(1)]
        np.testing.assert_allclose(result["last_score"], scores[:, -1].mean())
        # Two values: the standard error is half their distance, and t at 97.5% with one degree is 12.706.
        interval = 12.706 * abs(scores[0, -1] - scores[1, -1]) / 2
        np.testing.assert_allclose(result["last_score_interval_95"], interval, rtol=1e-4)


def test_a_finished_run_is_not_touched_by_resume(place, sweep):
    save_dir = place.folder / "sweep"
    before, times = contents(save_dir), {path: path.stat().st_mtime_ns for path in save_dir.rglob("*")}
    outcome = place.main(save_dir, *SWEEP, "--resume")
    assert "has ended already" in outcome.out
    assert "update 4" not in outcome.out  # nothing is evaluated again
    for beta in BETAS:
        assert f"beta={beta}: last score" in outcome.out
    assert contents(save_dir) == before
    assert {path: path.stat().st_mtime_ns for path in save_dir.rglob("*")} == times


@pytest.mark.slow
def test_a_run_begins_with_members_of_another(place, sweep, tmp_path):
    shutil.copytree(sweep, tmp_path / "other")
    shutil.rmtree(tmp_path / "other" / "checkpoints" / "4")  # as if it had been stopped after 2 updates
    before = contents(tmp_path / "other")
    arguments = [
        f"--config={POINTMAZE}",
        "--sweep=beta=0.5",
        "--seed=43",
        f"--checkpoint={tmp_path / 'other'}",
    ]
    outcome = place.main(tmp_path / "results", *arguments)
    run = run_folder(tmp_path / "results")
    (member,) = (run / "checkpoints" / "4" / "members").iterdir()
    assert member.name == "seed43_beta=0.5"
    theirs, ours = (
        strict_json(folder / "checkpoints" / "2" / "checkpoint.json")["progress"]
        for folder in (tmp_path / "other", run)
    )
    assert (len(theirs["members"]), list(ours["members"])) == (4, [member.name])
    for name in ("update_seconds", "evaluation_seconds"):  # one of four members begins here
        np.testing.assert_allclose(ours[name], theirs[name] / 4)
    for name in ("metrics.csv", "evaluations.csv"):
        (row,) = rows(run / name)
        expected = rows(sweep / name)[-1]
        assert (row["step"], row["seed"], row["beta"]) == ("4", "43", "0.5")
        assert row.keys() == expected.keys()
        for column in row.keys() - {"seconds", "diverged_at"}:
            np.testing.assert_allclose(float(row[column]), float(expected[column]), rtol=1e-4)
    assert "last score" in outcome.out
    assert contents(tmp_path / "other") == before
    assert "has ended already" in place.main(tmp_path / "results", *arguments, "--resume").out


@pytest.mark.slow
def test_infinity_is_written_as_json_knows_it(place):
    # Infinity turns the clip, and the cap of the policy's weights, off.
    save_dir = place.folder / "infinite"
    arguments = (f"--config={POINTMAZE}", "--sweep=clip=7,inf", "--config.max_weight=inf")
    first = place.main(save_dir, *arguments)
    run = run_folder(save_dir)
    assert [row["clip"] for row in rows(run / "metrics.csv")] == ["7", "inf"] * 2
    found = {str(path.relative_to(run)): strict_json(path) for path in run.rglob("*.json")}
    assert {"summary.json", "config.json"} <= found.keys()
    settings = [result["hyperparameters"] for result in found["summary.json"]["results"]]
    assert settings == [{"clip": 7.0}, {"clip": "inf"}]
    assert found["config.json"]["config"]["max_weight"] == "inf"
    again = place.main(save_dir, *arguments, "--resume")
    for setting in ("clip=7: last score", "clip=inf: last score"):
        assert setting in first.out
        assert setting in again.out


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "batch_size", "beta"),
    [
        ((), 1024, 2.0),  # the untuned are 256 and 5
        (("--batch_size=32", "--config.beta=3"), 32, 3.0),
    ],
)
def test_tuned_applies_table_4_but_for_what_is_given(place, tmp_path, arguments, batch_size, beta):
    place.main(
        tmp_path, f"--config={KITCHEN}", "--env_name=kitchen-complete-v0",
        f"--dataset={place.folder / 'kitchen.npz'}", "--eval_episodes=0", "--tuned", *arguments,
    )  # fmt: skip
    run = run_folder(tmp_path)
    config = strict_json(run / "config.json")
    assert (config["batch_size"], config["config"]["beta"]) == (batch_size, beta)
    assert (config["config"]["clip"], config["config"]["v_updates"]) == (7.0, 1)
    assert not list(run.glob("*.png"))
    assert strict_json(run / "summary.json")["results"] == []


@pytest.mark.slow
def test_data_without_a_task_is_trained_on_and_not_evaluated(place, tmp_path):
    save_dir = tmp_path / "results"
    outcome = place.main(save_dir, f"--config={POINTMAZE}:iql", f"--dataset={place.folder / 'kitchen.npz'}")
    assert "no evaluation: no --env_name is given" in outcome.out
    run = run_folder(save_dir)
    assert run.parent == save_dir / "kitchen" / "iql"
    assert not (run / "learning_curve.png").exists()
    assert [row["step"] for row in rows(run / "metrics.csv")] == ["2", "4"]
    assert not rows(run / "evaluations.csv")
    summary = strict_json(run / "summary.json")
    assert (summary["status"], summary["results"], summary["environment"]) == ("finished", [], None)


@pytest.mark.slow
def test_where_the_data_is_changes_no_number(place, sweep, tmp_path):
    outcome = place.main(tmp_path, *SWEEP, "--data_on=host")
    assert "streamed in blocks" in outcome.out
    run = run_folder(tmp_path)
    for name in ("metrics.csv", "evaluations.csv"):
        for row, expected in zip(rows(run / name), rows(sweep / name), strict=True):
            assert {**row, "seconds": 0} == {**expected, "seconds": 0}
    assert run.name == sweep.name  # so that --resume finds it, wherever the data has room next time


@pytest.mark.slow
def test_several_sources_are_joined(place, tmp_path):
    write_dataset(tmp_path / "more.hdf5", size=80)
    sources = (f"--dataset={place.folder / 'maze.npz'}", f"--dataset={tmp_path / 'more.hdf5'}")
    outcome = place.main(tmp_path / "results", *sources)
    # D4RL's layout: of 120 rows the last and the time-outs at 39 and 79 are left out; of 80, 39 and 79.
    assert f"maze-and-1-more: {120 - 3 + 80 - 2} transitions" in outcome.out


def test_the_summary_points_to_what_is_known_of_the_environment(sweep):
    environment = strict_json(sweep / "summary.json")["environment"]
    assert environment == describe_environment(get_task("pointmaze-umaze-v0"), Simulation())


@pytest.mark.slow
def test_actions_beyond_the_bounds_are_told_of(place, tmp_path):
    actions = np.zeros((120, 2))
    actions[0] = 1.5  # 2 of the 117 transitions' 234 entries
    write_dataset(tmp_path / "far.npz", actions=actions)
    outcome = place.main(tmp_path / "results", f"--dataset={tmp_path / 'far.npz'}")
    assert "warning: 0.85% of the actions' entries are beyond ±1" in outcome.out
    assert "warning" not in place.main(tmp_path / "good").out


@pytest.mark.slow
@pytest.mark.parametrize("algorithm", ["value_iteration", "q_iteration"])
def test_variants_for_deterministic_dynamics_train_sweep_and_are_evaluated(place, tmp_path, algorithm):
    outcome = place.main(
        tmp_path, f"--config={POINTMAZE}:{algorithm}", "--sweep=beta=0.3,0.5", "--num_seeds=2"
    )
    folder = run_folder(tmp_path)
    assert ("left out 3 of 117 transitions" in outcome.out) == (algorithm == "q_iteration")
    evaluations = rows(folder / "evaluations.csv")
    assert {(row["beta"], row["seed"]) for row in evaluations} == {
        (str(beta), str(seed)) for beta in BETAS for seed in SEEDS
    }
    assert (folder / "maze.png").is_file()  # V is drawn, too
    evaluated = place.server.run([str(folder), "--episodes=1"], tmp_path, main=EVALUATE)
    assert (evaluated.code, evaluated.err) == (0, "")
