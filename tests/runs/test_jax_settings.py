"""Runs and their policies in programs that have set JAX otherwise: the same bits, and their settings stay."""

import contextlib
import dataclasses

import jax
import numpy as np
import pytest
from slow_cases import slow_but
from tiny_runs import (
    assert_same_bits,
    assert_same_rows,
    finetune_settings,
    made,
    offline_settings,
    online_settings,
    small,
)

from xql_jax.errors import UserError
from xql_jax.numerics.jax_settings import SETTINGS, settings_of_jax
from xql_jax.policy import load_policy
from xql_jax.runs.folder import identity_of
from xql_jax.runs.kinds import Offline
from xql_jax.runs.resolve import resolved
from xql_jax.runs.train import train_run as run_finetuning
from xql_jax.runs.train import train_run as run_offline
from xql_jax.runs.train import train_run as run_online
from xql_jax.workshop.tools.export import export_policy, read_artifact

ODD = {
    "jax_enable_x64": True,
    "jax_default_prng_impl": "rbg",
    "jax_threefry_partitionable": False,
    "jax_random_seed_offset": 7,
    "jax_numpy_dtype_promotion": "strict",
    "jax_numpy_rank_promotion": "raise",
    "jax_default_matmul_precision": "bfloat16",
    "jax_disable_jit": True,
    "jax_transfer_guard_host_to_device": "disallow_explicit",
    "jax_transfer_guard_device_to_host": "disallow_explicit",
    "jax_transfer_guard_device_to_device": "disallow_explicit",
}
# Those that draw noise when they act deterministically, then others.
METHODS = ("xql+flow", "xql+weighted_flow", "fql", "iql+flow", "bear", "bear+mixture")
METHODS += ("xql+mixture", "td3_bc", "dt")
SEEN = np.random.default_rng(1).normal(size=(20, 4)).astype(np.float32)


@contextlib.contextmanager
def set_by_user(changes, in_thread=False):
    """The settings of a user's program, in all threads or in this one; checks that they stay."""
    holders = {name: jax.config._value_holders[name] for name in SETTINGS}

    def settings():
        return {name: (holder.value, holder.get_global()) for name, holder in holders.items()}

    before = settings()
    with contextlib.ExitStack() as held:
        for name, value in changes.items():
            if in_thread:
                held.enter_context(holders[name](value))
            else:
                held.callback(jax.config.update, name, before[name][1])
                jax.config.update(name, value)
        theirs = settings()
        yield
        assert settings() == theirs
    assert settings() == before


@pytest.fixture(scope="module", params=slow_but(METHODS, "iql+flow", "bear"))
def saved(request, data, tmp_path_factory):
    """A run's folder, and what its policy says under the settings of these tests."""
    folder, method = tmp_path_factory.mktemp("run"), request.param
    config = small(method, **({"embed_dim": 8, "hidden_dims": ()} if method == "dt" else {}))
    settings = offline_settings(data, config=config, save_dir=str(folder), max_steps=2, eval_episodes=0)
    path = run_offline(settings).path
    return path, said(path, folder / "export")


def said(path, output):
    """What a saved policy does and says, and what is exported of it, by name."""
    policy = load_policy(path)
    policy.begin()
    found = {"central": policy(SEEN), "evaluated": policy.evaluate(episodes=1)["returns"]}
    if policy.run.method != "dt":
        found |= {"drawn": policy(SEEN, key=0), "q": policy.q(SEEN, found["central"])}
    if policy.run.method.startswith(("xql", "iql")):
        found["v"] = policy.value(SEEN)
    if not policy.run.method.startswith(("dt", "bear")):
        has_weights = "flow" not in policy.run.method and policy.run.method != "fql"
        formats = ("jax", "npz") if has_weights else ("jax",)
        export_policy(checkpoint=str(path), output=str(output), formats=formats)
        with jax.transfer_guard("allow"):  # an artifact is called by the user
            exported = read_artifact(output / "policy.jax")(SEEN)
        found["exported"] = exported
        if has_weights:
            found |= np.load(output / "policy.npz")
    return found


@pytest.mark.parametrize("name", ODD)
def test_a_saved_policy_acts_as_in_its_run(saved, name, tmp_path):
    path, expected = saved
    with set_by_user({name: ODD[name]}):
        assert_same_bits(said(path, tmp_path), expected)


def train_offline_in_background(settings):
    flow = made(Offline, small("iql+flow"))
    changes = {"method": flow.method, "learner": flow.learner, "background_evaluation": True}
    return run_offline(dataclasses.replace(settings, **changes))


KINDS = {
    "offline": (run_offline, offline_settings),
    "in the background": (train_offline_in_background, offline_settings),
    "online": (run_online, online_settings),
    "fine-tuned": (run_finetuning, finetune_settings),
}


@pytest.mark.parametrize("in_thread", slow_but([False, True], False))
@pytest.mark.parametrize("kind", slow_but(KINDS, "fine-tuned"))
def test_a_run_has_the_same_bits_in_a_program_with_other_settings(kind, in_thread, data, tmp_path):
    """Runs compute in threads of their own, too: they compile in one, and online they learn in another."""
    train, settings = KINDS[kind]
    expected = train(settings(data, save_dir=str(tmp_path / "a")))
    with set_by_user(ODD, in_thread):
        found = train(settings(data, save_dir=str(tmp_path / "b")))
    assert_same_rows(found, expected)
    assert_same_bits(load_policy(found.path).run.states, load_policy(expected.path).run.states)


@pytest.mark.parametrize(
    ("name", "algorithm"), [("highest", "HIGHEST"), ("tf32", "tf32"), ("bfloat16", "bf16"), ("default", None)]
)
def test_products_have_the_precision_asked_for(name, algorithm):
    x = np.ones((8, 8), np.float32)
    with settings_of_jax(name):
        text = jax.jit(jax.numpy.dot).trace(x, x).lower(lowering_platforms=("cuda",)).as_text()
    found = {word for word in ("HIGHEST", "tf32", "bf16") if word in text}
    assert found == ({algorithm} if algorithm else set())


def test_a_precision_is_recorded_and_refused_where_there_is_none(data, tmp_path):
    settings = offline_settings(data, save_dir=str(tmp_path), matmul_precision="tf32")
    with pytest.raises(UserError, match="--matmul_precision=tf32: not on a CPU: give default or highest"):
        run_offline(settings)
    default, highest = (
        identity_of(resolved(dataclasses.replace(settings, matmul_precision=name)))
        for name in ("default", "highest")
    )
    assert "matmul_precision" not in default
    assert highest == {**default, "matmul_precision": "highest"}
