"""Float hyperparameters are traced, so that one program serves a sweep; static ones build another program."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from learner_runs import DECAYING, METHODS, QUICKLY, fitting, flat, init, make, make_batch
from slow_cases import slow_but

from xql_jax.learners.fields import hyperparameters, traced_names
from xql_jax.learners.registry import make_learner

OTHER_STATICS = [
    ("xql", {"actor_hidden_dims": (4, 4)}),
    ("xql", {"value_hidden_dims": (4, 4)}),
    ("xql", {"critic_hidden_dims": (4, 4)}),
    ("xql", {"loss": "log"}),
    ("xql", {"clip_rule": "above"}),
    ("xql", {"critic_loss": "huber"}),
    ("xql", {"v_updates": 2}),
    ("xql", {"uniform_actions": 1}),
    ("xql", {"action_noise": 0.1}),
    ("xql", {"layer_norm": True}),
    ("xql", {"num_critics": 1}),
    ("bc", {"dropout_rate": 0.1}),
    ("mxql", {"order": 2}),
    ("xql+mixture", {"num_components": 2}),
    ("sac", {"uses_value_network": False}),
    ("cql", {"deterministic_backup": False}),
    ("cql", {"cql_actions": 5}),
    ("brac_p", {"divergence": "mmd"}),
    ("brac_p", {"divergence_samples": 2}),
    ("brac_p", {"behavior_hidden_dims": (4, 4)}),
    ("bear", {"kernel": "gaussian"}),
    ("bear", {"backup_actions": 2}),
    ("td3", {"actor_period": 1}),
    ("td3", {"target_period": 1}),
    ("rebrac", {"critic_layer_norm": False}),
    ("rlpd", {"num_min_critics": 1}),
    ("rlpd", {"backup_entropy": False}),
    ("awac", {"value_actions": 2}),
    ("dt", {"context_length": 2}),
    ("dt", {"max_timesteps": 6}),
    ("dt", {"embed_dim": 4}),
    ("dt", {"num_layers": 2}),
    ("dt", {"num_heads": 2}),
]
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


@pytest.mark.parametrize("case", slow_but(OTHER_STATICS, *OTHER_STATICS[:12]), ids=str)
def test_static_change_builds_another_program(case):
    (name, change), counted, programs = case, Counted(), []
    for config in ({}, change, {}):
        learner = make(name, (4,), **config)
        batch = fitting(learner, make_batch())
        state = jax.eval_shape(init, learner, batch)
        programs.append(str(counted.update.trace(learner, state, batch, jax.random.key(0)).jaxpr))
    assert counted.traces == 2
    assert programs[0] != programs[1]
    assert programs[0] == programs[2]


@pytest.mark.parametrize("name", METHODS)
def test_leaves_are_strong_float32(name):
    learner = make_learner(name, {"actor_lr": 1, "max_grad_norm": np.float64(2.0)})
    leaves = jax.tree.leaves(learner)
    assert len(leaves) == len(traced_names(learner)) + ("decay_actor_lr" in hyperparameters(learner))
    for leaf in map(jax.typeof, leaves):
        assert leaf.dtype == jnp.float32
        assert not leaf.weak_type
