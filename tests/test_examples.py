"""The examples run as a newcomer runs them, and print the numbers that theory says."""

import functools
import re

import numpy as np
import pytest
from driver import ROOT, run_main

EXAMPLES = ROOT / "examples"
# Tested elsewhere.
NO_SCRIPTS = {"ant_field.py", "antmaze_data.py", "draw_maze.py", "ogbench_agent.py", "ogbench_data.py"}
pytestmark = pytest.mark.slow
NUMBER = re.compile(r"(?<!\S)(?:-?\d+(?:\.\d+)?(?:e-?\d+)?|inf|-)(?!\S)")


@functools.cache
def printed(name):
    """Runs the script; returns its lines."""
    outcome = run_main([], main=EXAMPLES / name)
    assert (outcome.code, outcome.err) == (0, "")
    return outcome.out.splitlines()


def rows(name, label):
    """The numbers that end each line whose beginning matches the label, f64[rows, columns]; "-" is nan."""
    found = [line[match.end() :] for line in printed(name) if (match := re.match(label, line))]
    cells = [NUMBER.findall(rest) for rest in found]
    return np.array([[np.nan if cell == "-" else float(cell) for cell in row] for row in cells])


@pytest.mark.parametrize("name", sorted({path.name for path in EXAMPLES.glob("*.py")} - NO_SCRIPTS))
def test_it_runs_in_silence(name):
    assert printed(name)


def test_xql_learns_the_empirical_soft_mdp():
    table = rows("soft_mdp.py", " +[0-9](?= )")
    assert table.shape == (6, 3)
    true, empirical, learnt = table.T
    np.testing.assert_allclose(learnt, empirical, atol=2e-3)
    # Data, not learning, is what parts it from the truth; and the states differ by much more than either.
    assert 0.02 < np.abs(empirical - true).max() < 0.3
    assert np.ptp(true) > 1.0


def test_a_gaussian_runs_into_the_wall_and_a_flow_does_not():
    """Eq. 2: of two equally good ways XQL's policy has both; a Gaussian has their mean, which is neither."""
    (data,) = rows("two_ways.py", "the data")
    np.testing.assert_allclose(data, [0.9, 0.45], atol=0.03)  # as drawn
    bc, xql, *others = rows("two_ways.py", "(?:bc|xql[^ ]*)(?=  )")
    assert max(bc[0], xql[0]) < 0.01  # by the centre, all hit the wall
    mixture, weighted, best = others
    assert min(mixture[0], best[0]) > 0.99
    # The samples have both modes: half above the wall, and fewer in the wall than of the data.
    for _, arrive, above in (mixture, weighted, best):
        assert arrive > 0.9
        assert 0.4 < above < 0.6


def test_the_one_file_learns_the_maze():
    (score,) = re.findall(r"has a score of (\S+)\.$", printed("xql_one_file.py")[-1])
    assert float(score) > 60  # cloning has 4
