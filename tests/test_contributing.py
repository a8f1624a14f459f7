"""CONTRIBUTING.md's example of a method: its files are written, registered and trained as it says."""

import re
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
from python_cases import bandit

import xql_jax.learners
from xql_jax.errors import UserError
from xql_jax.learners import registry
from xql_jax.runs.config_files import Config, values_in
from xql_jax.runs.kinds import Offline
from xql_jax.runs.layers import SUITE, Layers
from xql_jax.runs.load import load_run
from xql_jax.runs.resolve import settings_from
from xql_jax.runs.train import train_run as run_offline

ROOT = Path(__file__).resolve().parents[1]
GUIDE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def blocks():
    return re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL)


@pytest.fixture
def registered(blocks, tmp_path, monkeypatch):
    """The example's modules in the package, and its line in the registry."""
    names = ("quantile", "filtered")
    for name, block in zip(names, blocks, strict=False):
        assert f"`xql_jax/learners/{name}.py`" in GUIDE
        (tmp_path / f"{name}.py").write_text(block, encoding="utf-8")
    monkeypatch.setattr(xql_jax.learners, "__path__", [*xql_jax.learners.__path__, str(tmp_path)])
    assert '"quantile": "quantile",' in GUIDE
    assert '"filtered": "filtered:Filtered",' in GUIDE
    for places in (registry.IN_SAMPLE, registry.OFFLINE.places):
        monkeypatch.setitem(places, "quantile", "quantile")
    monkeypatch.setitem(registry.POLICIES.places, "filtered", "filtered:Filtered")
    yield
    for name in names:
        sys.modules.pop(f"xql_jax.learners.{name}", None)


def run(tmp_path, algorithm, sweep="", **fields):
    np.savez(tmp_path / "data.npz", **bandit(60))
    config = runpy.run_path(str(ROOT / "configs" / "pointmaze_config.py"))["get_config"](algorithm)
    config.update({name: (8,) for name in config if name.endswith("_hidden_dims")} | fields)
    settings = {
        "max_steps": 20,
        "log_interval": 10,
        "eval_interval": 20,
        "checkpoint_interval": 20,
        "save_dir": str(tmp_path / "results"),
        "dataset": (str(tmp_path / "data.npz"),),
        "batch_size": 8,
        "sweep": sweep,
    }
    layers = Layers({SUITE: values_in(Offline, config)})
    wanted = settings_from(Config(Offline, config.method, layers, config.suite), settings)
    trained = load_run(run_offline(wanted).path)
    return trained.summary, trained.rows(trained.files.evaluations)


def test_the_example_is_its_own_oracle(registered, blocks):
    space = {}
    exec(blocks[2], space)  # the guide's own test
    space["test_the_minimiser_is_the_quantile"]()


def test_the_example_is_described_by_its_own_file(registered):
    """So it needs no other: the site's page of hyperparameters has its meaning."""
    program = runpy.run_path(str(ROOT / "docs/site/hyperparameters.py"))
    rows = {row.name: row for row in program["describe_fields"]("quantile")}
    assert rows["quantile"].meaning.startswith("Quantile of Q")
    assert [row for row in rows.values() if not row.meaning] == []
    page = program["page"]()
    assert "### quantile\n" in page
    assert f"| `quantile` | {rows['quantile'].meaning} | a finite number, within (0, 1) | yes |" in page


@pytest.mark.slow
def test_the_example_trains_by_its_name_and_with_another_policy(registered, tmp_path):
    summary, _ = run(tmp_path, "quantile", quantile=0.8)
    assert (summary["status"], summary["algorithm"], summary["diverged"]) == ("finished", "quantile", [])
    summary, _ = run(tmp_path, "quantile+filtered", sweep="quantile=0.7,0.9")
    assert (summary["status"], summary["algorithm"]) == ("finished", "quantile+filtered")


def test_the_example_trains_from_outside_of_the_package(blocks, tmp_path, monkeypatch):
    inside, outside = 'METHODS = {"quantile": Method(InSample', "quantile = Method(InSample"
    assert inside in blocks[0]
    assert f"```text\n{outside}, value=Quantile)\n" in GUIDE
    module = blocks[0].replace(inside, outside).replace("Quantile)}", "Quantile)")
    (tmp_path / "my_methods.py").write_text(module, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    summary, _ = run(tmp_path, "my_methods:quantile", quantile=0.8)
    assert (summary["status"], summary["algorithm"]) == ("finished", "my_methods:quantile")
    with pytest.raises(UserError, match=r"quantile=1.5: must be a finite number, within \(0, 1\)"):
        run(tmp_path, "my_methods:quantile", quantile=1.5)
