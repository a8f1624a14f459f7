"""The names of methods, policies, heads and hyperparameters: what they make, mean, refuse and load."""

import json
import subprocess
import sys
from pathlib import Path

import jax
import pytest
from learner_runs import METHODS, REPLACED, init, make, make_batch, update

import xql_jax
from xql_jax.configuration import OnlineFields
from xql_jax.errors import UserError
from xql_jax.learners import value_fits
from xql_jax.learners.descriptions import FieldDescription, describe_fields
from xql_jax.learners.in_sample import InSample
from xql_jax.learners.registry import HEADS, OFFLINE, ONLINE, POLICIES, make_learner

PACKAGE = Path(xql_jax.__file__).parent


def test_every_file_of_value_fits_is_a_method_of_its_name():
    """V of the method is fitted by a class of that very file."""
    names = {path.stem for path in Path(value_fits.__file__).parent.glob("*.py")} - {"__init__"}
    for name in names:
        assert type(make_learner(name).value).__module__ == f"xql_jax.learners.value_fits.{name}"
    assert names | {"q_iteration"} == {name for name in OFFLINE if isinstance(make_learner(name), InSample)}
    assert {"xql", "iql", "sql", "eql", "mxql", "dvl_chi2", "dvl_tv", "qql", "xql_bellman"} <= names


LOADED = """
import json, sys
from xql_jax.learners.registry import OFFLINE, make_learner
before = sorted(sys.modules)
make_learner("xql")
print(json.dumps([before, sorted(sys.modules)]))
"""


def test_a_name_loads_its_own_method_alone_and_xql_is_read_in_six_files():
    found = subprocess.run([sys.executable, "-c", LOADED], capture_output=True, text=True, check=True).stdout
    rooms = ("xql_jax.losses.", "xql_jax.networks.", "xql_jax.learners.")
    before, after = ({name for name in loaded if name.startswith(rooms)} for loaded in json.loads(found))
    assert {name.rpartition(".")[2] for name in before} == {"registry", "fields", "value_fits"}
    files = [PACKAGE.parent / (name.replace(".", "/") + ".py") for name in after - before]
    assert len(files) <= 6, after - before
    assert sum(len(file.read_text().splitlines()) for file in files) <= 750


def test_unknown_algorithm():
    known = ", ".join(sorted(METHODS))
    for name in ("xqll", "xqll+forward_kl"):
        with pytest.raises(UserError, match=f"^unknown algorithm 'xqll'; known: {known}$"):
            make_learner(name)


@pytest.mark.parametrize("name", REPLACED)
def test_every_method_trains_with_every_policy(name):
    learner, batch = make(name), make_batch()
    state = jax.eval_shape(init, learner, batch)
    after, metrics = jax.eval_shape(update, learner, state, batch, jax.random.key(0))
    assert jax.tree.structure(after) == jax.tree.structure(state)
    assert "actor/loss" in metrics


ALL = "forward_kl, gaussian, max_q, mixture, narrow_gaussian, reverse_kl, squashed, state_gaussian, "


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("xql+zzzz", f"xql has no policy 'zzzz'; known: {ALL}trust_region$"),
        ("xql+gaussian+zzzz", "xql has no policy 'zzzz'"),
        ("xql+", "xql has no policy ''"),
        ("xql+iql", "xql has no policy 'iql'"),
        ("value_iteration+max_q", "value_iteration has no policy 'max_q'"),  # it has no Q
        ("bear+forward_kl", "bear has no policy 'forward_kl'"),  # it has no V
        ("bc+forward_kl", "bc has no policy 'forward_kl'"),  # it has no advantages
        ("sac+forward_kl", "sac has a policy of its own, and takes no other: leave out .forward_kl"),
        ("cql+gaussian", "cql has a policy of its own, and takes no other: leave out .gaussian"),
        ("td3_bc+squashed", "td3_bc has a policy of its own, and takes no other: leave out .squashed"),
        ("dt+gaussian", "dt has a policy of its own, and takes no other: leave out .gaussian"),
    ],
)
def test_policies_that_a_method_does_not_have(name, message):
    with pytest.raises(UserError, match=f"^{message}"):
        make_learner(name)


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
