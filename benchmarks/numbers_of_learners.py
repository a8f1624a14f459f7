"""Learners after 200 updates on random data, for same_numbers.py: every method, plain and stressed; policies, options."""

# ruff: noqa: E501
import numpy as np

PAIRS = {
    ("bc", "mixture"),
    ("bear", "mixture"),
    ("awac", "mixture"),
    ("brac_p", "squashed"),
    ("onestep", "squashed"),
}


def learners_cases():
    """Name -> {method, config, ...}; only for `write`; `compare` reads cases.json."""
    from xql_jax.learners.registry import HEADS, OFFLINE, ONLINE, POLICIES, make_learner
    from xql_jax.settings import values_of

    def small(name, **config):
        known = values_of(make_learner(name))
        start = {field: (32, 32) for field in known if field.endswith("_hidden_dims")}
        start |= {
            "embed_dim": 16, "num_layers": 1, "context_length": 5, "max_timesteps": 20, "actor_warmup_steps": 50.0,
            "warm_start": 100.0, "cloning_updates": 100.0,
        }  # fmt: skip
        if name.startswith("rlpd"):
            start |= {"num_critics": 4, "actor_period": 5}
        values = {**start, **config}
        return {"method": name, "config": {k: v for k, v in values.items() if k in known}}

    cases = {}
    for name in (*OFFLINE, *ONLINE):
        cases[name] = small(name)
        stressed = small(name, max_grad_norm=0.05, num_critics=4, dropout_rate=0.1)
        cases[f"{name} stressed"] = {**stressed, "scheduled": 150}
    replaced = [f"xql+{x}" for x in (*POLICIES, *HEADS)]
    replaced += [
        "xql+reverse_kl+state_gaussian",
        "xql+trust_region+mixture",
        "xql+max_q+squashed",
        "xql+forward_kl+mixture",
    ]
    replaced += [
        "sql+reverse_kl",
        "qql+max_q",
        "eql+trust_region",
        "xql_bellman+reverse_kl+mixture",
        "q_iteration+reverse_kl",
    ]
    replaced += [
        f"{name}+{head}"
        for name in ("value_iteration", "q_iteration", "bc", "brac_p", "bear", "awac", "onestep")
        for head in ("state_gaussian", "mixture", "squashed")
        if head == "state_gaussian" or (name, head) in PAIRS
    ]
    for name in replaced:
        cases.setdefault(name, small(name, dropout_rate=0.1 if "awac" in name else 0.0))
    options = [
        *(("xql", {"loss": loss, "clip_rule": rule, "clip": 1.0}) for loss, rule in (
            ("plain", "both"), ("plain", "above"), ("rescaled", "saturate"), ("rescaled", "above"), ("log", "both"), ("log", "saturate"))),
        ("xql", {"v_updates": 2, "layer_norm": True, "num_critics": 1}), ("xql", {"uniform_actions": 2, "action_noise": 0.1}),
        ("xql", {"critic_loss": "huber", "num_critics": 4, "max_grad_norm": 0.1}), ("xql", {"decay_actor_lr": False}),
        ("xql", {"tau": 0.1, "discount": 0.5, "beta": 0.5, "awr_temperature": 10.0, "max_weight": 1.5}),
        ("xql_bellman", {"critic_loss": "huber"}), ("xql_bellman", {"num_critics": 1, "errors_share": 0.5, "least_beta": 0.3}),
        ("qql", {"least_scale": 2.0, "uniform_actions": 1}), ("mxql", {"order": 6, "beta": 0.5}),
        ("iql", {"critic_loss": "huber", "layer_norm": True, "expectile": 0.9}),
        ("dvl_chi2", {"uniform_actions": 2, "action_noise": 0.2}), ("dvl_tv", {"action_noise": 0.2}),
        ("value_iteration", {"loss": "log", "v_updates": 2, "layer_norm": True}),
        ("q_iteration", {"loss": "plain", "num_critics": 3, "uniform_actions": 1}),
        ("sac", {"uses_value_network": False}), ("sac", {"v_updates": 2, "layer_norm": True, "actor_period": 2}),
        ("xsac", {"loss": "log", "clip_rule": "saturate", "clip": 1.0}), ("xtd3", {"loss": "plain", "clip_rule": "above", "clip": 1.0}),
        ("td3", {"actor_period": 1, "target_period": 1, "kernel_init": "uniform"}), ("td3_bc", {"q_weight": 0.0}),
        ("rebrac", {"critic_layer_norm": False, "actor_bc_coef": 1.0, "critic_bc_coef": 1.0}),
        ("cql", {"deterministic_backup": False, "cql_actions": 3}), ("cql", {"cql_threshold": 1.0, "max_grad_norm": 0.1}),
        ("brac_p", {"divergence": "mmd"}), ("brac_p", {"divergence_samples": 2, "backup_actions": 3, "min_share": 0.5}),
        ("bear", {"kernel": "gaussian", "backup_actions": 2, "mmd_threshold": 2.0, "mmd_sigma": 3.0}),
        ("awac", {"value_actions": 2}), ("onestep", {"value_actions": 2, "num_critics": 2}),
        ("rlpd", {"num_min_critics": 1, "backup_entropy": False, "actor_period": 1}),
        ("rlpd", {"critic_layer_norm": False, "num_min_critics": 4, "target_entropy_share": 2.0}),
        ("dt", {"num_heads": 2, "num_layers": 2, "max_timesteps": 8, "dropout_rate": 0.0, "weight_decay": 1.0}),
        ("xql+mixture", {"num_components": 2}), ("xql+trust_region", {"anchor_tau": 0.1, "cloning_updates": 20.0}),
        ("xql+max_q", {"q_weight": 0.5}),
    ]  # fmt: skip
    for name, change in options:
        words = ",".join(f"{key}={value}" for key, value in change.items())
        cases[f"{name} {words}"] = small(name, **change)
    for name in ("xql", "cql", "td3"):
        cases[f"{name} vmap"] = {**small(name), "vmap": 2}
    return cases


def collect_learners(case, shop):
    import jax
    import jax.numpy as jnp

    from xql_jax.learners.registry import make_learner

    updates, size, rows = 200, 32, 512
    generator = np.random.default_rng(7)
    flat = {
        "observations": generator.normal(size=(rows, 5)),
        "actions": generator.uniform(-1, 1, (rows, 2)),
        "rewards": generator.normal(size=rows),
        "masks": generator.integers(0, 5, rows) > 0,
        "next_observations": generator.normal(size=(rows, 5)),
        "next_actions": generator.uniform(-1, 1, (rows, 2)),
    }
    flat = {name: np.asarray(field, np.float32) for name, field in flat.items()}
    indices = generator.integers(0, rows, (updates, size)).astype(np.int32)
    learner = make_learner(case["method"], case["config"])
    if "scheduled" in case:
        learner = learner.scheduled(case["scheduled"])
    kind = learner.batch_type
    flat["returns_to_go"] = np.cumsum(flat["rewards"][::-1])[::-1]
    if "known" in kind._fields:
        length = case["config"]["context_length"]
        steps = np.arange(rows)[:, None] + np.arange(length)
        fields = {
            "observations": flat["observations"].take(steps, axis=0, mode="wrap"),
            "actions": flat["actions"].take(steps, axis=0, mode="wrap"),
            "returns_to_go": flat["returns_to_go"].take(steps, mode="wrap"),
            "timesteps": (steps % 30).astype(np.int32),
            "known": np.arange(length) >= (np.arange(rows) % 3)[:, None],
            "highest_return": np.full(rows, 5.0, np.float32),
        }
    else:
        fields = flat
    missing = set(kind._fields) - set(fields)
    assert not missing, f"same_numbers.py does not know the batch's fields {missing}"
    data = kind(**{name: fields[name] for name in kind._fields})

    def init(learner, key):
        return learner.init(key, flat["observations"][:1], flat["actions"][:1])

    def run(learner, state, data, indices, key):
        def minibatch(index):
            return jax.tree.map(lambda field: jnp.take(field, indices[index], axis=0), data)

        def update(index, carry):
            state, _, sums = carry
            state, metrics = learner.update(state, minibatch(index), jax.random.fold_in(key, index))
            return state, metrics, {name: sums[name] + metrics[name] for name in metrics}

        shapes = jax.eval_shape(learner.update, state, minibatch(0), key)[1]
        none = {name: jnp.zeros(of.shape, of.dtype) for name, of in shapes.items()}
        return jax.lax.fori_loop(0, updates, update, (state, none, none))

    key = jax.random.key(3)
    if members := case.get("vmap"):
        keys = jax.random.split(key, members)
        states = [jax.jit(init)(learner, key) for key in keys]
        state = jax.tree.map(lambda *leaves: jnp.stack(leaves), *states)
        together = jax.jit(jax.vmap(run, in_axes=(None, 0, None, None, 0)))
        state, metrics, sums = together(learner, state, data, indices, keys)
    else:
        state = jax.jit(init)(learner, key)
        state, metrics, sums = jax.jit(run)(learner, state, data, indices, key)
    values = {f"leaf/{path}": leaf for path, leaf in leaves_of(state).items()}
    for name in metrics:
        values[f"value/{name}"], values[f"value/sum of {name}"] = metrics[name], sums[name]
    if not members:
        observations = generator.normal(size=(5, 5)).astype(np.float32)
        for words, deterministic in (("greedy", True), ("drawn", False)):
            act = jax.jit(
                lambda learner, state, x, k, d=deterministic: learner.act(learner.actor(state), x, k, d)
            )
            values[f"value/{words} action"] = act(learner, state, observations, key)
    return {name: np.asarray(value) for name, value in values.items()}


def leaves_of(tree):
    import jax

    def plain(leaf):
        if hasattr(leaf, "dtype") and jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            leaf = jax.random.key_data(leaf)
        return np.asarray(leaf)

    return {
        jax.tree_util.keystr(path): plain(leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }
