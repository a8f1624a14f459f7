"""How many of the project's functions and files stand between a main and what it is about.

Counted on the call stack: for a training where the loss divides by beta, while its program is traced; for
xql-evaluate where an environment steps.
"""

import traceback
from pathlib import Path

import pytest
from driver import EVALUATE, MAIN, ONLINE, ROOT, Drift, run_folder, succeed

import xql_jax
from xql_jax.losses import gumbel

OURS = str(Path(xql_jax.__file__).parent), str(ROOT / "experiments")
QUICK = (
    "--hidden_dims=8", "--batch_size=4", "--max_steps=8", "--log_interval=4", "--eval_interval=8",
    "--eval_episodes=1", "--notqdm",
)  # fmt: skip
ACTING = ("--method=xsac", "--warmup_steps=4", "--buffer_size=8", "--bellman_error_interval=0")


def noted(owner, name, monkeypatch):
    """Has each call of a function note the project's frames above it, outermost first."""
    function, stacks = getattr(owner, name), []

    def noting(*given, **options):
        frames = [frame for frame in traceback.extract_stack() if frame.filename.startswith(OURS)]
        stacks.append([(str(Path(frame.filename).relative_to(ROOT)), frame.name) for frame in frames])
        return function(*given, **options)

    monkeypatch.setattr(owner, name, noting)
    return stacks


def counted(stack):
    """The number of frames, and of the files that they are in; prints them."""
    files = {file for file, _ in stack}
    print(
        f"\n{len(stack)} frames in {len(files)} files:",
        *(f"{file}: {name}" for file, name in stack),
        sep="\n  ",
    )
    return len(stack), len(files)


@pytest.mark.parametrize(
    ("main", "arguments", "most"),
    [
        (MAIN, ("--env_name=pointmaze-umaze-v0",), (15, 8)),
        (ONLINE, ("--env_name=driver:Drift-v0", *ACTING), (15, 9)),
        (ONLINE, ("--env_name=jax_point_mass:PointMass", *ACTING), (17, 10)),
    ],
    ids=["offline", "acting on the host", "acting in the program"],
)
def test_from_the_main_to_the_division_by_beta(main, arguments, most, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "tests" / "envs")
    stacks = noted(gumbel, "difference", monkeypatch)
    succeed([*arguments, *QUICK, f"--save_dir={tmp_path}"], main=main)
    assert counted(stacks[-1]) == most  # the first one is of what tries the method


def test_from_the_main_to_a_step_of_an_evaluation(tmp_path, monkeypatch):
    arguments = ("--env_name=driver:Drift-v0", *ACTING, *QUICK, f"--save_dir={tmp_path}")
    succeed(arguments, main=ONLINE)
    stacks = noted(Drift, "step", monkeypatch)
    succeed([str(run_folder(tmp_path)), "--episodes=1", "--notqdm"], main=EVALUATE)
    assert counted(stacks[-1]) == (10, 7)  # the first ones try whether seeds determine episodes
