"""A user's mistakes at the real command line: exit code 2, one clear line, no earlier run touched."""

import dataclasses
import re
from pathlib import Path

import numpy as np
import pytest
from main_runs import ROOT, ForkServer, contents, run_process, write_dataset

SETTINGS = ("--max_steps=4", "--log_interval=2", "--eval_interval=4", "--eval_episodes=1", "--notqdm")


@dataclasses.dataclass(frozen=True)
class Place:
    folder: Path  # datasets and config files
    results: Path  # --save_dir
    run: Path  # of a run that has ended
    arguments: tuple[str, ...]  # what made it
    server: ForkServer

    def command(self, *arguments):
        """The run's own arguments with others added; later flags win, but a config file must come first."""
        first = [argument for argument in arguments if argument.startswith("--config=")]
        last = [argument for argument in arguments if argument not in first]
        return *first, *self.arguments, *last

    def main(self, *arguments):
        return self.server.run(self.command(*arguments), self.folder)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mistakes")
    write_files(folder)
    server = ForkServer(tmp_path_factory.mktemp("streams"))
    results = folder / "results"
    arguments = (
        f"--dataset={folder / 'good.hdf5'}",
        f"--save_dir={results}",
        "--config.hidden_dims=(8,)",
        *SETTINGS,
    )
    outcome = server.run(arguments, folder)
    assert (outcome.code, outcome.err) == (0, "")
    (config,) = results.rglob("config.json")
    assert (config.parent / "checkpoints" / "4").is_dir()
    yield Place(folder, results, config.parent, arguments, server)
    server.close()


def write_files(folder):
    good = write_dataset(folder / "good.hdf5")
    (folder / "truncated.hdf5").write_bytes(good.read_bytes()[: good.stat().st_size // 2])
    (folder / "text.hdf5").write_text("not HDF5 at all\n")
    (folder / "empty.hdf5").touch()
    (folder / "folder.hdf5").mkdir()
    (folder / "data.csv").write_text("1,2\n")
    whole = write_dataset(folder / "good.npz").read_bytes()
    (folder / "truncated.npz").write_bytes(whole[: len(whole) // 2])
    write_dataset(folder / "missing.hdf5", actions=None, rewards=None)
    write_dataset(folder / "missing.npz", rewards=None)
    write_dataset(folder / "lengths.hdf5", rewards=np.zeros(119))
    observations = np.zeros((120, 4), np.float32)
    for name, number in (("nan", np.nan), ("inf", np.inf)):
        observations[77, 2] = number
        write_dataset(folder / f"{name}.hdf5", observations=observations)
    write_dataset(folder / "five.hdf5", observations=np.zeros((120, 5)))
    write_dataset(folder / "three.npz", actions=np.zeros((120, 3)))
    write_dataset(folder / "words.npz", rewards=np.array(["high"] * 120))
    write_dataset(folder / "one.npz", size=1)
    source = (ROOT / "configs" / "pointmaze_config.py").read_text()
    (folder / "syntax_config.py").write_text(replaced(source, r"def get_config\(", "def get_config(("))
    (folder / "raises_config.py").write_text("def get_config(algorithm='xql'):\n    return 1 / 0\n")
    (folder / "typeless_config.py").write_text("def get_config():\n    return {'beta': 1.0}\n")
    (folder / "nothing_config.py").write_text("")
    (folder / "field_config.py").write_text(replaced(source, r'"beta": [\d.]+', '"betta": 0.5'))
    (folder / "value_config.py").write_text(replaced(source, r'"beta": [\d.]+', '"beta": -0.5'))
    (folder / "plain_file").touch()


def replaced(source, pattern, replacement):
    text, count = re.subn(pattern, replacement, source)
    assert count, f"nothing in the config file is like {pattern}: the case would test nothing"
    return text


# By name: what is added to a good command, and what the message must say.
MISTAKES = {
    # data
    "truncated HDF5": ("--dataset=truncated.hdf5", "truncated.hdf5", "not a readable HDF5 file"),
    "text": ("--dataset=text.hdf5", "text.hdf5", "not a readable HDF5 file"),
    "truncated npz": ("--dataset=truncated.npz", "truncated.npz", "not a readable .npz"),
    "missing keys": ("--dataset=missing.hdf5", "missing.hdf5", "actions, rewards", "observations"),
    "missing key of npz": ("--dataset=missing.npz", "missing.npz", "rewards", "observations"),
    "lengths": ("--dataset=lengths.hdf5", "lengths.hdf5", "rewards", "(119,)", "(120, 4)"),
    "NaN": ("--dataset=nan.hdf5", "nan.hdf5", "observations", "nan", "row 77"),
    "infinity": ("--dataset=inf.hdf5", "inf.hdf5", "observations", "inf", "row 77"),
    "observations' size": ("--dataset=five.hdf5", "five.hdf5", "observations", "5", "4", "pointmaze-umaze"),
    "actions' size": ("--dataset=three.npz", "three.npz", "actions", "3", "2", "pointmaze-umaze-v0"),
    "words for numbers": ("--dataset=words.npz", "words.npz", "rewards", "number"),
    "one row": ("--dataset=one.npz", "one.npz", "at least 2 rows"),
    "empty file": ("--dataset=empty.hdf5", "empty.hdf5", "empty"),
    "a directory": ("--dataset=folder.hdf5", "folder.hdf5", "directory"),
    "no such file": ("--dataset=nowhere/a.hdf5", "nowhere/a.hdf5", "no such file"),
    "unknown suffix": ("--dataset=data.csv", "data.csv", "'.csv'", ".hdf5", ".npz"),
    # environments
    "unknown environment": ("--env_name=pointmaze-umaz-v0", "'pointmaze-umaz-v0'", "pointmaze-umaze-v0"),
    "no simulator yet": (
        f"--env_name=hopper-medium-v2 --config={ROOT}/configs/mujoco_config.py",
        "hopper-medium-v2", "--eval_episodes=0", "kitchen",
    ),
    "config for another suite": ("--env_name=kitchen-mixed-v0", "kitchen-mixed-v0", "/kitchen_config.py"),
    "config for another suite, maze2d's": (
        f"--env_name=maze2d-umaze-v1 --config={ROOT}/configs/kitchen_config.py",
        "maze2d-umaze-v1", "configs/pointmaze_config.py",
    ),
    # config
    "unknown field": ("--config.betta=1", "'betta'", "beta"),
    "unknown field like none": ("--config.zzz=1", "'zzz'", "beta", "hidden_dims"),
    "field of another algorithm": ("--config.expectile=0.8", "'expectile'", "beta"),
    "negated unknown field": ("--noconfig.layer_nor", "'layer_nor'", "layer_norm"),
    "the algorithm as a field": ("--config.algorithm=iql", "algorithm", ":ALGORITHM"),
    "the file after a field": ("--config value_config.py", "--config before --config.hidden_dims"),
    "a field without a value": ("--config.beta", "config.beta"),
    "unknown algorithm": (f"--config={ROOT}/configs/pointmaze_config.py:xqll", "'xqll'", "bc, iql, xql"),
    "unknown config file": (f"--config={ROOT}/configs/mojuco_config.py", "mojuco_c", "/mujoco_config.py"),
    "config nowhere": ("--config=nowhere/a.py", "nowhere/a.py", "configs/"),
    "config without a value": ("--config", "--config"),
    "syntax error in the config": ("--config=syntax_config.py", "syntax_config.py", "SyntaxError", "line "),
    "config that raises": ("--config=raises_config.py", "raises_config.py", "ZeroDivisionError"),
    "config of another type": ("--config=typeless_config.py", "typeless_config.py", "dict", "ConfigDict"),
    "config without get_config": ("--config=nothing_config.py", "nothing_config.py", "get_config"),
    "unknown field in the file": ("--config=field_config.py", "'betta'", "xql", "beta"),
    "impossible value in the file": ("--config=value_config.py", "beta", "positive", "-0.5"),
    "beta 0": ("--config.beta=0", "beta", "positive", "0"),
    "beta -1": ("--config.beta=-1", "beta", "positive", "-1"),
    "beta nan": ("--config.beta=nan", "beta", "nan"),
    "beta inf": ("--config.beta=inf", "beta", "inf"),
    "beta abc": ("--config.beta=abc", "config.beta", "abc"),
    "widths": ("--config.hidden_dims=(8,0)", "hidden_dims", "positive whole numbers", "0"),
    "unknown loss": ("--config.loss=gumbel", "loss", "'gumbel'", "rescaled, plain, log"),
    # flags
    "batch size 0": ("--batch_size=0", "batch_size", "0", "positive"),
    "no updates": ("--max_steps=0", "max_steps", "0", "positive"),
    "no seeds": ("--num_seeds=0", "num_seeds", "0", "positive"),
    "no number": ("--num_seeds=many", "num_seeds", "many"),
    "negative seed": ("--seed=-1", "seed", "-1"),
    "unknown flag": ("--num_seed=2", "num_seed", "num_seeds"),
    "stray argument": ("hopper-medium-v2", "'hopper-medium-v2'", "--name=value"),
    "sweep of an unknown field": ("--sweep=betta=1,2", "--sweep", "'betta'", "beta"),
    "sweep of a static field": ("--sweep=hidden_dims=8", "--sweep", "'hidden_dims'", "beta"),
    "sweep of text": ("--sweep=beta=low,high", "--sweep", "'beta=low,high'", "NUMBER"),
    "sweep of nothing": ("--sweep=beta=", "--sweep", "'beta='", "NUMBER"),
    "sweep of an impossible value": ("--sweep=beta=1,0", "beta", "positive", "0"),
    "tuned without values": ("--tuned", "--tuned", "pointmaze-umaze-v0", "none"),
    "existing run": ("", "this run exists", "seed42_", "--resume"),
    "save_dir is a file": ("--save_dir=plain_file", "--save_dir", "plain_file"),
    "save_dir cannot be written": ("--save_dir=/proc/nowhere", "--save_dir", "/proc/nowhere"),
}  # fmt: skip


def assert_told(outcome, words):
    assert outcome.code == 2
    assert "Traceback" not in outcome.out + outcome.err
    lines = outcome.err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("error: ")
    assert len(lines[0]) < 700
    for word in words:
        assert word in lines[0]


@pytest.mark.parametrize("name", MISTAKES)
def test_mistake_ends_with_one_line(place, name):
    added, *words = MISTAKES[name]
    before = contents(place.folder)
    assert_told(place.main(*added.split()), words)
    assert contents(place.folder) == before  # the earlier run, its checkpoints, and nothing new


@pytest.mark.parametrize(
    "name",
    [
        "unknown field",
        "unknown config file",
        "NaN",
        "unknown environment",
        "beta abc",
        "stray argument",
        "existing run",
    ],
)
def test_mistake_in_a_process_of_its_own(place, name):
    added, *words = MISTAKES[name]
    before = contents(place.results)
    assert_told(run_process(place.command(*added.split()), place.folder), words)
    assert contents(place.results) == before


def test_a_bad_setting_does_not_spoil_a_resumption(place):
    before = contents(place.run)
    assert_told(place.main("--resume", "--dataset=nan.hdf5"), ["nan.hdf5"])
    assert_told(place.main("--resume", "--config.beta=0"), ["beta"])
    assert contents(place.run) == before
    outcome = place.main("--resume")  # the run has ended: its results are told again, and not a byte changes
    assert (outcome.code, outcome.err) == (0, "")
    assert "last score" in outcome.out
    assert str(place.run) in outcome.out
    assert contents(place.run) == before


def test_another_seed_is_another_run(place):
    before = contents(place.run)
    outcome = place.main("--seed=43", "--eval_episodes=0")
    assert (outcome.code, outcome.err) == (0, "")
    assert {path.name.split("_")[0] for path in place.run.parent.iterdir()} == {"seed42", "seed43"}
    assert contents(place.run) == before


def test_help_is_no_mistake(place):
    outcome = place.main("--help")
    assert "--sweep" in outcome.out
    assert "Traceback" not in outcome.out + outcome.err
