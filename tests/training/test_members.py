"""Members: which a sweep and the seeds make, their names, and their parts of what is stacked."""

import jax
import numpy as np
import pytest

from xql_jax.errors import UserError
from xql_jax.learners.registry import make_learner
from xql_jax.training.members import (
    Member,
    learners_of,
    make_members,
    parse_sweep,
)


def parsed(text):
    return parse_sweep(text, make_learner("xql"))


def test_grid_times_seeds():
    grid = parsed("beta=0.6,1e1; tau=0.5")
    assert grid == {"beta": [0.6, 10.0], "tau": [0.5]}
    members = make_members([3, 4], grid)
    assert members == [
        Member(3, {"beta": 0.6, "tau": 0.5}),
        Member(4, {"beta": 0.6, "tau": 0.5}),
        Member(3, {"beta": 10.0, "tau": 0.5}),
        Member(4, {"beta": 10.0, "tau": 0.5}),
    ]
    assert str(members[3]) == "seed 4, beta=10, tau=0.5"
    assert make_members([3], parsed("")) == [Member(3, {})]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("betta=1,2", ["'betta'", "beta"]),
        ("critic_hidden_dims=8", ["'critic_hidden_dims'", "xql-sweep"]),  # static
        ("hidden_dims=8,16", ["'hidden_dims'", "xql-sweep"]),
        ("batch_size=8,16", ["'batch_size'", "xql-sweep"]),
        ("expectile=0.7", ["'expectile'", "awr_temperature"]),  # of another algorithm
        ("beta=high", ["'beta=high'", "NUMBER"]),
        ("beta=", ["'beta='", "NUMBER"]),
        ("beta", ["'beta='", "NUMBER"]),
        ("beta=1,,2", ["'beta=1,,2'", "NUMBER"]),
        ("beta=1,0", ["beta", "positive", "0"]),
        ("beta=nan", ["beta", "nan"]),
        ("beta=1 beta=2", ["beta", "twice"]),
        ("beta=1,2,1.00000001", ["beta", "twice"]),  # the same number in float32
    ],
)
def test_bad_sweeps_are_refused(text, words):
    with pytest.raises(UserError) as error:
        parsed(text)
    for word in ("--sweep", *words) if "positive" not in words and "nan" not in words else words:
        assert word in str(error.value)


def test_no_two_members_have_one_name():
    """`str` tells float32 values next to each other by the same text; names are of files and must not."""
    near = float(np.nextafter(np.float32(0.1), np.float32(1)))
    members = make_members([3, 4], {"beta": [0.1, near, 1e8], "tau": [0.5]})
    assert str(members[0]) == str(members[2]) == "seed 3, beta=0.1, tau=0.5"
    assert members[0].name == "seed3_beta=0.1_tau=0.5"
    assert len({member.name for member in members}) == 6
    assert Member(3, {}).name == "seed3"
    assert not any(set("/ \\:") & set(member.name) for member in members)


def test_each_member_has_its_hyperparameters():
    """Wherever in the learner they are, and as arrays: none is a constant of the program."""
    learners = learners_of(make_learner("xql"), make_members([0], {"beta": [0.5, 3.0], "tau": [0.25]}))
    assert [(float(x.value.beta), float(x.tau)) for x in learners] == [(0.5, 0.25), (3.0, 0.25)]
    assert all(isinstance(leaf, jax.Array) and leaf.shape == () for leaf in jax.tree.leaves(learners))
