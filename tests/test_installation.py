"""The wheel in an environment of its own, away from the clone: commands, configs, and what lacks an extra.

The environment borrows the packages of the one that runs the tests, but for those that only extras bring,
which it cannot import: it is what `pip install WHEEL` makes, without the download.
"""

import os
import re
import runpy
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import numpy as np
import pytest
import setuptools

ROOT = Path(__file__).resolve().parents[1]
SOURCES = ("setup.py", "pyproject.toml", "README.md", "LICENSE", "xql_jax", "experiments", "configs")
OF_EXTRAS = (
    *("dm_control", "gymnasium_robotics", "imageio_ffmpeg", "minari", "sklearn", "onnx", "onnxruntime"),
    *("ray", "submitit", "rliable", "pandas", "jinja2", "mujoco_playground", "d4rl", "gym"),
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
    """Runs a command line as a user does, in an empty folder."""

    def run(line, **files):
        for name, text in files.items():
            (tmp_path / name).write_text(text)
        command, *arguments = line.split()
        return subprocess.run(
            [commands / command, *arguments],
            cwd=tmp_path,
            env=ENVIRONMENT,
            capture_output=True,
            text=True,
            timeout=170,
        )

    generator = np.random.default_rng(0)
    np.savez(
        tmp_path / "mine.npz",
        observations=generator.normal(size=(90, 3)),
        actions=generator.uniform(-1, 1, (90, 2)),
        rewards=generator.normal(size=90),
        terminals=np.zeros(90),
        timeouts=np.arange(90) % 30 == 29,
    )
    return run


def named_in_setup(monkeypatch):
    """The commands by their mains, as setup.py names them."""
    monkeypatch.setattr(setuptools, "setup", lambda **arguments: None)
    monkeypatch.chdir(ROOT)
    return runpy.run_path("setup.py")["MAINS"]


def test_every_main_has_a_command(monkeypatch):
    mains = {path.stem for path in (ROOT / "experiments").glob("*.py")}
    assert set(named_in_setup(monkeypatch).values()) == mains


@pytest.mark.slow
def test_each_command_teaches_itself(typed, monkeypatch):
    for command, main in named_in_setup(monkeypatch).items():
        ended = typed(f"{command} -h")
        assert ended.returncode == 0, ended.stderr
        assert ended.stdout.startswith(runpy_doc(main).splitlines()[0])
        assert f"  {command} " in ended.stdout
        assert f"python experiments/{main}.py" not in ended.stdout
        assert ended.stderr == ""


def runpy_doc(main):
    return re.match('"""(.*?)"""', (ROOT / "experiments" / f"{main}.py").read_text(), re.DOTALL)[1]


@pytest.mark.slow
def test_configs_are_found_from_anywhere_and_ones_own_come_first(typed):
    named = {
        "configs/pointmaze_config.py": "beta, ",
        "pointmaze_config.py:iql": "expectile, ",
        "kitchen:cql": "cql_alpha, ",
    }
    for config, field in named.items():
        ended = typed(f"xql-train-offline --config={config} --help")
        assert ended.returncode == 0, ended.stderr
        assert field in " ".join(ended.stdout.split())
    line = "xql-train-offline --dataset=mine.npz --config="
    own = "from ml_collections import ConfigDict\n\n\ndef get_config():\n    raise ValueError('mine')\n"
    ended = typed(f"{line}pointmaze_config.py", **{"pointmaze_config.py": own})
    assert (ended.returncode, "ValueError: mine" in ended.stderr) == (2, True)
    ended = typed(f"{line}kitchn")
    assert ended.returncode == 2
    assert "no file 'kitchn'" in ended.stderr
    assert "antmaze, antmaze_finetune, kitchen" in ended.stderr


@pytest.mark.slow
def test_the_mazes_need_no_extra(typed):
    ended = typed("xql-train-offline --max_steps=20 --eval_episodes=1 --notqdm")
    assert ended.returncode == 0, ended.stderr
    run = ended.stdout.splitlines()[-1].partition("results: ")[2]
    ended = typed(f"xql-evaluate {run} --episodes=1 --notqdm")
    assert ended.returncode == 0, ended.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("line", "package", "extra"),
    [
        (
            "xql-train-offline --env_name=kitchen-complete-v0 --config=kitchen",
            "gymnasium_robotics",
            "simulators",
        ),
        ("xql-train-online --env_name=cartpole-swingup", "dm_control", "simulators"),
        ("xql-evaluate --random_policy --env_name=pen-human-v1", "gymnasium_robotics", "simulators"),
        (
            "xql-evaluate --random_policy --env_name=pointmaze-umaze-v0 --video=a.mp4",
            "imageio_ffmpeg",
            "video",
        ),
        ("xql-train-online --env_name=playground:CheetahRun", "mujoco_playground", "compiled"),
        ("xql-figures --figure=2", "sklearn", "theory"),
        ("xql-sweep --datasets=pointmaze-umaze-v0 --methods=xql --executor=ray", "ray", "sweep"),
    ],
    ids=lambda text: text.split()[0] if " " in text else "",
)
def test_what_an_extra_brings_is_told_in_a_line(line, package, extra, typed):
    ended = typed(line)
    assert ended.returncode == 2, ended.stderr
    (error,) = ended.stderr.splitlines()
    assert package in error
    assert error.endswith(f"pip install 'xql_jax[{extra}]'")
