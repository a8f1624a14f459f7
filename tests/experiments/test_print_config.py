"""`--print_config` against what a run with the same command line writes to config.json."""

import json
import re

import pytest
from main_runs import FINETUNE, MAIN, ONLINE, contents, write_dataset

LINE = re.compile(r"--([\w.]+)=(.*?) \((.*?(?:\(.*?\))?.*?)\): (.*)")
ARGUMENTS = (
    "--env_name=pointmaze-umaze-v0", "--dataset=maze.npz", "--config.hidden_dims=(8,)",
    "--config.beta=0.3", "--sweep=tau=0.1,0.2", "--num_seeds=2", "--max_steps=4", "--log_interval=2",
    "--eval_interval=2", "--eval_episodes=1", "--notqdm", "--save_dir=runs",
)  # fmt: skip


def settings(outcome):
    """By name, the value as text, where it is from and what it means."""
    assert (outcome.code, outcome.err) == (0, "")
    lines = outcome.out.splitlines()[1:]
    return {match[1]: match.groups()[1:] for match in map(LINE.fullmatch, lines) if match}


def typed(value):
    if isinstance(value, list):
        return ",".join(map(str, value))
    return str(value).lower() if isinstance(value, bool) else "" if value is None else str(value)


@pytest.mark.slow
def test_the_settings_are_those_of_the_run(server, tmp_path):
    write_dataset(tmp_path / "maze.npz")
    before = contents(tmp_path)
    found = settings(server.run([*ARGUMENTS, "--print_config"], tmp_path))
    assert contents(tmp_path) == before
    assert server.run(ARGUMENTS, tmp_path).code == 0
    (file,) = tmp_path.rglob("config.json")
    written = json.loads(file.read_text())
    config = {name: value for name, value in written["config"].items() if name != "algorithm"}
    assert {name for name in found if name.startswith("config.")} == {f"config.{name}" for name in config}
    numbers = {name: value for name, value in config.items() if isinstance(value, float)}
    for name, value in config.items():
        text = found[f"config.{name}"][0]
        assert float(text) == pytest.approx(value) if name in numbers else text == typed(value), name
    for name in ("sweep", "max_steps", "batch_size", "eval_episodes", "env_backend", "dataset"):
        assert found[name][0] == typed(written[name]), name
    origins = {name: origin for name, (_, origin, _) in found.items()}
    assert origins["config.beta"] == origins["sweep"] == "flag"
    assert origins["config.value_hidden_dims"] == "flag config.hidden_dims"
    assert origins["config.awr_temperature"] == "config file"
    assert origins["config.loss"] == origins["keep_checkpoints"] == "default"
    assert all(meaning for _, _, meaning in found.values())


def test_the_suite_s_file_is_chosen_and_table_4_and_the_method_are_named(server, tmp_path):
    tuned = server.run(["--env_name=antmaze-umaze-diverse-v0", "--tuned", "--print_config"], tmp_path)
    found = settings(tuned)
    assert found["config"][0].endswith("configs/antmaze_config.py")
    # Table 4, in parentheses: beta 2, batches of 1024.
    assert found["config.beta"][:2] == ("2", "Table 4 (--tuned)")
    assert found["batch_size"][:2] == ("1024", "Table 4 (--tuned)")
    own = settings(server.run(["--dataset=nowhere.npz", "--print_config"], tmp_path))
    assert own["config"][0].endswith("configs/own_config.py")
    assert own["config.beta"][:2] == ("2", "default")
    kitchen = "--config=" + str(MAIN.parents[1] / "configs" / "kitchen_config.py:onestep")
    onestep = settings(server.run([kitchen, "--env_name=kitchen-mixed-v0", "--print_config"], tmp_path))
    assert onestep["batch_size"][:2] == ("512", "default of the method")
    assert not any(tmp_path.iterdir())


def test_the_other_mains_print_theirs(server, tmp_path):
    small = ["--env_name=walker-run", "--config.network=small", "--print_config"]
    online = settings(server.run(small, tmp_path, ONLINE))
    assert online["config.warmup_steps"][:2] == ("1000", "default")
    assert online["config.beta"][1] == "config file"
    finetuned = settings(server.run(["--num_pretraining_steps=7", "--print_config"], tmp_path, FINETUNE))
    assert finetuned["num_pretraining_steps"][:2] == ("7", "flag")
    assert finetuned["offline_fraction"][:2] == ("", "default of the method")
    assert not any(tmp_path.iterdir())
