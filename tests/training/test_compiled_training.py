"""Acting, inserting and learning in one program: what is learned from, in which order, what comes back."""

import jax
import numpy as np
import online_fakes
import pytest
from jax_point_mass import FRICTION, PUSH, Breaking, PointMass
from online_fakes import make_in_program

N = 3


def transitions(trainer, index=0):
    """What a member's buffer holds, oldest first, before it is full; [steps, N, ...]."""
    rows = online_fakes.transitions(trainer, index)
    return jax.tree.map(lambda field: field.reshape(-1, N, *field.shape[1:]), rows)


@pytest.mark.slow
def test_one_row_a_step_which_the_environments_made(tmp_path):
    """The buffer against NumPy, from the first observations and the actions that it holds itself."""
    trainer = make_in_program(tmp_path)
    trainer.advance(90)
    rows = transitions(trainer)
    for number in range(N):
        keys = jax.random.split(jax.random.key(0), 4)[3], number
        for step in range(30):
            if step % PointMass.episode_limit == 0:  # nobody comes beyond 2
                key = jax.random.fold_in(jax.random.fold_in(*keys), step // PointMass.episode_limit)
                (position, velocity), episode_return = np.asarray(PointMass().reset(key)[1]), 0.0
            np.testing.assert_allclose(
                rows.observations[step, number], [position, velocity], rtol=1e-4, atol=1e-6
            )
            velocity = FRICTION * velocity + PUSH * rows.actions[step, number, 0]
            position = position + velocity
            episode_return += 1.0 - abs(position)
            np.testing.assert_allclose(
                rows.next_observations[step, number], [position, velocity], rtol=1e-4, atol=1e-6
            )
            np.testing.assert_allclose(rows.rewards[step, number], 1.0 - abs(position), rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(rows.masks, 1.0)  # also at the time limit


def test_the_warm_up_s_actions_are_uniform_within_the_bounds(tmp_path):
    trainer = make_in_program(tmp_path, warmup_steps=240)
    trainer.advance(240)
    actions = np.sort(transitions(trainer).actions, axis=None)
    # Kolmogorov's distance from the uniform law: of 0.1% of the samples it is beyond 1.95 / sqrt(n).
    assert np.abs((actions + 1.0) / 2.0 - np.linspace(0.0, 1.0, 240)).max() < 1.95 / np.sqrt(240)


def test_who_acts_has_learned_all_that_was_due(tmp_path):
    trainer = make_in_program(tmp_path)
    trainer.advance(30)
    rows = transitions(trainer)
    acted = np.round(1000 * rows.actions[2:, :, 0]).astype(int)  # after the warm-up
    due = [[trainer.schedule.updates_by(step)] * N for step in range(6, 30, N)]
    np.testing.assert_array_equal(acted, due)
    assert float(trainer.population.states["updates"][0]) == 24
    random = rows.actions[:2].ravel()
    assert len(np.unique(random)) == 2 * N  # each environment has its own at every step
    assert np.abs(random).max() > 0.1


def test_numbers_beyond_those_of_floats(tmp_path):
    """Updates that are due are counted exactly, where float32 has no odd numbers any more."""
    trainer = make_in_program(tmp_path)
    trainer.step = start = 2**24 + 3
    trainer.advance(start + 4 * N)
    np.testing.assert_array_equal(trainer.population.groups[0].data[:5], start - 6 + N * np.arange(5))
    assert trainer.population.states["updates"].tolist() == [4 * N]


def test_simulations_that_fail_are_counted(tmp_path):
    trainer = make_in_program(tmp_path, environment=Breaking)
    trainer.advance(36)
    assert trainer.failures == 2 * N
    assert all(np.isfinite(field).all() for field in transitions(trainer))
