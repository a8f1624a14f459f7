"""The wave of errors against closed forms, numerical integrals and simulation in the gridworld."""

import dataclasses

import numpy as np
import pytest
from error_runs import DEVIATION, EULER, deterministic_mdp, instances, random_mdp
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate, special

from xql_jax.theory.error_wave import error_wave
from xql_jax.theory.gridworld import FIGURE_4, gridworld
from xql_jax.theory.gumbel import Gumbel


def chain(length, discount):
    """One action, which moves a state on; the last stays."""
    return deterministic_mdp(np.minimum(np.arange(length) + 1, length - 1)[:, None], 1.0, discount)


def test_the_wave_runs_to_parents():
    """A.2.1, "a wave": in a corridor of one-way moves the error is, after t steps, t states *before* its
    source, Gumbel with gamma^t times its deviation; no child sees it.
    """
    wave = error_wave(
        np.random.default_rng(0), chain(6, 0.9), Gumbel(0.7, 2.0), state=3, steps=4, num_samples=20_000
    )
    np.testing.assert_array_equal(wave.distances, [3.0, 2.0, 1.0, 0.0, np.inf, np.inf])
    crest = np.zeros((5, 6), bool)
    crest[[0, 1, 2, 3], [3, 2, 1, 0]] = True
    np.testing.assert_array_equal(wave.gumbel, crest)
    size = np.where(crest, 0.9 ** np.arange(5.0)[:, None], 0.0)
    np.testing.assert_allclose(wave.exact_deviation, size * 2.0 * DEVIATION, atol=1e-11)
    np.testing.assert_allclose(wave.exact_bias, size * (0.7 + 2.0 * EULER), atol=1e-11)
    error = 2.0 * DEVIATION / np.sqrt(20_000)
    np.testing.assert_allclose(wave.simulated_bias, wave.exact_bias, atol=4.0 * error)
    np.testing.assert_allclose(wave.simulated_deviation, wave.exact_deviation, atol=0.06)
    assert wave.simulated_deviation[~crest].max() < 1e-12


@instances
@given(st.integers(-30, 30), st.sampled_from([0.2, 1.0, 3.0]))
def test_a_floor_cuts_the_wave(tenths, scale):
    """Beside a second way out, worth c, an error passes as max(c, Gumbel), whose mean has a closed form."""
    # State 0 can go to the erroneous state 1 or, paying c, to the end, state 2; nothing else pays.
    floor = 0.1 * scale * tenths
    mdp = deterministic_mdp([[1, 2], [2, 2], [2, 2]], [[0.0, floor], [0.0, 0.0], [0.0, 0.0]], 0.5)
    wave = error_wave(
        np.random.default_rng(0), mdp, Gumbel(0.3 * scale, scale), state=1, steps=2, num_samples=1
    )
    location, passed = 0.5 * scale * (0.3 + np.log(2.0)), 0.5 * scale
    w = np.exp((location - floor) / passed)
    mean = floor + passed * (special.exp1(w) + np.log(w) + EULER)
    best = max(floor, 0.0)
    np.testing.assert_allclose(wave.exact_bias[1, 0], mean - best, atol=1e-11 * scale)
    square, _ = integrate.quad(
        lambda x: 2.0 * (x - floor) * -np.expm1(-np.exp(-(x - location) / passed)),
        floor,
        max(floor, location) + 45.0 * passed,
        epsabs=1e-13,
        epsrel=1e-12,
        limit=200,
    )
    deviation = np.sqrt(square - (mean - floor) ** 2)
    np.testing.assert_allclose(wave.exact_deviation[1, 0], deviation, atol=1e-9 * scale)
    assert not wave.gumbel[1, 0]
    np.testing.assert_allclose(wave.exact_bias[2], 0.0, atol=1e-12)  # gone


@pytest.mark.parametrize("cell", [[1, 1], [4, 1], [7, 1]])  # the goal, the middle and the far end
def test_the_wave_in_the_gridworld_is_as_computed(cell):
    """A.2.1: the laws of V_t, computed from best paths, are those of Eq. 25, simulated in Figure 4's maze."""
    state = FIGURE_4.free_cells.tolist().index(cell)
    wave = error_wave(
        np.random.default_rng(0),
        gridworld(FIGURE_4),
        Gumbel(0.0, 0.3),
        state=state,
        steps=8,
        num_samples=5000,
    )
    error = wave.exact_deviation / np.sqrt(5000)
    assert (np.abs(wave.simulated_bias - wave.exact_bias) <= 5.0 * error + 1e-9).all()
    clear = wave.exact_deviation > 0.02
    assert clear.sum() > 20
    np.testing.assert_allclose(wave.simulated_deviation[clear], wave.exact_deviation[clear], rtol=0.15)
    # Nothing runs faster than a state a step.
    unreached = wave.distances > np.arange(9)[:, None]
    assert wave.exact_deviation[unreached].max() < 1e-12
    assert wave.simulated_deviation[unreached].max() < 1e-12


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda mdp: short_wave(mdp, noise=Gumbel(0.0, 1.0, -1)), "noise must have sign 1.*-1"),
        (lambda mdp: short_wave(mdp, state=4), "state must be a state, 0 to 3, not 4"),
        (lambda mdp: short_wave(mdp, steps=0), "steps must be .*0"),
        (lambda mdp: short_wave(mdp, num_samples=0), "num_samples must be .*0"),
        (
            lambda mdp: short_wave(dataclasses.replace(mdp, discount=0.0)),
            r"discount must be within \(0, 1\), not 0.0",
        ),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call(random_mdp(0, num_successors=1))


def short_wave(mdp, **changes):
    arguments = {"noise": Gumbel(0.0, 1.0), "state": 0, "steps": 1, "num_samples": 1} | changes
    return error_wave(np.random.default_rng(0), mdp, arguments.pop("noise"), **arguments)


def test_stochastic_dynamics_are_refused():
    """A.2.1 assumes deterministic dynamics."""
    with pytest.raises(ValueError, match=r"mdp must be deterministic.* action 0 in state 0 can lead to"):
        short_wave(random_mdp(3, num_successors=4))
