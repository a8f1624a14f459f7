"""Mistakes in flags at the real command lines: exit code 2, one clear line, no earlier run touched."""

import os
import re
import subprocess
import sys

import pytest
from main_runs import ROOT, Run, contents, run_process
from mistakes import BY_CHILD, MAINS, assert_told

# By name: what is added to a good command, and what the message must say.
MISTAKES = {
    # all mains' parsing
    "unknown flag": ("train --num_seed=2", "num_seed", "num_seeds"),
    "unknown flag like none": ("inspect --qwertz=2", "qwertz"),
    "a flag of another main": ("inspect --resume", "resume"),
    "stray argument": ("train hopper-medium-v2", "'hopper-medium-v2'", "--name=value"),
    "stray argument beside a run": ("evaluate {run} extra", "'extra'", "--name=value"),
    "stray argument beside data": ("inspect --dataset=good.hdf5 extra", "'extra'"),
    "a value taken for a flag": ("train --seed --tuned", "--seed=--tuned", "is its value missing"),
    "no such flagfile": ("train --flagfile=nowhere", "nowhere", "No such file"),
    "not UTF-8": ("train --dataset=\udcff.npz", "UTF-8", "npz"),
    "run that is not UTF-8": ("evaluate \udcff", "UTF-8"),
    # environments
    "unknown environment": (
        "train --env_name=pointmaze-umaz-v0", "'pointmaze-umaz-v0'", "pointmaze-umaze-v0"
    ),
    "unknown environment to inspect": ("inspect --env_name=hoper-medium-v2", "hopper-medium-v2"),
    "unknown environment to evaluate": ("evaluate {run} --env_name=pen-v7", "'pen-v7'", "pen-"),
    "no simulator": (
        "train --env_name=bullet-hopper-medium-v0 --config={configs}/mujoco_config.py",
        "bullet-hopper-medium-v0", "--eval_episodes=0", "--env_backend=d4rl", "kitchen",
    ),
    "D4RL's environment without mujoco-py": (
        "train --env_name=hopper-medium-v2 --config={configs}/mujoco_config.py --env_backend=d4rl",
        "mujoco-py", "--env_backend=d4rl",
    ),
    "D4RL's environment of another task": ("train --env_backend=d4rl", "pointmaze-umaze-v0", "D4RL's"),
    "legacy inertia of a maze": ("train --legacy_inertia", "--legacy_inertia", "pointmaze", "locomotion"),
    "legacy inertia of the kitchen": (
        "train --env_name=kitchen-mixed-v0 --config={configs}/kitchen_config.py --legacy_inertia",
        "--legacy_inertia", "kitchen", "locomotion, antmaze",
    ),
    "legacy inertia beside D4RL's environments": (
        "evaluate --random_policy --env_name=hopper-medium-v2 --env_backend=d4rl --legacy_inertia",
        "--legacy_inertia", "--env_backend=mujoco",
    ),
    # train_offline
    "sweep of an unknown field": ("train --sweep=betta=1,2", "--sweep", "'betta'", "beta"),
    "sweep of a static field": ("train --sweep=hidden_dims=8", "--sweep", "'hidden_dims'", "beta"),
    "sweep of text": ("train --sweep=beta=low,high", "--sweep", "'beta=low,high'", "NUMBER"),
    "sweep of nothing": ("train --sweep=beta=", "--sweep", "'beta='", "NUMBER"),
    "sweep without values": ("train --sweep=beta", "--sweep", "'beta='", "NUMBER"),
    "sweep of one value twice": ("train --sweep=beta=1,1.0", "--sweep", "same value", "beta"),
    "sweep of one field twice": ("train --sweep=beta=1;beta=2", "--sweep", "beta twice"),
    "sweep of a field that is given": ("train --sweep=beta=1,2 --config.beta=3", "--config.beta", "--sweep"),
    "references without a task": (
        "bare --dataset=good.hdf5 --random_return=0 --expert_return=1", "--random_return", "--env_name",
    ),
    "an evaluation at the start without a task": (
        "bare --dataset=good.hdf5 --eval_at_start", "--eval_at_start", "--env_name",
    ),
    "sweep of an impossible value": ("train --sweep=beta=1,0", "beta", "positive", "0"),
    "sweep of NaN": ("train --sweep=tau=nan", "tau", "nan"),
    "tuned without values": ("train --tuned", "--tuned", "pointmaze-umaze-v0", "none"),
    "tuned without a task": ("bare --tuned --dataset=good.hdf5", "--tuned", "--env_name"),
    "address beside data": ("train --dataset_url=http://127.0.0.1/a", "--dataset_url", "--dataset"),
    "address for data made here": (
        "inspect --env_name=pointmaze-umaze-v0 --dataset_url=http://127.0.0.1/a", "--dataset_url", "generated"
    ),
    "existing run": ("train", "this run exists", "seed42_", "--resume"),
    "save_dir is a file": ("train --save_dir=good.hdf5", "--save_dir", "good.hdf5"),
    "save_dir cannot be written": ("train --save_dir=/proc/nowhere", "--save_dir", "/proc/nowhere"),
    "save_dir's name is too long": ("train --save_dir={long}", "--save_dir", "too long"),
    "nothing to extend": ("train --extend --max_steps=5", "--extend", "falls to 0 at update 4"),
    "nothing like it to extend": ("train --extend --seed=77", "--extend", "otherwise these settings"),
    "extended from two": ("train --extend --checkpoint={run}", "--extend", "--checkpoint"),
    "an online task offline": ("bare --env_name=Hopper-v5", "Hopper-v5", "train_online.py", "--dataset"),
    # runs
    "no runs to list": ("runs", "runs.py results"),
    "no folder to list": ("runs nowhere", "nowhere", "no such folder"),
    "no runs in the folder": ("runs {run}/checkpoints", "no such runs"),
    "filter by nothing known": ("runs {run} --filter=betta=1", "--filter", "'betta'", "beta"),
    "filter that is none": ("runs {run} --filter=xql", "--filter", "NAME=VALUE"),
    "unknown order": ("runs {run} --sort=size", "--sort=size", "task, score, when, name"),
    # evaluate
    "a folder of runs": ("evaluate results", "config.json", "runs below it", "seed42"),
    "no run to choose from": ("choose", "run's folder"),
    "no such run to choose from": ("choose nowhere", "nowhere", "not the folder of a run"),
    "no such step to choose at": ("choose {run}/checkpoints/3", "no checkpoint 3", "there are: 4"),
    "no such data to choose by": ("choose {run} --dataset=nowhere.npz", "nowhere.npz", "no such file"),
    "widths of text": ("choose {run} --hidden_dims=256,many", "--hidden_dims=256,many", "whole numbers"),
    "a rate of 0 to choose by": ("choose {run} --critic_lr=0", "--critic_lr must be positive"),
    "a discount beyond 1": ("choose {run} --discount=1.5", "--discount must be within [0, 1]"),
    "a choice's suffix": ("choose {run} --output=choice.txt", "--output=choice.txt", ".csv, .json"),
    "a choice in place of a run's file": (
        "choose {run} --output={run}/evaluations.csv", "--output", "that is of the run"
    ),
    "neither run nor random policy": ("evaluate", "run's folder", "--random_policy"),
    "run and random policy": ("evaluate {run} --random_policy", "--random_policy", "leave out"),
    "random policy without a task": ("evaluate --random_policy", "--random_policy", "--env_name"),
    "member of the random policy": (
        "evaluate --random_policy --env_name=pointmaze-umaze-v0 --member=0", "--member", "--random_policy"
    ),
    "member that is not there": ("evaluate {run} --member=1", "--member=1", "0 to 0"),
    "video's suffix": ("evaluate {run} --video=a.avi", "--video=a.avi", "'.avi'", ".mp4, .gif"),
    "video without a suffix": ("evaluate {run} --video=film", "--video=film", ".mp4, .gif"),
    "video in a file": ("evaluate {run} --video=good.hdf5/a.mp4", "--video", "not a directory"),
    "video's name is too long": ("evaluate {run} --video={long}.mp4", "--video", "too long"),
    "video's size": ("evaluate {run} --video=a.mp4 --video_size=640", "--video_size=640", "such as 320x240"),
    "size of no video": ("evaluate {run} --video_size=320x240", "--video_size: only used for a video"),
    "rate of no video": ("evaluate {run} --video_fps=10", "--video_fps: only used for a video"),
    "episodes of no video": ("evaluate {run} --video_episodes=2", "--video_episodes: only used for a video"),
    "video is a directory": ("evaluate {run} --video=folder.mp4", "--video=folder.mp4", "a directory"),
    "output is a directory": ("evaluate {run} --output=results", "--output=results", "a directory"),
    "output in a file": ("evaluate {run} --output=good.hdf5/a.json", "--output", "not a directory"),
    "output is a device": ("evaluate {run} --output=/dev/null", "--output=/dev/null", "a device"),
    "output's name is too long": ("evaluate {run} --output={long}", "--output", "too long"),
    "output cannot be written": ("evaluate {run} --output=/proc/nowhere/a.json", "/proc/nowhere"),
    "output over the run's config": (
        "evaluate {run} --output={run}/config.json", "config.json: that is of the run in ", "another name"
    ),
    "output over a checkpoint": ("evaluate {run} --output={run}/checkpoints/4/a", "that is of the run in "),
    "video over the run's picture": (
        "evaluate {run} --video={run}/replay/0/a.mp4", "that is of the run in ", "another name"
    ),
    "video and output are one": (
        "evaluate {run} --output=a.mp4 --video=./a.mp4", "--video and --output are the same file, a.mp4"
    ),
    # inspect_dataset
    "nothing to inspect": ("inspect", "name a D4RL task or give a dataset file"),
    "plot's suffix": ("inspect --dataset=good.hdf5 --plot=a.jpg", "--plot=a.jpg", "'.jpg'", ".png, .pdf"),
    "numbers over the data": (
        "inspect --dataset=good.hdf5 --json=results/../good.hdf5", "that is an input, good.hdf5"
    ),
    "numbers over the task's own data": (
        "inspect --env_name=pointmaze-umaze-v0 --json=cache/pointmaze-umaze-v0.hdf5", "that is an input"
    ),
    "plot and numbers are one": (
        "inspect --dataset=good.hdf5 --plot=a.png --json=./a.png", "--plot and --json are the same file"
    ),
    "plot in a file": ("inspect --dataset=good.hdf5 --plot=good.hdf5/a.png", "--plot", "not a directory"),
    "plot is a directory": ("inspect --dataset=good.hdf5 --plot=folder.png", "--plot", "a directory"),
    "plot cannot be written": ("inspect --dataset=good.hdf5 --plot=/proc/a.png", "/proc/a.png"),
    "numbers in a directory's place": ("inspect --dataset=good.hdf5 --json=results", "--json", "a directory"),
    "numbers in a device": ("inspect --dataset=good.hdf5 --json=/dev/full", "--json", "a device"),
    "numbers cannot be written": ("inspect --dataset=good.hdf5 --json=/proc/a", "/proc/a"),
}  # fmt: skip


@pytest.fixture(scope="module")
def outcomes(place):
    for name in ("folder.mp4", "folder.png"):
        (place.folder / name).mkdir(exist_ok=True)
    return place.outcomes(MISTAKES)


@pytest.mark.parametrize("name", MISTAKES)
def test_mistake_ends_with_one_line(outcomes, name):
    assert_told(outcomes[name], MISTAKES[name][1:])


def wrong_uses(name, flag):
    """What its definition makes wrong: (sort of mistake, arguments, words of the message)."""
    yield "misspelt", [f"--{name}x=1"], [f"{name}x"]
    if flag["type"] == "bool":
        yield "neither true nor false", [f"--{name}=maybe"], [f"--{name}=maybe", "true or false"]
        yield "a negated flag with a value", [f"--no{name}=maybe"], [name]
        return
    yield "no value", [f"--{name}"], [name]
    if flag["type"] in ("int", "float"):
        kind = "number"
        for sort, value in (("text", "many"), ("nothing", ""), ("two numbers", "1,2"), ("NaN", "nan")):
            yield f"{sort} for a number", [f"--{name}={value}"], [f"--{name}={value}", kind]
        yield "an infinity", [f"--{name}=inf"], [f"--{name}=inf", kind]
    if flag["type"] == "int":
        yield "a fraction for a whole number", [f"--{name}=1.5"], [f"--{name}=1.5", "whole number"]
    for bound, step in (("lower_bound", -1), ("upper_bound", 1)):
        if flag[bound] is not None:
            value = flag[bound] + step
            yield (
                f"beyond the {bound}",
                [f"--{name}={value}"],
                [f"--{name}={value}", f"{flag[bound]:,}".removesuffix(".0")],
            )
    if flag["choices"]:
        yield "another choice", [f"--{name}=moon"], [f"--{name}=moon", ", ".join(flag["choices"])]
    if "string" in flag["type"] and flag["default"] != "":
        yield "empty text", [f"--{name}="], [f"--{name}"]


def test_alone_they_end_alike(place, outcomes):
    place.assert_same_alone(MISTAKES, outcomes)


@pytest.mark.parametrize(
    "main", ["train", "online", "evaluate", "inspect", "figures", "collect", "choose", "report"]
)
def test_wrong_uses_of_every_flag(place, main):
    """Generated from what absl knows of the flags: a new flag is covered without a line here."""
    flags = place.server.flags(MAINS[main])
    assert len(flags) >= 2
    uses = [
        (arguments, words)
        for name, flag in flags.items()
        if name != "config"  # test_mistakes_configs.py
        for _, arguments, words in wrong_uses(name, flag)
    ]
    assert len(uses) >= 3 * len(flags)
    before = contents(place.folder)
    runs = [Run(arguments, MAINS[main], place.folder) for arguments, _ in uses]
    outcomes = place.server.run_all(runs, BY_CHILD)
    for (_, words), outcome in zip(uses, outcomes, strict=True):
        assert_told(outcome, words)
    assert contents(place.folder) == before


@pytest.mark.parametrize(
    "main", ["train", "online", "evaluate", "inspect", "figures", "collect", "choose", "report"]
)
def test_whole_numbers_have_bounds(place, main):
    for name, flag in place.server.flags(MAINS[main]).items():
        if flag["type"] == "int":
            assert flag["lower_bound"] is not None, name
            assert flag["upper_bound"] is not None or name == "member", name  # the run itself bounds it


@pytest.mark.slow
def test_mistake_in_a_process_of_its_own(place):
    command, *words = MISTAKES["output is a directory"]
    run = place.run_of(command)
    before = contents(place.folder)
    assert_told(run_process(run.arguments, place.folder, main=run.main), words)
    assert contents(place.folder) == before


@pytest.mark.parametrize(
    ("main", "known"),
    [
        ("train", ["env_name", "seed", "tqdm", "resume", "legacy_inertia", "env_backend", "config", "data_on",
                   "sweep", "normalize_observations", "top_returns", "checkpoint"]),
        ("online", ["env_name", "seed", "tqdm", "resume", "config", "sweep", "max_policy_lag"]),
        ("evaluate", ["env_name", "seed", "legacy_inertia", "env_backend", "video"]),
        ("choose", ["dataset", "max_steps", "hidden_dims", "discount", "output", "tqdm"]),
        ("inspect", ["env_name", "dataset", "plot"]),
        ("collect", ["env_name", "policy", "replay", "recipe", "seed", "legacy_inertia", "tqdm"]),
        ("figures", ["figure", "runs", "out", "seed"]),
        ("report", ["out", "bootstrap_samples"]),
    ],
)  # fmt: skip
def test_help_is_no_mistake_and_lists_flags_wherever_they_are_defined(place, main, known):
    outcome = place.server.run(["--help"], place.folder, main=MAINS[main])
    assert (outcome.code, outcome.err) == (0, "")
    listed = re.findall(r"^  --(?:\[no\])?(\w+):", outcome.out, re.MULTILINE)
    assert set(known) <= set(listed)


def test_no_arguments_at_all_are_no_mistake(place):
    """What they ask for takes minutes; a fault of the data that they ask for is told right away."""
    outcome = place.server.run([], place.folder, D4RL_DATASET_DIR="/proc/nowhere")
    assert_told(outcome, ["/proc/nowhere/pointmaze-umaze-v0.hdf5"])


@pytest.mark.slow
def test_a_reader_who_has_had_enough():
    command = f"{sys.executable} {MAINS['train']} --help | head -2; exit ${{PIPESTATUS[0]}}"
    ran = subprocess.run(
        ["bash", "-c", command], env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True
    )
    assert ran.stderr == ""
    assert ran.returncode in (0, 141)  # 0: the help fits into the pipe


@pytest.mark.slow
def test_output_that_cannot_be_written(place):
    command = f"exec {sys.executable} {MAINS['inspect']} --dataset=good.hdf5 > /dev/full"
    ran = subprocess.run(
        ["bash", "-c", command], cwd=place.folder, env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True, text=True,
    )  # fmt: skip
    assert (ran.returncode, ran.stderr) == (2, "error: cannot write the output: No space left on device\n")


@pytest.mark.slow
def test_another_seed_is_another_run(place):
    before = contents(place.run)
    outcome = place.main("--seed=43", "--eval_episodes=0")
    assert (outcome.code, outcome.err) == (0, "")
    assert {path.name.split("_")[0] for path in place.run.parent.iterdir()} == {"seed42", "seed43"}
    assert contents(place.run) == before
