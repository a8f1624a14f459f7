"""From names and configs to learners, and what is refused on the way."""

import jax
import numpy as np
import pytest

from xql_jax.errors import UserError
from xql_jax.learners.bc import BC
from xql_jax.learners.iql import IQL
from xql_jax.learners.q_iteration import QIteration
from xql_jax.learners.registry import LEARNERS, check_domain, default_config, make_learner, traced_fields
from xql_jax.learners.sac import SAC
from xql_jax.learners.td3 import TD3, SingleCriticTD3
from xql_jax.learners.value_iteration import ValueIteration
from xql_jax.learners.xql import XQL
from xql_jax.learners.xsac import XSAC
from xql_jax.learners.xtd3 import XTD3, SingleCriticXTD3
from xql_jax.losses import critic, gumbel


def same(first, second):
    assert jax.tree.structure(first) == jax.tree.structure(second)  # statics, functions included
    jax.tree.map(np.testing.assert_array_equal, first, second)


@pytest.mark.parametrize("name", LEARNERS)
def test_default_config_round_trips(name):
    config = default_config(name)
    same(make_learner(name, config), make_learner(name, {}))
    assert all(isinstance(value, str | bool | int | float | tuple) for value in config.values())


def test_names_are_the_algorithms():
    expected = {
        "xql": XQL,
        "value_iteration": ValueIteration,
        "q_iteration": QIteration,
        "iql": IQL,
        "bc": BC,
    }
    expected |= {"sac": SAC, "xsac": XSAC, "td3": TD3, "xtd3": XTD3}
    expected |= {"td3_dq": SingleCriticTD3, "xtd3_dq": SingleCriticXTD3}
    assert {name: type(make_learner(name, {})) for name in LEARNERS} == expected


def test_defaults_are_the_papers():
    # The paper's word where its code differs from it, and the code's where the paper has none.
    config = default_config("xql")
    expected = {"actor_lr": 3e-4, "value_lr": 3e-4, "critic_lr": 3e-4, "discount": 0.99, "tau": 0.005}
    expected |= {"hidden_dims": (256, 256), "num_critics": 2, "v_updates": 1, "max_weight": 100.0}
    expected |= {"loss": "rescaled", "clip_rule": "both", "critic_loss": "mse", "action_noise": 0.0}
    assert {field: config[field] for field in expected} == expected


@pytest.mark.parametrize(
    ("field", "choice", "function"),
    [
        ("loss", "plain", gumbel.gumbel_loss),
        ("loss", "rescaled", gumbel.gumbel_rescaled_loss),
        ("loss", "log", gumbel.gumbel_log_loss),
        ("clip_rule", "both", gumbel.clip_both),
        ("clip_rule", "above", gumbel.clip_above),
        ("critic_loss", "mse", critic.mse_loss),
        ("critic_loss", "huber", critic.huber_loss),
    ],
)
def test_choices(field, choice, function):
    assert getattr(make_learner("xql", {field: choice}), field) is function


def test_values_arrive():
    learner = make_learner(
        "xql", {"beta": 0.6, "hidden_dims": [8, 4], "v_updates": 3, "layer_norm": True, "clip": 5}
    )
    assert learner.beta == np.float32(0.6)
    assert (learner.hidden_dims, learner.v_updates, learner.layer_norm, learner.clip) == (
        (8, 4),
        3,
        True,
        5.0,
    )


def test_traced_fields_are_the_floats_that_a_sweep_may_vary():
    assert set(traced_fields("bc")) == {"actor_lr", "actor_decay_steps", "max_grad_norm"}
    in_sample = {"value_lr", "critic_lr", "discount", "tau", "awr_temperature", "max_weight"} | set(
        traced_fields("bc")
    )
    assert set(traced_fields("xql")) == in_sample | {"beta", "clip"}
    assert set(traced_fields("iql")) == in_sample | {"expectile"}
    assert set(traced_fields("q_iteration")) == set(traced_fields("xql"))
    assert set(traced_fields("value_iteration")) == set(traced_fields("xql")) - {"critic_lr"}


@pytest.mark.parametrize("call", [default_config, traced_fields, lambda name: make_learner(name, {})])
def test_unknown_algorithm(call):
    known = "bc, iql, q_iteration, sac, td3, td3_dq, value_iteration, xql, xsac, xtd3, xtd3_dq"
    with pytest.raises(UserError, match=f"unknown algorithm 'xqll'; known: {known}"):
        call("xqll")


@pytest.mark.parametrize(
    ("name", "field", "message"),
    [
        ("xql", "betta", "unknown config field 'betta' for xql; nearest known: beta"),
        ("iql", "expectiles", "nearest known: expectile"),
        ("xql", "expectile", "unknown config field 'expectile' for xql"),  # another method's
        (
            "bc",
            "zzzz",
            "nearest known: actor_decay_steps, actor_lr, dropout_rate, hidden_dims, max_grad_norm",
        ),
    ],
)
def test_unknown_field(name, field, message):
    with pytest.raises(UserError, match=message):
        make_learner(name, {field: 1.0})


NAN, INF = float("nan"), float("inf")
REFUSED = [
    ("xql", "beta", 0.0, "config.beta must be positive, not 0"),
    ("xql", "beta", -1.0, "config.beta must be positive, not -1"),
    ("xql", "beta", NAN, "config.beta must be positive, not nan"),
    ("xql", "beta", 1e-50, "config.beta must be positive, not 1e-50"),  # 0 in float32
    ("xql", "beta", INF, "config.beta must be finite in float32, not inf"),
    ("xql", "beta", 1e39, r"config.beta must be finite in float32, not 1e\+39"),
    ("xql", "beta", "1.0", "config.beta must be float, not '1.0'"),
    ("xql", "beta", None, "config.beta must be float, not None"),
    ("xql", "clip", 0.0, "clip must be positive"),
    ("xql", "max_weight", 0.0, "max_weight must be positive"),
    ("xql", "awr_temperature", -0.1, "awr_temperature must be at least 0"),
    ("xql", "awr_temperature", NAN, "awr_temperature must be at least 0, not nan"),
    ("xql", "awr_temperature", INF, "awr_temperature must be finite"),
    ("xql", "value_lr", INF, "value_lr must be finite"),
    ("xql", "critic_lr", INF, "critic_lr must be finite"),
    ("bc", "actor_lr", INF, "actor_lr must be finite"),
    ("xql", "clip", -INF, "clip must be positive, not -inf"),
    ("xql", "discount", 1.01, r"discount must be within \[0, 1\]"),
    ("xql", "tau", 0.0, r"tau must be within \(0, 1\]"),
    ("xql", "tau", 1.5, r"tau must be within \(0, 1\]"),
    ("iql", "expectile", 1, r"expectile must be within \(0, 1\), not 1"),
    ("iql", "expectile", 1 - 1e-12, r"expectile must be within \(0, 1\), not 1"),  # 1 in float32
    ("iql", "expectile", 0.0, r"expectile must be within \(0, 1\), not 0"),
    ("xql", "v_updates", 0, "v_updates must be at least 1"),
    ("xql", "v_updates", 1.5, "v_updates must be int, not 1.5"),
    ("xql", "v_updates", 2.0, "v_updates must be int, not 2.0"),
    ("xql", "num_critics", 0, "num_critics must be at least 1"),
    ("xql", "num_critics", True, "num_critics must be int, not True"),
    ("xql", "uniform_actions", -1, "uniform_actions must be at least 0"),
    ("xql", "action_noise", -0.1, "action_noise must be at least 0"),
    ("xql", "layer_norm", "yes", "layer_norm must be bool, not 'yes'"),
    ("xql", "layer_norm", 2, "layer_norm must be bool, not 2"),
    ("bc", "dropout_rate", 1.0, r"dropout_rate must be within \[0, 1\)"),
    ("bc", "actor_lr", 0.0, "actor_lr must be positive"),
    ("bc", "actor_decay_steps", 0, "actor_decay_steps must be positive"),
    ("bc", "max_grad_norm", -1, "max_grad_norm must be positive"),
    ("bc", "hidden_dims", (256, 0), r"hidden_dims must be positive whole numbers, not \(256, 0\)"),
    ("bc", "hidden_dims", (2.5,), "hidden_dims must be positive whole numbers"),
    ("bc", "hidden_dims", "256", "hidden_dims must be positive whole numbers, not '256'"),
    ("bc", "hidden_dims", 256, "hidden_dims must be positive whole numbers, not 256"),
    ("xql", "loss", "gumbel", "config.loss must be one of rescaled, plain, log, not 'gumbel'"),
    ("xql", "clip_rule", "below", "config.clip_rule must be one of both, above, not 'below'"),
    ("xql", "critic_loss", ["mse"], "config.critic_loss must be one of mse, huber, not"),
]


@pytest.mark.parametrize(("name", "field", "value", "message"), REFUSED)
def test_impossible_value(name, field, value, message):
    with pytest.raises(UserError, match=message):
        make_learner(name, {field: value})


def test_infinity_switches_off():
    learner = make_learner(
        "xql", {"clip": INF, "max_weight": INF, "max_grad_norm": INF, "actor_decay_steps": INF}
    )
    assert np.isinf(
        [learner.clip, learner.max_weight, learner.max_grad_norm, learner.actor_decay_steps]
    ).all()


def test_check_domain():
    check_domain("config.beta", "xql", "beta", 0.1)
    with pytest.raises(UserError, match="expectile"):
        check_domain("config.expectile", "iql", "expectile", 1.0)


def test_q_iteration_scales_beta_by_the_discount():
    make_learner("xql", {"discount": 0.0})
    with pytest.raises(
        UserError, match=r"config\.discount must be within \(0, 1\], as it scales beta, not 0"
    ):
        make_learner("q_iteration", {"discount": 0.0})
