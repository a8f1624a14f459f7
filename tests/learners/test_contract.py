"""What all learners promise: one trace for every float, delays, Bellman errors, documented metrics."""

import itertools

import jax
import numpy as np
import pytest
from learner_runs import DECAYING, METHODS, QUICKLY, fitting, flat, init, make, make_batch
from linear_runs import MEANS, SLOPES, STATE_TERMS, STDS, linear_actor, transition, with_critics
from slow_cases import slow_but

from xql_jax.settings import settings_of, values_of

CASES = {name: (name, {}) for name in METHODS}
CASES |= {"sac without V": ("sac", {"uses_value_network": False}), "rlpd": ("rlpd", {"actor_period": 1})}
QUICK = ("xql", "xtd3", "sac without V")  # with V, with critics alone, with a temperature that is learned


@pytest.mark.parametrize("case", slow_but(CASES, *QUICK))
def test_one_trace_serves_every_float_and_each_has_its_effect(case):
    (name, statics), traces = CASES[case], []
    learner = make(name, **statics)
    batch = fitting(learner, make_batch())

    @jax.jit(compiler_options=QUICKLY)
    def update(learner, state, batch, key):
        traces.append(name)
        return learner.update(state, batch, key)

    def run(learner):
        state = init(learner, batch)
        for step in range(2):  # the state that comes out must fit the trace that took the first one in
            state, _ = update(learner, state, batch, jax.random.key(step))
        return flat(state)

    # Not the defaults, and small enough for the caps and the clips to bite: each field must have its effect.
    changes = {
        "actor_lr": 1e-2, "value_lr": 1e-2, "critic_lr": 1e-2, "max_grad_norm": 1e-9, "discount": 0.5,
        "tau": 0.5, "awr_temperature": 1.5, "max_weight": 0.1, "beta": 0.6, "clip": 0.1, "expectile": 0.9,
        "entropy_coef_lr": 1e-2, "initial_entropy_coef": 0.5, "target_noise": 0.6, "target_noise_clip": 0.05,
        "beta_nats": 0.5, "policy_nats": 0.5, "critic_weight_decay": 10.0, "least_beta": 5.0,
        "actor_bc_coef": 1.0, "critic_bc_coef": 1.0,
        "cql_alpha": 1, "cql_threshold": 2, "behavior_lr": 1e-2, "warm_start": 0, "min_share": 0.5,
        "brac_alpha": 3, "mmd_sigma": 3, "mmd_threshold": 2, "multiplier_lr": 1e-2,
        "target_entropy_share": 20.0, "return_scale": 1.0, "weight_decay": 10.0, "actor_warmup_steps": 100.0,
    }  # fmt: skip
    learner = make(name, **statics)
    config = values_of(learner)
    # Those of acting alone.
    elsewhere = {"exploration_noise", "target_return"}
    fields = {one for one, known in settings_of(learner).items() if known.traced} - elsewhere
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
    assert len(traces) == 1


BATCH = make_batch()
ACTOR_PERIOD, TARGET_PERIOD = 3, 2


def networks(state):
    """Copies of what may stand still or move, by name: networks with Adam's moments, and targets."""
    states = {"policy": state.policy, "value": state.value, "critic": state.critic}
    states["coefficient"] = getattr(state.policy, "log_entropy_coef", None)
    found = {}
    for name, network in states.items():
        if network is not None:
            found[name] = flat((network.params, network.optimizer_state))
        if network is not None and network.target is not None:
            found[f"target {name}"] = flat(network.target)
    return found


# One learner of each structure, and its networks.
@pytest.mark.parametrize(
    ("name", "options", "names"),
    [
        ("sac", {"uses_value_network": False}, {"policy", "coefficient", "critic", "target critic"}),
        ("xsac", {}, {"policy", "coefficient", "critic", "value", "target value"}),
        ("td3", {}, {"policy", "target policy", "critic", "target critic"}),
    ],
)
def test_delayed_updates_come_exactly_when_due(name, options, names):
    """Also: states can be donated, and metrics are always there."""
    periods = {"actor_period": ACTOR_PERIOD, "target_period": TARGET_PERIOD}
    learner = make(name, actor_lr=0.01, tau=0.25, **periods, **options)
    donating = jax.jit(learner.update, donate_argnums=0, compiler_options=QUICKLY)
    state = init(learner, BATCH)
    reports = [0.0]
    for step in range(1, 8):
        before = networks(state)
        state, metrics = donating(state, BATCH, jax.random.key(step))  # a buffer with two names would raise
        after = networks(state)
        assert after.keys() == names
        due = {"critic", "value"}
        if step % ACTOR_PERIOD == 0:
            due |= {"policy", "coefficient"}
        if step % TARGET_PERIOD == 0:
            due |= {"target critic", "target value"}
            if step > ACTOR_PERIOD:  # before the actor's first step its target has nothing to follow
                due.add("target policy")
        assert {name for name in names if (after[name] != before[name]).any()} == due & names
        assert all(np.isfinite(metric) and metric.shape == () for metric in metrics.values())
        reports.append(float(metrics["actor/loss"]))
    changes = [new != old for old, new in itertools.pairwise(reports)]
    assert changes == [step % ACTOR_PERIOD == 0 for step in range(1, 8)]  # the actor's last, until the next
    assert int(state.step) == 7


@pytest.mark.parametrize("name", ["sac", "td3"])
def test_bellman_errors_are_those_of_appendix_d2(name):
    """Linear critics and policy over three states: first critic, central action, no target network."""
    learner, states, successors = make(name, (), discount=0.9), [0, 1, 2, 0], [1, 2, 0, 0]
    actions, rewards, masks = np.array([-0.9, 0.3, 0.9, 0.5]), np.arange(4.0), np.array([1, 1, 0, 1])
    eye = np.eye(3)
    batch = transition(eye[states], actions[:, None], rewards, eye[successors], actions[:, None], masks)
    policy = linear_actor(MEANS, STDS)
    if name == "td3":
        policy = jax.tree.map(lambda leaf: leaf[..., :1], policy)  # the means
    # A target critic or actor, where there is one, is another.
    state = with_critics(init(learner, batch), (STATE_TERMS, SLOPES), (STATE_TERMS + 1.0, SLOPES))
    state = state.replace(policy=state.policy.replace(params=policy))
    q = STATE_TERMS[0][states] + SLOPES[0] * actions
    next_q = STATE_TERMS[0][successors] + SLOPES[0] * np.tanh(MEANS[successors, 0])
    expected = rewards + 0.9 * masks * next_q - q
    np.testing.assert_allclose(learner.bellman_errors(state, batch), expected, rtol=1e-5, atol=1e-6)
