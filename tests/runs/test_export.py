"""Exported policies: every head in each format against the learner's own actions and the run's."""

import contextlib
import functools
import itertools
import json
import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from slow_cases import slow_but
from tiny_runs import offline_settings, small

from xql_jax.data.preprocessing import Preprocessing
from xql_jax.errors import UserError
from xql_jax.learners.registry import make_learner
from xql_jax.policy import load_policy
from xql_jax.runs.train import train_run as run_offline
from xql_jax.workshop.tools.export import FILES, export_policy, weights_of, write_policy

ROOT = Path(__file__).resolve().parents[2]
O, A = 5, 3
PREPROCESSING = Preprocessing(
    observation_mean=(1.0, -2.0, 0.5, 3.0, 0.0), observation_std=(2.0, 0.5, 1.0, 3.0, 0.1)
)
# Every network that a policy has: IQL's Gaussian, another deviation, SAC's, a mixture, TD3's; and depths.
POLICIES = {
    "gaussian": ("xql", {}),
    "state_gaussian": ("xql+state_gaussian", {}),
    "narrow_gaussian": ("xql+narrow_gaussian", {}),
    "squashed": ("bc+squashed", {}),
    "mixture": ("xql+mixture", {"num_components": 4}),
    "sac": ("rlpd", {"num_critics": 2}),
    "td3": ("td3_bc", {}),
    "no hidden layer": ("bc", {"actor_hidden_dims": ()}),
    "flow": ("xql_bellman+flow", {"candidates": 5, "actor_layer_norm": True, "critic_hidden_dims": (7, 6)}),
    "one step": ("fql", {"candidates": 3, "critic_hidden_dims": (7, 6)}),
}


@pytest.fixture(scope="module", params=slow_but(POLICIES, "gaussian", "td3", "flow"))
def policy(request):
    """A policy with weights of some size: observations, what it does there, its weights, and itself."""
    name, values = POLICIES[request.param]
    values = {"actor_hidden_dims": (16, 8), **values}
    learner = make_learner(name, values)
    state = jax.jit(learner.init)(jax.random.key(1), jnp.zeros((1, O)), jnp.zeros((1, A)))
    actor = jax.tree.map(
        lambda leaf: leaf + 0.3 * jax.random.normal(jax.random.key(2), leaf.shape), learner.actor(state)
    )
    observations = np.random.default_rng(0).normal(size=(1000, O)).astype(np.float32) * 3

    def act(observations):
        seen = PREPROCESSING.observations(observations)
        return learner.act(actor, seen, jax.random.key(0), deterministic=True)

    expected = np.asarray(act(observations))
    assert np.ptp(expected, axis=0).min() > 0.3  # actions that tell policies apart
    weights = None if "flow" in name or name == "fql" else weights_of(actor, PREPROCESSING, O)
    return observations, expected, weights, act


@pytest.mark.parametrize("name", FILES)
def test_every_format_acts_as_the_learner(policy, name, tmp_path):
    observations, expected, weights, act = policy
    if name != "jax" and weights is None:
        return
    read = write_policy(name, tmp_path, weights, act, O)
    np.testing.assert_allclose(read(observations), expected, atol=1e-5)
    np.testing.assert_allclose(read(observations[:3]), expected[:3], atol=1e-5)  # any number at once


@pytest.mark.parametrize("name", FILES)
def test_no_format_gives_actions_for_what_is_no_observation(policy, name, tmp_path):
    """act.py refuses it, as `Policy` does; a graph and an artifact refuse shapes, and else give NaN."""
    observations, expected, weights, act = policy
    if name != "jax" and weights is None:
        return
    read = write_policy(name, tmp_path, weights, act, O)
    one = observations[:1]
    for odd in (one.T, one[:, :1], one[0, 0], np.zeros((0,), np.float32), one[:, :4], np.tile(one, 2)):
        with pytest.raises(Exception, match=r"shape|Rank|rank|dimension|size|float32"):
            read(odd)
    unfit = np.repeat(one, 3, 0)
    unfit[np.arange(3), [0, 2, 4]] = np.nan, np.inf, -np.inf
    if name != "npz":
        found = np.asarray(read(np.concatenate([unfit, one])))
        assert np.isnan(found[:3]).all()
        np.testing.assert_allclose(found[3:], expected[:1], atol=1e-5)
        return
    np.testing.assert_allclose(read(one[0].tolist()), expected[0], atol=1e-5)
    for odd in (*unfit, unfit, np.full((1, O), 1e39), np.full((1, O), 1e38), [["a"] * O], [[1j] * O]):
        with pytest.raises(ValueError, match=r"^observations: must be .*"):
            read(odd)
    hidden = np.ma.masked_array(one[0], [1] + [0] * (O - 1))
    for odd, what in (
        (hidden, "masked numbers"),
        ([hidden], "masked numbers"),
        ([[1.0], one[0]], "lists of several"),
    ):
        with pytest.raises(ValueError, match=rf"^observations: must be numbers of shape .*, not {what}"):
            read(odd)
    np.testing.assert_allclose(read(np.ma.masked_array(one, False)), expected[:1], atol=1e-5)


@pytest.mark.parametrize("number", range(3), ids=["onnx", "numpy", "jax"])
def test_the_guides_examples_act_without_this_project(unbroken, tmp_path, number):
    """As they stand in docs/evaluate.md; without JAX too, but for its own file."""
    export_policy(checkpoint=str(unbroken.path), output=str(tmp_path), member=0, formats=tuple(FILES))
    examples = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "evaluate.md").read_text(), re.DOTALL)
    (tmp_path / "example.py").write_text(examples[number] + "print(actions)\n")
    for name in ("flax", "onnx", "xql_jax", *["jax"] * (number != 2)):
        (tmp_path / f"{name}.py").write_text("raise ImportError")
    run = subprocess.run(
        [sys.executable, "example.py"], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert run.returncode == 0, run.stderr
    printed = np.array(run.stdout.replace("[", " ").replace("]", " ").split(), float)
    expected = load_policy(unbroken.path).select(seed=3)(np.zeros(4, np.float32))
    np.testing.assert_allclose(printed, expected, atol=1e-5)


def test_a_run_on_data_alone_is_exported_with_and_without_onnx(data, tmp_path, monkeypatch):
    run = run_offline(offline_settings(data, env_name=None, save_dir=str(tmp_path / "runs")))
    place = {"checkpoint": str(run.path), "output": str(tmp_path / "export")}
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "onnx", None)  # it does not import
        with pytest.raises(UserError, match=r"onnx.*xql_jax\[export\]"):
            export_policy(**place, formats=["onnx"])
        assert export_policy(**place)["largest_difference"].keys() == {"jax", "npz"}
        patch.setitem(sys.modules, "flatbuffers", None)
        assert export_policy(**place)["largest_difference"].keys() == {"npz"}
        with pytest.raises(UserError, match=r"jax needs flatbuffers.*xql_jax\[export\]"):
            export_policy(**place, formats=["npz", "jax"])
    assert export_policy(**place, formats=list(FILES))["largest_difference"].keys() == {"jax", "onnx", "npz"}
    export_policy(**place)
    modes = {(tmp_path / "export" / name).stat().st_mode for name in FILES.values()}
    assert len(modes) == 1  # a colleague who reads one reads all
    mean = np.mean(np.load(data / "data.npz")["observations"], axis=0)  # about what the run normalises by
    act = runpy.run_path(str(tmp_path / "export" / "act.py"))["load"](tmp_path / "export" / "policy.npz")[0]
    np.testing.assert_allclose(act(mean[None])[0], load_policy(run.path)(mean), atol=1e-5)


@pytest.mark.slow
def test_a_flow_is_exported_as_jax_alone(data, tmp_path):
    run = run_offline(offline_settings(data, config=small("fql"), save_dir=str(tmp_path / "runs")))
    place = {"checkpoint": str(run.path), "output": str(tmp_path / "export"), "member": 0}
    assert export_policy(**place)["largest_difference"].keys() == {"jax"}
    with pytest.raises(
        UserError, match=r"^--formats: npz: what is no stack of layers is exported as jax alone"
    ):
        export_policy(**place, formats=["npz"])


def test_after_a_kill_no_report_describes_another_policy(unbroken, tmp_path, monkeypatch):
    """An export over an older one, which ends before each operation on its files, until it ends by itself."""
    older = {"checkpoint": str(unbroken.path), "output": str(tmp_path), "member": 0}
    newer = older | {"member": 1, "formats": ("npz",)}
    weights = {}
    for settings in (newer, older):
        policy = export_policy(**settings)["policy"]
        weights[policy] = np.load(tmp_path / "policy.npz")["kernel_0"]
    older["formats"] = ("npz",)
    for last in range(20):
        operations = itertools.count()

        def guarded(operation, *paths, last=last, operations=operations, **options):
            if Path(paths[-1]).parent == tmp_path and next(operations) == last:
                raise KeyboardInterrupt
            return operation(*paths, **options)

        export_policy(**older)
        with monkeypatch.context() as patch, contextlib.suppress(KeyboardInterrupt):
            for name in ("unlink", "replace"):
                patch.setattr(os, name, functools.partial(guarded, getattr(os, name)))
            export_policy(**newer)
        if (tmp_path / "policy.json").exists():
            policy = json.loads((tmp_path / "policy.json").read_text())["policy"]
            np.testing.assert_array_equal(np.load(tmp_path / "policy.npz")["kernel_0"], weights[policy])
    assert policy.endswith("seed 4")
    # No file of another policy is left of the first export of all formats.
    assert sorted(path.name for path in tmp_path.iterdir()) == ["act.py", "policy.json", "policy.npz"]
