"""The wheel in an environment of its own, away from the clone: commands, configs, and what lacks an extra.

The environment borrows the packages of the one that runs the tests, but for those that only extras bring,
which it cannot import: it is what `pip install WHEEL` makes, without the download.
"""

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[1]
SOURCES = ("setup.py", "pyproject.toml", "README.md", "LICENSE", "xql_jax", "experiments", "configs")
OF_EXTRAS = (
    *("dm_control", "gymnasium_robotics", "imageio_ffmpeg", "minari", "onnx", "onnxruntime"),
    *("ray", "submitit", "mujoco_playground", "d4rl", "gym", "wandb", "ogbench"),
    *("requests", "tensorboard"),
)
# Without it, which would name the clone.
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
BLOCKING = """
import sys

class Absent:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name.partition(".")[0] in {names}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Absent)
"""


@pytest.fixture(scope="module")
def commands(tmp_path_factory):
    """The folder of an installed wheel's commands."""
    folder = tmp_path_factory.mktemp("installation")
    (folder / "sources").mkdir()
    for name in SOURCES:  # a copy: building writes into the sources
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, folder / "sources" / name)
    pip = [sys.executable, "-m", "pip", "--quiet"]
    build = [*pip, "wheel", "--no-deps", f"--wheel-dir={folder}", folder / "sources"]
    subprocess.run(build, check=True, env=ENVIRONMENT)
    shutil.rmtree(folder / "sources")
    (wheel,) = folder.glob("*.whl")
    venv.create(folder / "venv")
    python = folder / "venv" / "bin" / "python"
    install = [*pip, "--python", python, "install", "--no-deps", wheel]
    subprocess.run(install, check=True, env=ENVIRONMENT)
    (packages,) = (folder / "venv" / "lib").glob("python*/site-packages")
    (packages / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    (packages / "sitecustomize.py").write_text(BLOCKING.format(names=set(OF_EXTRAS)))
    return folder / "venv" / "bin"


@pytest.fixture
def typed(commands, tmp_path):
    """Runs a command line as a user does, in an empty folder; returns its exit code, output and errors."""

    def run(line):
        command, *arguments = line.split()
        how = {"cwd": tmp_path, "env": ENVIRONMENT, "capture_output": True, "text": True, "timeout": 170}
        ended = subprocess.run([commands / command, *arguments], check=False, **how)
        return ended.returncode, ended.stdout, ended.stderr

    return run


def test_a_command_finds_configs_anywhere(typed):
    line = "xql-train-offline --config=kitchen:cql --env_name=kitchen-mixed-v0 --print_config"
    code, out, err = typed(line)
    assert (code, err) == (0, "")
    assert "--cql_alpha=" in out


def test_the_mazes_need_no_extra(typed):
    code, out, err = typed("xql-train-offline --max_steps=20 --eval_episodes=1 --notqdm")
    assert code == 0, err
    code, _, err = typed(
        f"xql-evaluate {out.splitlines()[-1].partition('results: ')[2]} --episodes=1 --notqdm"
    )
    assert code == 0, err


@pytest.mark.parametrize(
    ("line", "package", "extra"),
    [
        (
            "xql-collect --policy=random --env_name=pen-human-v1 --episodes=1 --output=a.hdf5",
            "gymnasium_robotics",
            "simulators",
        ),
        ("xql-evaluate RUN --video=a.mp4", "imageio_ffmpeg", "video"),
        ("xql-train-offline --wandb", "wandb", "wandb"),
    ],
)
def test_what_an_extra_brings_is_told_in_a_line(line, package, extra, typed):
    code, _, err = typed(line)
    (error,) = err.splitlines()
    assert (code, package in error) == (2, True)
    assert error.endswith(f"pip install 'xql_jax[{extra}]'")
