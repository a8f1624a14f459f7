"""Float hyperparameters are traced, so that one program serves a sweep; static ones build another program."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from learner_runs import DECAYING, METHODS, QUICKLY, fitting, flat, init, make, make_batch
from slow_cases import slow_but

from xql_jax.learners.fields import hyperparameters, traced_names
from xql_jax.learners.registry import make_learner

CASES = {name: (name, {}) for name in METHODS}
CASES |= {"sac without V": ("sac", {"uses_value_network": False}), "rlpd": ("rlpd", {"actor_period": 1})}
QUICK = (
    "xql",
    "xtd3",
    "sac without V",
)  # one with V, one with critics alone, one whose temperature is learned


class Counted:
    """A jitted update that counts its traces."""

    def __init__(self):
        self.traces = 0

        @jax.jit(compiler_options=QUICKLY)
        def update(learner, state, batch, key):
            self.traces += 1
            return learner.update(state, batch, key)

        self.update = update


@pytest.mark.parametrize("case", slow_but(CASES, *QUICK))
def test_one_trace_serves_every_float_and_each_has_its_effect(case):
    (name, statics), counted = CASES[case], Counted()
    learner = make(name, **statics)
    batch = fitting(learner, make_batch())

    def run(learner):
        state = init(learner, batch)
        for step in range(2):  # the state that comes out must fit the trace that took the first one in
            state, _ = counted.update(learner, state, batch, jax.random.key(step))
        return flat(state)

    # Not the defaults, and small enough for the caps and the clips to bite: each field must have its effect.
    changes = {
        "actor_lr": 1e-2, "value_lr": 1e-2, "critic_lr": 1e-2, "max_grad_norm": 1e-9, "discount": 0.5,
        "tau": 0.5, "awr_temperature": 1.5, "max_weight": 0.1, "beta": 0.6, "clip": 0.1, "expectile": 0.9,
        "entropy_coef_lr": 1e-2, "initial_entropy_coef": 0.5, "target_noise": 0.6, "target_noise_clip": 0.05,
        "least_beta": 5.0, "actor_bc_coef": 1.0, "critic_bc_coef": 1.0,
        "cql_alpha": 1, "cql_threshold": 2, "behavior_lr": 1e-2, "warm_start": 0, "min_share": 0.5,
        "brac_alpha": 3, "mmd_sigma": 3, "mmd_threshold": 2, "multiplier_lr": 1e-2,
        "target_entropy_share": 20.0, "return_scale": 1.0, "weight_decay": 10.0, "actor_warmup_steps": 100.0,
    }  # fmt: skip
    learner = make(name, **statics)
    config = hyperparameters(learner)
    fields = set(traced_names(learner)) - {"exploration_noise", "target_return"}  # of acting alone
    if case == "sac without V":
        fields.remove("value_lr")
    changed = {
        field: make(name, **statics, **{field: changes.get(field, 0.7 * config[field])}) for field in fields
    }
    if name in DECAYING:
        changed["a schedule"] = learner.scheduled(2)
    reference = run(learner)
    for change, other in changed.items():
        assert np.abs(run(other) - reference).max() > 1e-8, change
    assert counted.traces == 1


@pytest.mark.parametrize("name", METHODS)
def test_leaves_are_strong_float32(name):
    learner = make_learner(name, {"actor_lr": 1, "max_grad_norm": np.float64(2.0)})
    leaves = jax.tree.leaves(learner)
    assert len(leaves) >= len(traced_names(learner)) + ("decay_actor_lr" in hyperparameters(learner))
    for leaf in map(jax.typeof, leaves):
        assert leaf.dtype == jnp.float32
        assert not leaf.weak_type
