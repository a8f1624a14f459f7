"""What trainings on data leave, by the real mains: files, rows, pictures, sweeps; and mistakes."""

import dataclasses
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
from main_runs import (
    EVALUATE,
    EXPORT,
    FINETUNE,
    MAIN,
    ROOT,
    ForkServer,
    run_process,
    write_dataset,
)
from mistakes import assert_told
from run_files import assert_every_documented_file, rows, run_folder, strict_json

SETTINGS = (
    "--config.hidden_dims=(8,)", "--max_steps=4", "--log_interval=2", "--eval_interval=2",
    "--checkpoint_interval=2", "--eval_episodes=1", "--notqdm",
)  # fmt: skip
POINTMAZE, KITCHEN = (ROOT / "configs" / f"{suite}_config.py" for suite in ("pointmaze", "kitchen"))
BETAS, SEEDS = (0.3, 0.5), (42, 43)
SWEEP = (f"--config={POINTMAZE}", "--sweep=beta=0.3,0.5", "--num_seeds=2")
MISTAKES = {
    "no such member": ("finetune-from --checkpoint={run} --member=3", "--member=3", "members 0 to 0"),
    "an online method": ("finetune --config={configs}/pointmaze_config.py:sac", "'sac'", "train_online.py"),
    "unknown field online": ("finetune --online=betta=1", "'betta'", "beta"),
    "a ramp of three": ("finetune --online=beta=1:2:3", "FIELD=NUMBER:NUMBER"),
    "intervals between steps": ("finetune --num_environments=3", "multiple of --num_environments=3"),
    "one reference": ("finetune --random_return=1", "--random_return and --expert_return: give both or none"),
    "references of a task that has some": (
        "finetune --random_return=1 --expert_return=2", "pointmaze-umaze-v0 has references of its own"
    ),
    "own environment without a module": (
        "finetune --env_name=nowhere:My-v0", "'nowhere' does not import here"
    ),
    "export of nothing": ("export", "name a run's folder"),
    "unknown format": ("export {run} --formats=torch", "--formats=torch", "jax, onnx, npz"),
    "export among a run's own": ("export {run} --output={run}/checkpoints/x", "that is of the run"),
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Bench:
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
def offline(server, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    write_dataset(folder / "maze.npz")
    generator = np.random.default_rng(0)
    observations, actions = generator.standard_normal((120, 60)), generator.uniform(-1, 1, (120, 9))
    write_dataset(folder / "kitchen.npz", observations=observations, actions=actions)
    return Bench(folder, server)


@pytest.fixture(scope="module")
def sweep(offline):
    """The folder of a run of XQL with two betas and two seeds."""
    offline.main(offline.folder / "sweep", *SWEEP)
    return run_folder(offline.folder / "sweep")


@pytest.mark.parametrize("algorithm", [pytest.param("iql", marks=pytest.mark.slow), "bc"])
def test_an_offline_run_leaves_every_documented_file(offline, algorithm):
    save_dir = offline.folder / algorithm
    outcome = offline.main(save_dir, f"--config={POINTMAZE}:{algorithm}")
    run = save_dir / "pointmaze-umaze-v0" / algorithm / run_folder(save_dir).name
    assert run.name.startswith("seed42_")
    assert str(run) in outcome.out
    assert_every_documented_file(run, 1, "maze.png", "preprocessing.json")
    summary = strict_json(run / "summary.json")
    assert (summary["status"], summary["algorithm"], summary["step"]) == ("finished", algorithm, 4)
    # Only a method with a V paints the maze with it.
    red, green, blue = np.moveaxis(matplotlib.image.imread(run / "maze.png")[..., :3], -1, 0)
    yellow = (red > 0.8) & (green > 0.8) & (blue < 0.4)  # the upper end of cividis
    assert (yellow.sum() > 100) == (algorithm == "iql")


@pytest.mark.slow
def test_a_sweep_trains_every_beta_with_every_seed_and_is_summed_up_by_setting(offline, sweep):
    assert_every_documented_file(sweep, 4, "maze.png", "preprocessing.json")
    members = [(beta, seed) for beta in BETAS for seed in SEEDS]
    for name in ("metrics.csv", "evaluations.csv"):
        found = [(row["step"], float(row["beta"]), int(row["seed"])) for row in rows(sweep / name)]
        assert found == [(step, *member) for step in ("2", "4") for member in members]
    assert {path.name for path in (sweep / "tb").iterdir()} == {f"seed{s}_beta={b}" for b, s in members}
    results = strict_json(sweep / "summary.json")["results"]
    assert [result["hyperparameters"] for result in results] == [{"beta": beta} for beta in BETAS]
    for beta, result in zip(BETAS, results, strict=True):
        of_beta = [row for row in rows(sweep / "evaluations.csv") if float(row["beta"]) == beta]
        scores = np.array([float(row["score"]) for row in of_beta]).reshape(2, 2).T  # [seed, step]
        np.testing.assert_allclose(result["last_score_by_seed"], scores[:, -1])
        np.testing.assert_allclose(result["best_score_by_seed"], scores.max(1))
        np.testing.assert_allclose(result["last_score"], scores[:, -1].mean())
        # Two values: the standard error is half their distance, and t at 97.5% with one degree is 12.706.
        interval = 12.706 * abs(scores[0, -1] - scores[1, -1]) / 2
        np.testing.assert_allclose(result["last_score_interval_95"], interval, rtol=1e-4)
    again = offline.main(offline.folder / "sweep", *SWEEP, "--resume")
    assert "has ended already" in again.out
    assert all(f"beta={beta}: last score" in again.out for beta in BETAS)


@pytest.mark.slow
def test_infinity_is_written_as_json_knows_it(offline):
    """Infinity turns the clip, and the cap of the policy's weights, off."""
    save_dir = offline.folder / "infinite"
    first = offline.main(save_dir, f"--config={POINTMAZE}", "--sweep=clip=7,inf", "--config.max_weight=inf")
    run = run_folder(save_dir)
    assert [row["clip"] for row in rows(run / "metrics.csv")] == ["7", "inf"] * 2
    settings = [result["hyperparameters"] for result in strict_json(run / "summary.json")["results"]]
    assert settings == [{"clip": 7.0}, {"clip": "inf"}]
    assert strict_json(run / "config.json")["config"]["max_weight"] == "inf"
    assert "clip=inf: last score" in first.out


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "batch_size", "beta"),
    [
        ((), 1024, 2.0),  # the untuned are 256 and 5
        (("--batch_size=32", "--config.beta=3"), 32, 3.0),
    ],
)
def test_tuned_applies_table_4_but_for_what_is_given(offline, tmp_path, arguments, batch_size, beta):
    data = f"--dataset={offline.folder / 'kitchen.npz'}"
    task = ("--env_name=kitchen-complete-v0", "--eval_episodes=0", "--tuned")
    offline.main(tmp_path, f"--config={KITCHEN}", data, *task, *arguments)
    config = strict_json(run_folder(tmp_path) / "config.json")
    assert (config["batch_size"], config["config"]["beta"]) == (batch_size, beta)
    assert (config["config"]["clip"], config["config"]["v_updates"]) == (7.0, 1)
    assert strict_json(run_folder(tmp_path) / "summary.json")["results"] == []


@pytest.mark.slow
def test_data_without_a_task_are_trained_on_and_not_evaluated(offline, tmp_path):
    """Here two sources are joined: D4RL's layout, of whose rows the last and the time-outs are left out."""
    write_dataset(tmp_path / "more.hdf5", size=80)
    sources = (f"--dataset={offline.folder / 'maze.npz'}", f"--dataset={tmp_path / 'more.hdf5'}")
    outcome = offline.main(tmp_path / "results", f"--config={POINTMAZE}:iql", *sources)
    assert "no evaluation: no --env_name is given" in outcome.out
    assert f"maze-and-1-more: {120 - 3 + 80 - 2} transitions" in outcome.out
    run = run_folder(tmp_path)
    assert run.parent == tmp_path / "results" / "maze-and-1-more" / "iql"
    assert [row["step"] for row in rows(run / "metrics.csv")] == ["2", "4"]
    assert not rows(run / "evaluations.csv")


@pytest.mark.slow
@pytest.mark.parametrize("algorithm", ["value_iteration", "q_iteration"])
def test_variants_for_deterministic_dynamics_train_sweep_and_are_evaluated(offline, tmp_path, algorithm):
    outcome = offline.main(tmp_path, f"--config={POINTMAZE}:{algorithm}", "--sweep=beta=0.3,0.5")
    assert ("left out 3 of 117 transitions" in outcome.out) == (algorithm == "q_iteration")
    folder = run_folder(tmp_path)
    assert {row["beta"] for row in rows(folder / "evaluations.csv")} == {str(beta) for beta in BETAS}
    evaluated = offline.server.run([str(folder), "--episodes=1"], tmp_path, main=EVALUATE)
    assert (evaluated.code, evaluated.err) == (0, "")


@pytest.fixture(scope="module")
def outcomes(place):
    return place.outcomes(MISTAKES)


@pytest.mark.parametrize("name", MISTAKES)
def test_mistake_ends_with_one_line(outcomes, name):
    assert_told(outcomes[name], MISTAKES[name][1:])


@pytest.mark.slow
def test_from_an_environment_of_ones_own_to_a_policy_elsewhere(tmp_path):
    """Data of it are learned from, then the environment itself; the files' policies score as the run's."""
    (tmp_path / "own_maze.py").write_text((ROOT / "tests" / "envs" / "own_maze.py").read_text())
    generator = np.random.default_rng(0)
    np.savez(
        tmp_path / "data.npz",
        observations=np.stack([generator.uniform(-1, 1, 300), np.ones(300)], axis=1).astype(np.float32),
        actions=generator.uniform(-1, 1, (300, 1)).astype(np.float32),
        rewards=generator.normal(size=300).astype(np.float32),
        terminals=np.zeros(300, bool),
        timeouts=np.arange(300) % 30 == 29,
    )
    own = ("--env_name=own_maze:Line-v0", "--random_return=-60", "--expert_return=-5")
    intervals = ("--log_interval=50", "--eval_interval=50", "--checkpoint_interval=50")
    shared = ("--batch_size=8", "--eval_episodes=2", "--notqdm", *intervals)
    seeds = ("--num_seeds=2", "--config.hidden_dims=(8,)", "--max_steps=50")
    offline = run_process([*own, *shared, "--dataset=data.npz", *seeds], tmp_path, main=MAIN)
    assert (offline.code, offline.err) == (0, ""), offline
    (run,) = (path.parent for path in (tmp_path / "results").rglob("summary.json"))
    checkpoint = (f"--checkpoint={run}", "--member=1", "--max_steps=100", "--save_dir=tuned")
    tuned = run_process([*checkpoint, *shared], tmp_path, main=FINETUNE)
    assert (tuned.code, tuned.err) == (0, ""), tuned
    (file,) = (tmp_path / "tuned").rglob("summary.json")
    (entry,) = strict_json(file)["finetuning"]
    assert entry["offline_score_by_seed"] == [
        strict_json(run / "summary.json")["results"][0]["last_score_by_seed"][1]
    ]
    scores = f"{entry['offline_score']:.1f} → {entry['online_score']:.1f}"
    assert f"before → after: {scores}; cumulative" in tuned.out
    exported = run_process([str(file.parent), "--output=policy", "--episodes=3"], tmp_path, main=EXPORT)
    assert (exported.code, exported.err) == (0, ""), exported
    scores = [line.split("score ")[1] for line in exported.out.splitlines() if ": score " in line]
    assert len(scores) == 4
    assert len(set(scores)) == 1  # the run's own, and of the three files
