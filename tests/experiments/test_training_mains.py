"""What trainings on data leave, by the real mains: files, rows, pictures; and what --print_config prints."""

import re

import numpy as np
import pytest
from main_runs import (
    EXPORT,
    FINETUNE,
    ONLINE,
    ROOT,
    assert_every_documented_file,
    contents,
    rows,
    run_folder,
    strict_json,
    succeed,
    write_dataset,
)
from slow_cases import slow_but

from xql_jax.settings import as_typed

SETTINGS = (
    "--config.hidden_dims=(8,)", "--max_steps=4", "--log_interval=2", "--eval_interval=2",
    "--checkpoint_interval=2", "--eval_episodes=1", "--notqdm",
)  # fmt: skip
MAZE = ("--env_name=pointmaze-umaze-v0", "--dataset=maze.npz")
POINTMAZE = ROOT / "configs" / "pointmaze_config.py"
BETAS, SEEDS = (0.3, 0.5), (42, 43)
SWEEP = (f"--config={POINTMAZE}", "--sweep=beta=0.3,0.5", "--num_seeds=2", *MAZE)
LINE = re.compile(r"--([\w.]+)=(.*?) \((.*?(?:\(.*?\))?.*?)\): (.*)")  # of --print_config
slow = pytest.mark.slow


@pytest.fixture
def folder(tmp_path):
    write_dataset(tmp_path / "maze.npz")
    return tmp_path


def train(folder, *arguments, **options):
    """A good run, or what --print_config prints of it."""
    return succeed([*SETTINGS, *arguments], folder, **options)


@pytest.mark.parametrize("algorithm", slow_but(["iql", "bc", "q_iteration"], "bc"))
def test_an_offline_run_leaves_every_documented_file(folder, algorithm):
    out = train(folder, f"--config={POINTMAZE}:{algorithm}", *MAZE)
    run = run_folder(folder)
    assert run.parent == folder / "results" / "pointmaze-umaze-v0" / algorithm
    assert run.name.startswith("seed42_")
    assert_every_documented_file(run, 1, "maze.png", "preprocessing.json")
    summary = strict_json(run / "summary.json")
    assert (summary["status"], summary["algorithm"], summary["step"]) == ("finished", algorithm, 4)
    assert ("left out 3 of 117 transitions" in out) == (algorithm == "q_iteration")


@slow
def test_a_sweep_trains_every_beta_with_every_seed_and_is_summed_up_by_setting(folder):
    train(folder, *SWEEP)
    sweep = run_folder(folder)
    assert_every_documented_file(sweep, 4, "maze.png", "preprocessing.json")
    members = [(beta, seed) for beta in BETAS for seed in SEEDS]
    for name in ("metrics.csv", "evaluations.csv"):
        found = [(row["step"], float(row["beta"]), int(row["seed"])) for row in rows(sweep / name)]
        assert found == [(step, *member) for step in ("2", "4") for member in members]
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
    assert "has ended already" in train(folder, *SWEEP, "--resume")


@slow
def test_data_without_a_task_are_trained_on_and_not_evaluated(folder):
    """Here two sources are joined: D4RL's layout, of whose rows the last and the time-outs are left out."""
    write_dataset(folder / "more.hdf5", size=80)
    out = train(folder, f"--config={POINTMAZE}:iql", "--dataset=maze.npz", "--dataset=more.hdf5")
    assert f"{120 - 3 + 80 - 2} transitions" in out
    run = run_folder(folder)
    assert [row["step"] for row in rows(run / "metrics.csv")] == ["2", "4"]
    assert not rows(run / "evaluations.csv")


@slow
def test_from_an_environment_of_ones_own_to_a_policy_elsewhere(tmp_path):
    """Data of it are learned from, then the environment itself; the files' policies score as the run's."""
    (tmp_path / "own_maze.py").write_text((ROOT / "tests" / "envs" / "own_maze.py").read_text())
    generator = np.random.default_rng(0)
    observations = np.stack([generator.uniform(-1, 1, 300), np.ones(300)], axis=1)
    actions, rewards = generator.uniform(-1, 1, (300, 1)), generator.normal(size=300)
    write_dataset(tmp_path / "data.npz", 300, observations=observations, actions=actions, rewards=rewards)
    shared = ("--batch_size=8", "--eval_interval=50", "--checkpoint_interval=50", "--log_interval=50")
    own = ("--env_name=own_maze:Line-v0", "--random_return=-60", "--expert_return=-5", "--dataset=data.npz")
    train(tmp_path, *own, *shared, "--method=iql", "--num_seeds=2", "--max_steps=50")
    run = run_folder(tmp_path)
    arguments = (f"--checkpoint={run}", "--member=1", "--save_dir=tuned", *shared, "--max_steps=100")
    tuned = succeed([*arguments, "--eval_episodes=1", "--notqdm"], tmp_path, FINETUNE)
    finetuned = run_folder(tmp_path / "tuned")
    (entry,) = strict_json(finetuned / "summary.json")["finetuning"]
    (result,) = strict_json(run / "summary.json")["results"]
    assert entry["offline_score_by_seed"] == [result["last_score_by_seed"][1]]
    assert f"before → after: {entry['offline_score']:.1f} → {entry['online_score']:.1f}; cumul" in tuned
    exported = succeed([finetuned, "--output=policy", "--episodes=3"], tmp_path, EXPORT)
    scores = [line.split("score ")[1] for line in exported.splitlines() if ": score " in line]
    assert len(scores) == 4
    assert len(set(scores)) == 1  # the run's own, and of the three files


def printed(folder, *arguments, **options):
    """By name, the value as text, where it is from and what it means, by --print_config."""
    outcome = succeed([*arguments, "--print_config"], folder, **options)
    lines = outcome.splitlines()[1:]
    return {match[1]: match.groups()[1:] for match in map(LINE.fullmatch, lines) if match}


@slow
def test_the_settings_that_are_printed_are_those_of_the_run(folder):
    arguments = (*SETTINGS, *MAZE, "--config.beta=0.3", "--sweep=tau=0.1,0.2", "--num_seeds=2")
    before = contents(folder)
    found = printed(folder, *arguments)
    assert contents(folder) == before
    train(folder, *arguments)
    written = strict_json(run_folder(folder) / "config.json")
    config = {name: value for name, value in written["config"].items() if name != "algorithm"}
    assert config.keys() <= found.keys()
    for name, value in config.items():
        text = found[name][0]
        if isinstance(value, float):
            assert float(text) == pytest.approx(value)
        else:
            assert text == as_typed(value), name
    for name in ("sweep", "max_steps", "batch_size", "eval_episodes", "env_backend", "dataset"):
        assert found[name][0] == as_typed(written[name]), name
    origins = {name: origin for name, (_, origin, _) in found.items()}
    assert origins["beta"] == origins["sweep"] == origins["value_hidden_dims"] == "flag"
    assert origins["awr_temperature"] == "config file"
    assert origins["loss"] == origins["keep_checkpoints"] == "default"
    assert all(meaning for _, _, meaning in found.values())


def test_the_suite_s_file_is_chosen_and_table_4_and_the_method_are_named(tmp_path):
    found = printed(tmp_path, "--env_name=antmaze-umaze-diverse-v0", "--tuned")
    assert found["config"][0].endswith("configs/antmaze_config.py")
    # Table 4, in parentheses.
    assert found["beta"][:2] == ("2", "Table 4 (--tuned)")
    given = printed(tmp_path, "--env_name=antmaze-umaze-diverse-v0", "--tuned", "--config.beta=3")
    assert (given["beta"][:2], given["v_updates"][1]) == (("3", "flag"), "Table 4 (--tuned)")
    online = printed(tmp_path, "--env_name=walker-run", "--config.network=small", main=ONLINE)
    assert online["warmup_steps"][:2] == ("1000", "method")
    assert online["beta"][1] == "config file"
    assert not any(tmp_path.iterdir())
