"""Hyperparameters: flat names, what they may be, and what is refused on the way into a learner."""

import dataclasses
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from learner_runs import METHODS, REPLACED, same

from xql_jax.errors import UserError
from xql_jax.learners.fql import FQL
from xql_jax.learners.method import Part
from xql_jax.learners.rebrac import ReBRAC
from xql_jax.learners.registry import make_learner
from xql_jax.learners.rlpd import RLPD
from xql_jax.settings import POSITIVE, UNIT_INTERVAL, part, settings_of, traced, values_of, with_values

INF = float("inf")


def declared(owner):
    """Every field of a learner and of its parts, as the dataclasses have them, with who holds it."""
    for field in dataclasses.fields(owner):
        if field.name == "pytree_class":  # see `Distinct`
            continue
        yield owner, field
        if isinstance(getattr(owner, field.name), Part):
            yield from declared(getattr(owner, field.name))


@pytest.mark.parametrize("name", [*METHODS, *REPLACED])
def test_every_field_is_checked_a_part_or_internal_and_has_a_name_of_its_own(name):
    learner = make_learner(name)
    names = [field.name for _, field in declared(learner) if field.name != "max_grad_norm"]  # all networks'
    assert len(names) == len(set(names))
    for owner, field in declared(learner):
        assert sum(kind in field.metadata for kind in ("setting", "part", "internal")) == 1
        assert ("part" in field.metadata) == isinstance(getattr(owner, field.name), Part)
        if "setting" in field.metadata:
            # -1 is in no domain, but for returns, and this word neither a number nor the name of a function.
            lowest = -INF if field.name == "target_return" else -1.0
            for wrong in ("wrong", lowest if isinstance(field.default, float) else -1):
                with pytest.raises(UserError, match=f"^{field.name}=.*: must be "):
                    type(owner)(**{field.name: wrong})


@pytest.mark.parametrize("name", METHODS)
def test_hyperparameters_round_trip(name):
    config = values_of(make_learner(name))
    same(make_learner(name, config), make_learner(name))
    same(METHODS[name](**config), make_learner(name))
    assert all(isinstance(value, str | bool | int | float | tuple) for value in config.values())


@pytest.mark.parametrize("learner", [FQL, ReBRAC, RLPD])
def test_methods_with_layer_norm_in_q_have_it_as_classes_of_ones_own_too(learner):
    class Own(learner):
        pass

    assert values_of(Own())["critic_layer_norm"]


def test_values_arrive():
    learner = make_learner("xql")
    changed = {"beta": 0.7, "discount": 0.5, "value_hidden_dims": (8, 4), "v_updates": 3, "layer_norm": True}
    again = with_values(learner, changed)
    assert again.value.beta == np.float32(0.7)
    assert values_of(again) == values_of(learner) | changed  # 0.7, not float32's 0.699999988


@pytest.mark.parametrize(
    ("field", "advice"),
    # misspelt; a part; what another program calls IQL's temperature
    [
        ("expectiles", "nearest known: expectile"),
        ("value", "nearest known: "),
        ("beta", "give awr_temperature"),
    ],
)
def test_unknown_hyperparameter(field, advice):
    with pytest.raises(UserError, match=f"^{field}: unknown setting; {advice}"):
        make_learner("iql", {field: 1.5})


REFUSED = [
    ("xql", "beta", 0.0, "beta=0: must be a finite number, positive"),
    ("xql", "beta", float("nan"), "beta=nan: must be a finite number, positive"),
    ("xql", "beta", 1e39, "beta=1e+39: must be a finite number, positive"),
    ("xql", "beta", True, "beta=true: must be a finite number, positive"),
    ("iql", "expectile", 1 - 1e-12, "expectile=1: must be a finite number, within (0, 1)"),  # 1 in float32
    ("xql", "v_updates", 2.5, "v_updates=2.5: must be a whole number, at least 1"),
    ("bc", "actor_hidden_dims", (256, 0), "actor_hidden_dims=256,0: must be positive whole numbers"),
    ("xql", "clip_rule", "below", "clip_rule=below: must be one of both, above, saturate"),
]


@pytest.mark.parametrize("make", [np.float32, np.array, jnp.float32])
def test_an_impossible_number_of_numpy_or_jax(make):
    with pytest.raises(UserError, match=r"beta=-1.*: must be a finite number, positive"):
        METHODS["xql"](beta=make(-1.0))


def test_a_number_of_the_program_goes_unchecked_and_each_part_checks_for_itself():
    betas = jnp.array([0.5, 1.0])
    made = jax.vmap(lambda beta: METHODS["xql"](beta=beta).value.beta)(betas)
    np.testing.assert_array_equal(made, betas)

    class Share(Part):
        x: float = traced(0.5, UNIT_INTERVAL, "x")

    class Both(Part):
        share: Share = part(Share)
        x: float = traced(0.5, POSITIVE, "x")

    assert with_values(Both(), {"x": 0.7}).share.x == np.float32(0.7)
    with pytest.raises(UserError, match="x=3: must be a finite number, within"):
        with_values(Both(), {"x": 3.0})


@pytest.mark.parametrize(("name", "field", "value", "message"), REFUSED)
def test_impossible_value(name, field, value, message):
    """By one text, wherever the value is given; also to the part itself that holds it."""
    learner = make_learner(name)
    holder = next(type(owner) for owner, known in declared(learner) if known.name == field)
    for call in (METHODS[name], holder, lambda **config: with_values(learner, config)):
        with pytest.raises(UserError) as caught:
            call(**{field: value})
        assert str(caught.value) == message
    with pytest.raises(UserError, match=f"^--sweep: {re.escape(message)}$"):
        settings_of(learner)[field].checked(f"--sweep: {field}", value)
