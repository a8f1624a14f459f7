"""What trainings on data leave, by the real mains: files, rows, pictures; and what --print_config prints."""

import re

import pytest
from driver import (
    ONLINE,
    ROOT,
    assert_every_documented_file,
    contents,
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
    assert_every_documented_file(run, 1, "preprocessing.json")
    summary = strict_json(run / "summary.json")
    assert (summary["status"], summary["algorithm"], summary["step"]) == ("finished", algorithm, 4)
    assert ("left out 3 of 117 transitions" in out) == (algorithm == "q_iteration")


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
    for name in ("sweep", "max_steps", "batch_size", "eval_episodes", "dataset"):
        assert found[name][0] == as_typed(written[name]), name
    origins = {name: origin for name, (_, origin, _) in found.items()}
    assert origins["beta"] == origins["sweep"] == origins["value_hidden_dims"] == "flag"
    assert origins["awr_temperature"] == "suite"
    assert origins["loss"] == origins["keep_checkpoints"] == "default"
    assert all(meaning for _, _, meaning in found.values())


def test_the_suite_s_file_is_chosen_and_table_4_and_the_method_are_named(tmp_path):
    found = printed(tmp_path, "--env_name=antmaze-umaze-diverse-v0", "--tuned")
    # Table 4, in parentheses.
    assert found["beta"][:2] == ("2", "Table 4 (--tuned)")
    given = printed(tmp_path, "--env_name=antmaze-umaze-diverse-v0", "--tuned", "--config.beta=3")
    assert (given["beta"][:2], given["batch_size"][1]) == (("3", "flag"), "Table 4 (--tuned)")
    online = printed(tmp_path, "--env_name=walker-run", "--config.network=small", main=ONLINE)
    assert online["warmup_steps"][:2] == ("1000", "method")
    assert online["beta"][1] == "suite"
    assert not any(tmp_path.iterdir())
