"""Which methods ask Q about actions that the data lack in that state: XQL does not (paper, Section 1)."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from learner_runs import fitting, init, make, make_batch

from xql_jax.learners.parts import CriticState


@pytest.fixture
def pairs_asked(monkeypatch):
    """Returns a function of a method: the pairs (s, a) that its critics see in an update, and the data's."""

    def asked_by(name):
        learner = make(name)
        batch = fitting(learner, make_batch())
        state, seen, apply = init(learner, batch), [], CriticState.apply

        def spy(self, params, observations, actions):
            shape = jnp.broadcast_shapes(observations.shape[:-1], actions.shape[:-1])
            pairs = [jnp.broadcast_to(each, (*shape, each.shape[-1])) for each in (observations, actions)]
            jax.debug.callback(
                lambda rows: seen.append(np.asarray(rows).reshape(-1, rows.shape[-1])),
                jnp.concatenate(pairs, axis=-1),
            )
            return apply(self, params, observations, actions)

        monkeypatch.setattr(CriticState, "apply", spy)
        jax.block_until_ready(learner.update(state, batch, jax.random.key(1)))
        jax.effects_barrier()
        data = np.concatenate([batch.observations, batch.actions], axis=-1)
        return set(map(tuple, np.concatenate(seen))), set(map(tuple, data))

    return asked_by


@pytest.mark.parametrize("name", ["xql", "xql_bellman", "mxql", "iql", "sql", "eql", "dvl_chi2"])
def test_in_sample_methods_ask_q_about_the_data_s_pairs_alone(name, pairs_asked):
    asked, data = pairs_asked(name)
    assert asked == data


@pytest.mark.parametrize("name", ["td3_bc", "xql+reverse_kl", "q_iteration"])
def test_methods_that_climb_q_or_look_ahead_ask_about_other_pairs(name, pairs_asked):
    asked, data = pairs_asked(name)
    assert len(asked - data) >= 16
