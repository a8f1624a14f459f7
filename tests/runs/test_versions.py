"""Folders of earlier versions are read, listed and evaluated: what docs/resume.md promises.

tests/data_of_versions/VERSION was written by that version, and is never changed:

  PYTHONPATH=.:tests:tests/runs python tests/runs/test_versions.py tests/data_of_versions/VERSION

It has an offline run of two seeds and an online run, both stopped at step 6 of 12, and an export.
expected.json has what the policies do.
"""

import contextlib
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from tiny_runs import SCHEDULE, made, online_settings, small, stopped_at, write_dataset

from xql_jax.errors import UserError
from xql_jax.files import read_record, write_record
from xql_jax.policy import load_policy
from xql_jax.runs.kinds import Offline
from xql_jax.runs.load import load_run
from xql_jax.runs.train import train_run
from xql_jax.settings import values_of
from xql_jax.workshop.tools.evaluate import EvaluationSettings, evaluate
from xql_jax.workshop.tools.export import export_policy
from xql_jax.workshop.tools.list_runs import list_runs

VERSIONS = sorted((Path(__file__).parents[1] / "data_of_versions").glob("*"))
OBSERVATIONS = np.random.default_rng(0).uniform(0.5, 3.5, (5, 4)).astype(np.float32)
PLACES = {"save_dir": "runs", "env_name": "pointmaze-umaze-v0", "keep_checkpoints": 1, "eval_episodes": 1}
OFFLINE = made(
    Offline,
    config=small("xql", hidden_dims=(4,), decay_actor_lr=False),
    dataset=("data.npz",),
    num_seeds=2,
    batch_size=8,
    normalize_observations=True,
    **{**SCHEDULE, **PLACES},
)
ONLINE = online_settings(
    Path(),
    config=small("td3", hidden_dims=(), batch_size=4, buffer_size=16, warmup_steps=4),
    **{**PLACES, "bellman_error_interval": 100},
)
KINDS = {"offline": (OFFLINE, "update"), "online": (ONLINE, "step")}


def run_of(kind):
    """The folder below the current one of the run of that kind."""
    [path] = Path("runs").glob(f"*/*/*_{kind}_*")
    return path


def actions_of(path):
    """What each member's policy does, in the order of seeds."""
    policy = load_policy(path)
    return [policy.select(seed=member.seed)(OBSERVATIONS).tolist() for member in policy.members]


def write(folder):
    """Writes the folder of this version."""
    folder.mkdir(parents=True)
    with contextlib.chdir(folder):
        write_dataset(Path("data.npz"), 80)
        expected = {}
        for kind, (settings, step) in KINDS.items():
            with stopped_at(f"{step} 6: score") as stop:
                path = train_run(settings, stop).path
            expected[kind] = actions_of(path)
        export_policy(checkpoint=str(run_of("offline")), member=1, formats=("npz",))
        others = [
            *Path().rglob("tb"),
            *Path().rglob("replay"),
            *Path().rglob(".lock"),
            *Path().rglob("act.py"),
        ]
        for other in (*others, Path("data.npz")):
            shutil.rmtree(other) if other.is_dir() else other.unlink()
        Path("expected.json").write_text(json.dumps(expected) + "\n")


@pytest.fixture(params=VERSIONS, ids=lambda folder: folder.name)
def expected(request, tmp_path, monkeypatch):
    """The content of expected.json; the current folder is a copy of the version's."""
    shutil.copytree(request.param, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return json.loads(Path("expected.json").read_text())


def test_an_old_folder_is_read(expected):
    listed = {run.method: (run.status, run.dataset) for run in list_runs(["runs"])[0]}
    assert listed == dict.fromkeys(("xql", "td3"), ("interrupted", "pointmaze-umaze-v0"))
    for kind, actions in expected.items():
        np.testing.assert_allclose(actions_of(run_of(kind)), actions, atol=1e-5)
        run = load_run(run_of(kind))
        assert run.rows(run.files.evaluations)[-1].step == 6
        report = evaluate(EvaluationSettings(checkpoint=str(run_of(kind)), episodes=1))
        assert all(member["length_mean"] > 0 for member in report["members"])
    run = load_run(run_of("offline"))  # the defaults of its losses were others
    losses = {"clip_rule": "both", "critic_loss": "mse"}
    assert {name: run.settings[f"config.{name}"] for name in losses} == losses
    learned = values_of(run.learner)
    assert {name: learned[name] for name in losses} == losses


def test_a_run_that_cannot_be_read_names_its_version(expected):
    path = run_of("offline")
    content = read_record(path / "config.json")
    write_record(path / "config.json", {name: value for name, value in content.items() if name != "sizes"})
    with pytest.raises(UserError, match=rf"made by xql_jax {content['versions']['xql_jax']}, cannot be read"):
        load_run(path)


if __name__ == "__main__":
    write(Path(sys.argv[1]))
