"""Who may import whom, read from the source; and what a loss drags in."""

import ast
import graphlib
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import xql_jax

PACKAGE = Path(xql_jax.__file__).parent
TO_SHOW = {"commands", "paper", "reports", "tools", "sweeps"}  # the rooms of the workshop
# What a learner is not to know of.
TO_TRAIN = {"data", "envs", "rollout", "training", "logs", "files", "runs"} | TO_SHOW


def room(module):
    """`xql_jax.losses.gumbel` is of the room `losses`; a module at the top is a room of its own.

    So are those below the second roof: `xql_jax.workshop.tools.choose` is of `tools`.
    """
    parts = [part for part in module.split(".")[1:] if part != "workshop"]
    return parts[0] if parts else "workshop"


def imported(path, with_names=False):
    """Every module of the package that a file imports, within functions and under TYPE_CHECKING too.

    `with_names`: also MODULE.NAME for each name imported from a module, which may be a module itself.
    """
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.startswith("xql_jax."))
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import, which this test cannot follow"
            if node.module == "xql_jax":
                yield from (f"xql_jax.{alias.name}" for alias in node.names)
            elif node.module.startswith("xql_jax."):
                yield node.module
                if with_names:
                    yield from (f"{node.module}.{alias.name}" for alias in node.names)
            else:
                assert node.module.split(".")[0] not in ("experiments", "configs", "tests", "benchmarks")


@pytest.fixture(scope="module")
def graph():
    """By room, the other rooms that it imports."""
    rooms = {}
    for path in PACKAGE.rglob("*.py"):
        here = room(".".join((PACKAGE.name, *path.relative_to(PACKAGE).with_suffix("").parts)))
        if here != "__init__":
            rooms.setdefault(here, set()).update(map(room, imported(path)))
    return {here: others - {here} for here, others in rooms.items()}


def modules():
    """The module of each file of the package, but for its front door, which loads its parts when asked."""
    files = {
        path: ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)
        for path in PACKAGE.rglob("*.py")
    }
    named = {name.removesuffix(".__init__"): path for path, name in files.items()}
    del named["xql_jax"]
    return named


def test_no_files_import_each_other():
    """Nor by way of others, nor within functions."""
    files = modules()
    graph = {}
    for name, path in files.items():
        names = {module for module in imported(path, with_names=True) if module in files}
        graph[name] = names - {name}
    order = list(graphlib.TopologicalSorter(graph).static_order())  # raises if there is a way round
    assert order.index("xql_jax.losses.gumbel") < order.index("xql_jax.learners.xql")


def reached(graph, start):
    found, pending = set(), [start]
    while pending:
        new = graph[pending.pop()] - found
        found |= new
        pending += new
    return found


@pytest.mark.parametrize(
    ("start", "unknown"),
    [
        ("losses", {"networks", "learners", *TO_TRAIN}),
        ("networks", {"learners", *TO_TRAIN}),
        ("learners", TO_TRAIN),
        ("data", {"learners", "networks", "losses", "training"}),
        ("envs", {"learners", "networks", "losses", "training", "data"}),
        ("suites", {"losses", "networks", "learners", *TO_TRAIN} - {"files"}),
        ("rollout", {"learners", "training", "data"}),
        ("training", {"runs"} | TO_SHOW),
        ("pictures", {"training", "reports", "runs", "commands", "paper"}),
        ("runs", TO_SHOW),
        ("reports", {"tools", "sweeps", "commands", "paper"}),
        ("tools", {"sweeps", "commands", "paper"}),
    ],
)
def test_rooms_below_know_nothing_of_those_above(graph, start, unknown):
    assert not reached(graph, start) & unknown


def test_what_trains_imports_nothing_of_what_works_on_runs():
    for path in PACKAGE.rglob("*.py"):
        if "workshop" not in path.relative_to(PACKAGE).parts:
            above = [module for module in imported(path) if module.startswith("xql_jax.workshop")]
            assert not above, f"{path}: {above}"


def test_nothing_but_the_commands_prints():
    """Nor knows of the command line: a run in plain Python says what it has to say to `logging`."""
    for path in sorted(PACKAGE.rglob("*.py")):
        if "commands" in path.parts or path.name == "act.py":
            continue  # act.py is also the script beside an exported policy
        for node in ast.walk(ast.parse(path.read_text())):
            called = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
            assert called not in ("print", "sys.exit", "logging.basicConfig"), f"{path}: {called}"
            if isinstance(node, ast.Import | ast.ImportFrom):
                assert "absl" not in ast.unparse(node), path


PROCESS = {"cwd": PACKAGE.parent, "capture_output": True, "text": True, "check": True, "timeout": 120}
MODULES_OF_LEARNERS = [
    ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)
    for folder in ("losses", "learners")
    for path in sorted((PACKAGE / folder).glob("[!_]*.py"))
]


HELP = """
import runpy, sys
sys.argv = ["xql-train-offline", "--help"]
runpy.run_path("experiments/train_offline.py", run_name="__main__")
"""
OWN_DATA = """
import numpy as np, xql_jax
states = np.linspace(-1, 1, 64)[:, None]
arrays = {"observations": states, "actions": states, "rewards": states[:, 0]}
dataset = arrays | {"next_observations": states, "terminals": np.ones(64)}
xql_jax.train(dataset=dataset, max_steps=2, hidden_dims=(8, 8), batch_size=8)
"""
SIMULATORS = "gymnasium mujoco dm_control gymnasium_robotics gym d4rl minari"
PICTURES = "matplotlib imageio PIL"
READING_RUNS = "xql_jax.runs.load xql_jax.rollout xql_jax.envs xql_jax.data.comparison"
ACTING = "xql_jax.runs.acting_runs xql_jax.training.acting xql_jax.training.compiled_acting"


@pytest.mark.parametrize(
    ("code", "brings", "does_not_bring"),
    [
        ("import xql_jax", "xql_jax", f"jax numpy absl {SIMULATORS}"),
        ("import xql_jax.interface", "jax", f"scipy sklearn {SIMULATORS} {PICTURES}"),
        (HELP, "jax", f"scipy optax chex orbax {SIMULATORS} {PICTURES} {READING_RUNS}"),
        (OWN_DATA, "optax", f"scipy.stats orbax tensorstore requests {SIMULATORS} {PICTURES} {ACTING}"),
        # MuJoCo chooses how it draws when it is imported, and `prepare_to_draw` tells it what to choose.
        (
            "import runpy; runpy.run_path('experiments/evaluate.py')",
            "xql_jax.workshop.tools.evaluate",
            f"scipy {SIMULATORS} matplotlib imageio",
        ),
        (
            f"import {', '.join(MODULES_OF_LEARNERS)}",
            "xql_jax.losses.gumbel xql_jax.learners.registry",
            f"h5py {SIMULATORS} {PICTURES}",
        ),
    ],
    ids=["package", "interface", "help", "own data", "evaluation", "learners"],
)
def test_what_a_program_imports(code, brings, does_not_bring):
    """What few programs need takes seconds, or memory, or cannot be imported everywhere.

    Where this fails, `python -X importtime` shows which module imports what it should not.
    """
    at_end = "import atexit, sys; atexit.register(lambda: print(*sys.modules))"
    run = subprocess.run([sys.executable, "-c", f"{at_end}\n{code}"], **PROCESS)
    loaded = set(run.stdout.splitlines()[-1].split())
    assert sorted(set(brings.split()) - loaded) == []
    assert sorted(set(does_not_bring.split()) & loaded) == []


def test_a_misspelt_name_of_the_package():
    assert {"train", "load_policy"} <= set(dir(xql_jax))
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        _ = xql_jax.trian


def test_each_file_of_tests_finds_its_helpers_if_it_runs_alone():
    """pytest adds a file's own folder, that of tests/conftest.py and `pythonpath`, and no other."""
    settings = tomllib.loads((PACKAGE.parent / "pyproject.toml").read_text())["tool"]["pytest"]["ini_options"]
    tests = Path(__file__).parent
    known = {tests, *(PACKAGE.parent / each for each in settings["pythonpath"])}
    helpers = {path.stem: path.parent for path in tests.rglob("*.py")}
    for path in tests.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [node.module] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            missing = {helpers.get(name, tests) for name in names} - {path.parent, *known}
            assert not missing, f"{path}: {names}"
