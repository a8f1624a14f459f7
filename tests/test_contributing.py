"""CONTRIBUTING.md's example of a method: its files are written, registered and trained as it says."""

import re
import sys
from pathlib import Path

import pytest
from python_cases import bandit

import xql_jax
import xql_jax.learners
from xql_jax.errors import UserError
from xql_jax.learners import registry

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


def trained(folder, method, **settings):
    """What was trained by its name on 60 transitions of the bandit."""
    settings |= {"max_steps": 20, "hidden_dims": (8,), "batch_size": 8, "log_interval": 10}
    return xql_jax.train(dataset=bandit(60), method=method, save_dir=folder, progress=False, **settings)


def test_the_example_is_its_own_oracle(registered, blocks):
    space = {}
    exec(blocks[2], space)  # the guide's own test
    space["test_the_minimiser_is_the_quantile"]()


@pytest.mark.slow
def test_the_example_trains_by_its_name_and_with_another_policy(registered, tmp_path):
    assert trained(tmp_path, "quantile", quantile=0.8).summary["algorithm"] == "quantile"
    summary = trained(tmp_path, "quantile+filtered", sweep="quantile=0.7,0.9").summary
    assert (summary["status"], summary["algorithm"]) == ("finished", "quantile+filtered")


def test_the_example_trains_from_outside_of_the_package(blocks, tmp_path, monkeypatch):
    inside, outside = 'METHODS = {"quantile": Method(InSample', "quantile = Method(InSample"
    assert inside in blocks[0]
    assert f"```text\n{outside}, value=Quantile)\n" in GUIDE
    module = blocks[0].replace(inside, outside).replace("Quantile)}", "Quantile)")
    (tmp_path / "my_methods.py").write_text(module, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    summary = trained(tmp_path, "my_methods:quantile", quantile=0.8).summary
    assert (summary["status"], summary["algorithm"]) == ("finished", "my_methods:quantile")
    with pytest.raises(UserError, match=r"quantile must be within \(0, 1\), not 1.5"):
        trained(tmp_path, "my_methods:quantile", quantile=1.5)
