"""Streams that are closed, full or left by their reader: the work is done, or one line says why not."""

import os
import subprocess
import sys

import pytest
from main_runs import EVALUATE, FIGURES, MAIN, ONLINE, contents, environment_of_processes
from mistakes import ONLINE_ARGUMENTS, TD3

CLOSED = [">&-", "2>&-", "<&-", ">&- 2>&-", "<&- >&- 2>&-"]


def shell(command, cwd, timeout=120):
    """The outcome of a command with redirections."""
    return subprocess.run(
        ["bash", "-c", command], cwd=cwd, env=environment_of_processes(), capture_output=True, text=True,
        timeout=timeout,
    )  # fmt: skip


@pytest.mark.parametrize("how", CLOSED)
def test_closed_ones_are_opened_so_that_no_file_is_taken_for_them(how, tmp_path):
    code = (
        "import sys, xql_jax.commands, os\n"
        "file = open('a', 'w')\n"
        "assert file.fileno() > 2\n"
        "print('out'); print('err', file=sys.stderr); assert sys.stdin.read() == ''\n"
        "os.system('echo child; echo child >&2')\n"  # which has them, too
        "file.write('whole')"
    )
    ended = shell(f'exec {sys.executable} -c "{code}" {how}', tmp_path)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.splitlines() == ([] if ">&-" in how.replace("2>&-", "") else ["out", "child"])[:2]
    assert ended.stderr.splitlines() == ([] if "2>&-" in how else ["err", "child"])
    assert (tmp_path / "a").read_text() == "whole"


COMMANDS = {
    "train": [MAIN, "--config.hidden_dims=(8,)", "--max_steps=4", "--eval_episodes=0", "--notqdm"],
    "online": [ONLINE, TD3, *ONLINE_ARGUMENTS, "--processes", "--num_environments=2"],
    "evaluate": [EVALUATE, "--random_policy", "--env_name=pointmaze-umaze-v0", "--episodes=1", "--output=a"],
    "figures": [FIGURES, "--figure=2"],
}


def command(main):
    return " ".join(f"'{word}'" for word in (sys.executable, *COMMANDS[main]))


@pytest.mark.slow
@pytest.mark.parametrize("main", COMMANDS)
@pytest.mark.parametrize("how", [">&-", "2>&-", "<&- >&- 2>&-"])
def test_with_closed_streams_the_work_is_done(main, how, tmp_path):
    ended = shell(f"exec {command(main)} {how}", tmp_path)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert (ended.stdout == "") == (how != "2>&-")
    assert contents(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("main", COMMANDS)
@pytest.mark.parametrize(
    ("where", "why"), [(">/dev/full", "No space left on device"), ("1</dev/null", "Bad file descriptor")]
)
def test_output_that_cannot_be_written_is_told_before_the_work(main, where, why, tmp_path):
    ended = shell(f"exec {command(main)} {where}", tmp_path)
    assert (ended.returncode, ended.stderr) == (2, f"error: cannot write the output: {why}\n")
    assert not [name for name, content in contents(tmp_path).items() if content is not None]


@pytest.mark.slow
def test_errors_that_cannot_be_written_are_exit_codes_at_least(tmp_path):
    assert shell(f"exec {sys.executable} {EVALUATE} 2>/dev/full", tmp_path).returncode == 2


@pytest.mark.slow
def test_a_reader_who_goes_leaves_a_training_whole(tmp_path):
    arguments = (
        "--max_steps=2000 --log_interval=10 --eval_interval=10 --checkpoint_interval=100 --eval_episodes=1"
    )
    ended = shell(f"{command('train')} {arguments} | head -6; exit ${{PIPESTATUS[0]}}", tmp_path)
    assert (ended.returncode, ended.stderr) == (141, "")
    resumed = shell(f"{command('train')} {arguments} --resume", tmp_path)
    assert (resumed.returncode, resumed.stderr) == (0, "")
    assert (
        "damaged" not in resumed.stdout
    )  # it may have had no checkpoint yet: then it begins anew, and says so
    assert os.listdir(tmp_path) == ["results"]
