"""Every hyperparameter is described, in the words by which its check refuses other values."""

import pytest

from xql_jax.configuration import OnlineFields
from xql_jax.errors import UserError
from xql_jax.learners.descriptions import FieldDescription, describe_fields
from xql_jax.learners.fields import hyperparameters
from xql_jax.learners.registry import HEADS, OFFLINE, ONLINE, POLICIES, make_learner

ALGORITHMS = (*OFFLINE, *ONLINE, *(f"xql+{name}" for name in (*POLICIES, *HEADS)))


def described():
    return {name: describe_fields(name) for name in ALGORITHMS} | {"": describe_fields(OnlineFields())}


def test_each_hyperparameter_has_a_meaning():
    assert [row for rows in described().values() for row in rows if not row.meaning] == []


@pytest.mark.parametrize("algorithm", ["xql", "cql", "dt", "rlpd", "xtd3"])
def test_the_defaults_are_the_learner_s(algorithm):
    rows = describe_fields(algorithm)
    assert {row.name: row.default for row in rows} == hyperparameters(make_learner(algorithm))


def test_a_row_says_where_its_default_is_from():
    rows = {(name, row.name): row for name, rows in described().items() for row in rows}
    meaning = "Expectile of Q that V is fitted to: 0.5 is the mean, near 1 the maximum."
    expected = FieldDescription("expectile", 0.7, "within (0, 1)", meaning, "Expectile")
    assert rows["iql", "expectile"] == expected
    # AWAC's temperature is its own, not that of the objective that it shares with XQL.
    assert (rows["awac", "awr_temperature"].default, rows["awac", "awr_temperature"].source) == (
        0.5,
        "method awac",
    )
    assert (rows["xql", "awr_temperature"].default, rows["xql", "awr_temperature"].source) == (
        3.0,
        "ForwardKL",
    )
    # One name that means two things: it is the class that decides.
    assert "expanded" in rows["mxql", "beta"].meaning
    assert "expanded" not in rows["xsac", "beta"].meaning


@pytest.mark.parametrize(
    ("algorithm", "name", "impossible", "words"),
    [
        ("xql", "beta", -1.0, "positive"),
        ("xql", "clip", 0.0, "positive"),
        ("xql", "loss", "nonsense", "one of rescaled, plain, log"),
        ("xql", "v_updates", 0, "at least 1"),
        ("xql", "value_hidden_dims", (0,), "positive whole numbers"),
        ("iql", "expectile", 1.0, "within (0, 1)"),
    ],
)
def test_a_domain_is_said_as_its_check_says_it(algorithm, name, impossible, words):
    (row,) = (row for row in describe_fields(algorithm) if row.name == name)
    assert words in row.domain
    with pytest.raises(UserError, match=words.replace("(", r"\(").replace(")", r"\)")):
        make_learner(algorithm, {name: impossible})
