"""Reading the last checkpoint of a run that is still training and removes old ones."""

import types

import pytest

from xql_jax.errors import UserError
from xql_jax.runs.saved_policies import TRIES, read_checkpoint


def run_with(*listings):
    """A run whose folder has these checkpoints, one listing after the other; the last one stays."""
    left = list(listings)

    class Record(types.SimpleNamespace):
        @property
        def steps(self):
            return left.pop(0) if len(left) > 1 else left[0]

    return Record(path="run")


def reader(*gone):
    """Reads a checkpoint, unless it is gone."""

    def read(step):
        if step in gone:
            raise UserError(f"no checkpoint of step {step}")
        return f"state {step}"

    return read


def test_the_last_checkpoint_is_read_and_any_other_if_asked_for():
    assert read_checkpoint(run_with([1, 2]), None, reader()) == ("state 2", 2)
    assert read_checkpoint(run_with([1, 2]), 1, reader()) == ("state 1", 1)


def test_one_that_disappears_while_it_is_read_gives_way_to_the_newest():
    run = run_with([1, 2], [3], [3], [4])  # listed before and after each attempt
    assert read_checkpoint(run, None, reader(2, 3)) == ("state 4", 4)


def test_a_failure_on_one_that_is_still_there_is_told():
    with pytest.raises(UserError, match=r"^no checkpoint of step 2$"):
        read_checkpoint(run_with([1, 2]), None, reader(2))


def test_a_run_without_any_left_is_told():
    with pytest.raises(UserError, match=r"^run: the run has no checkpoint$"):
        read_checkpoint(run_with([1], []), None, reader(1))


def test_one_that_was_asked_for_is_not_replaced():
    with pytest.raises(UserError, match=r"^no checkpoint of step 1$"):
        read_checkpoint(run_with([1, 2], [2, 3]), 1, reader(1))


def test_it_gives_up_on_a_run_that_is_too_fast():
    listings = [[step] for step in range(2 * TRIES + 1)]
    with pytest.raises(
        UserError, match=r"^run: its checkpoints go faster than they can be read: stop the run"
    ):
        read_checkpoint(run_with(*listings), None, reader(*range(2 * TRIES)))
