"""Members: which a sweep and the seeds make, their names, and their parts of what is stacked."""

import jax
import numpy as np

from xql_jax.learners.registry import make_learner
from xql_jax.runs.varied import parse_sweep
from xql_jax.settings import settings_of
from xql_jax.training.members import Member, learners_of, make_members, member_keys


def parsed(text):
    return parse_sweep(text, settings_of(make_learner("xql")))


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
    assert make_members([3], parsed("")) == [Member(3, {})]


def test_no_two_members_have_one_name():
    """Not even of float32 values next to each other: names are of files."""
    near = float(np.nextafter(np.float32(0.1), np.float32(1)))
    members = make_members([3, 4], {"beta": [0.1, near, 1e8], "tau": [0.5]})
    assert members[0].name == "seed3_beta=0.1_tau=0.5"
    assert len({member.name for member in members}) == 6


def test_each_member_has_its_hyperparameters():
    """Wherever in the learner they are, and as arrays: none is a constant of the program."""
    learners = learners_of(make_learner("xql"), make_members([0], {"beta": [0.5, 3.0], "tau": [0.25]}))
    assert [(float(x.value.beta), float(x.tau)) for x in learners] == [(0.5, 0.25), (3.0, 0.25)]
    assert all(isinstance(leaf, jax.Array) and leaf.shape == () for leaf in jax.tree.leaves(learners))


def test_keys_are_never_shared():
    keys = [key for seed in (0, 1) for key in member_keys(Member(seed, {}))]
    assert len({tuple(jax.random.key_data(key).tolist()) for key in keys}) == 8
