"""Every hyperparameter is described, in the words by which its check refuses other values."""

from xql_jax.configuration import OnlineFields
from xql_jax.learners.descriptions import FieldDescription, describe_fields
from xql_jax.learners.registry import HEADS, OFFLINE, ONLINE, POLICIES

ALGORITHMS = (*OFFLINE, *ONLINE, *(f"xql+{name}" for name in (*POLICIES, *HEADS)))


def described():
    return {name: describe_fields(name) for name in ALGORITHMS} | {"": describe_fields(OnlineFields())}


def test_each_hyperparameter_has_a_meaning():
    assert [row for rows in described().values() for row in rows if not row.meaning] == []


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
