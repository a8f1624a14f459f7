"""Ctrl-C at any moment: quiet, soon, and with an exit code that says so."""

import random
import signal
import subprocess
import sys
import time

import pytest
from main_runs import EVALUATE, FIGURES, INSPECT, MAIN, ONLINE, REPORT, environment_of_processes
from mistakes import ONLINE_ARGUMENTS, TD3

BEGINNING = """
import os, signal, sys, time
import xql_jax.commands
from xql_jax.commands import interrupts
interrupts.INSISTENCE = 0.2

def interrupt():
    signal.raise_signal(signal.SIGINT)

class Swallows:
    def __del__(self):
        interrupt()

def wait():
    try:
        time.sleep(60)
    finally:
        print("removed")
"""


def run(code, **options):
    return subprocess.run(
        [sys.executable, "-c", BEGINNING + code],
        env=environment_of_processes(), capture_output=True, text=True, timeout=30, **options,
    )  # fmt: skip


def test_outside_of_the_work_it_ends_the_process():
    ended = run("interrupt()")
    assert (ended.returncode, ended.stdout, ended.stderr) == (-signal.SIGINT, "", "")
    ended = run("with interrupts.Interruptible(): pass\ninterrupt()")
    assert (ended.returncode, ended.stdout, ended.stderr) == (-signal.SIGINT, "", "")


@pytest.mark.parametrize(
    "work",
    {
        "raised": "interrupt()",
        "in a destructor": "Swallows(); wait()",
        "in a destructor, while another exception goes by": "Swallows(); 1 / 0",
        "caught by what catches all": "try: interrupt()\n    except BaseException: pass\n    wait()",
        "twice": "try: interrupt()\n    except BaseException: interrupt()",
        "as another exception": "try: interrupt()\n    except BaseException: raise ImportError('C says so')",
        "told by the main itself": "try: interrupt()\n    except BaseException: sys.exit(3)",
        "by the destructor of what is left": "kept = Swallows()\n    del kept",
    }.items(),
    ids=lambda item: item[0],
)
def test_within_the_work_the_exit_code_is_130(work):
    ended = run(f"with interrupts.Interruptible():\n    {work[1]}")
    assert (ended.returncode, ended.stderr) == (130, "interrupted\n")
    assert ended.stdout in ("", "removed\n")
    assert ("wait" in work[1]) == (ended.stdout == "removed\n")


def test_what_else_destructors_raise_is_told_as_before():
    ended = run(
        "class Fails:\n    def __del__(self): 1 / 0\nwith interrupts.Interruptible():\n    Fails()\n"
        "print(signal.getsignal(signal.SIGINT) is signal.SIG_DFL)"
    )
    assert (ended.returncode, ended.stdout) == (0, "True\n")
    assert "Exception ignored" in ended.stderr
    assert "ZeroDivisionError" in ended.stderr


def test_where_it_is_ignored_it_stays_so():
    """As in what a shell runs in the background."""
    ended = run(
        "interrupt()\nwith interrupts.Interruptible():\n    interrupt()\nprint('done')",
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN),
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "done\n", "")


LONG = {
    "train": [MAIN, "--config.hidden_dims=(8,)", "--max_steps=1000000", "--eval_interval=1000", "--notqdm"],
    "online": [ONLINE, TD3, *ONLINE_ARGUMENTS, "--max_steps=1000000"],
    "evaluate": [EVALUATE, "--random_policy", "--env_name=pointmaze-umaze-v0", "--episodes=100000"],
    "inspect": [INSPECT, "--env_name=pointmaze-umaze-v0", "--plot=a.png"],
    "figures": [FIGURES],
    "report": [REPORT, ".", "--serve", "--port=0"],
}
COMPILING = "no evaluation"  # what a run says last before it compiles
FIRST = 0.3  # seconds: until Python has started, an interrupt is told in words of its own


@pytest.mark.slow
@pytest.mark.parametrize("main", LONG)
def test_at_any_moment_of_a_main(main, tmp_path):
    """The training itself ends as at other stops: exit code 130, too."""
    moments = random.Random(main)
    for _ in range(20):
        with subprocess.Popen(
            [sys.executable, *map(str, LONG[main])],
            cwd=tmp_path, env=environment_of_processes(), text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        ) as process:  # fmt: skip
            moment = moments.uniform(FIRST, 4.0)
            time.sleep(moment)
            ended_before = process.poll() is not None
            process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=60)
        assert process.returncode in ((0,) if ended_before else (130, -signal.SIGINT, 0)), (moment, err)
        assert err in ("", "interrupted\n"), moment
        assert not list(tmp_path.rglob("*.tmp"))
        for folder in tmp_path.rglob("seed42_*"):
            folder.rename(folder.with_name(f"before-{time.monotonic_ns()}"))


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [0.2, 0.6, 1.0])
def test_while_it_compiles(seconds, tmp_path):
    """The interpreter's own clean-up would end in a segmentation fault then."""
    with subprocess.Popen(
        [sys.executable, str(MAIN), "--eval_episodes=0", "--notqdm"],
        cwd=tmp_path, env=environment_of_processes(), text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert any(COMPILING in line for line in process.stdout)
        time.sleep(seconds)
        process.send_signal(signal.SIGINT)
        rest = process.communicate(timeout=60)[0]
    assert (process.returncode, rest.splitlines()[-1]) == (130, "interrupted")
