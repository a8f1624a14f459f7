"""Other programs of our methods, which beside_peers.py trains beside ours.

Their files run as they are: networks, losses and updates are theirs. The loop around an update is ours, and
draws keys and minibatches as theirs does. The modules d4rl and wandb, which only their own loops use, are
empty here, and gym is Gymnasium.

Each class is a learner of one program. The table above it says which settings of theirs are made of which of
our hyperparameters, and which of ours are fixed because theirs has no setting for them.
"""

import contextlib
import dataclasses
import importlib
import importlib.util
import inspect
import os
import sys
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol
from unittest import mock

import flax
import gymnasium
import jax
import jax.numpy as jnp
import numpy as np

from xql_jax.data.dataset import Dataset
from xql_jax.errors import UserError

Settings = dict[str, Any]


class Method(NamedTuple):
    """How a method of a peer gets its settings from ours."""

    theirs: dict[str, Any]  # by their names: the name of ours, or a function of all of ours
    ours: Settings  # what the peer fixes
    learns_v: bool = True  # if not, min Q at the policy's action stands for V

    def settings(self, ours: Mapping[str, Any]) -> Settings:
        """Returns the peer's settings that equal ours."""
        return {name: of(ours) if callable(of) else ours[of] for name, of in self.theirs.items()}


class Peer(Protocol):
    """A learner of the peer's. Observations, actions and V are as in the data that it was given."""

    mark: str  # a file of its repository, by which a clone is known
    stride: int  # updates in a call
    methods: dict[str, Method]  # by our names

    def __init__(self, folder: Path, method: str, settings: Settings, data: Dataset, seed: int): ...

    def advance(self, updates: int) -> None: ...

    def act(self, observations: np.ndarray) -> np.ndarray:
        """Returns the deterministic actions f32[B, A] for observations f32[B, O]."""

    def values(self, observations: np.ndarray) -> np.ndarray:
        """Returns V(s) f32[B], or min Q(s, pi(s)) if the method learns no V."""


def same(*names: str) -> dict[str, str]:
    """Returns settings that have one name in both programs."""
    return {name: name for name in names}


JAX_CORL_LEARNING = same("actor_lr", "critic_lr", "tau", "discount", "batch_size", "max_steps")
JAX_CORL_IN_SAMPLE = {
    **JAX_CORL_LEARNING,
    **same("value_lr", "layer_norm"),
    "beta": "awr_temperature",
    "hidden_dims": "actor_hidden_dims",
}
JAX_CORL_IN_SAMPLE_OURS = {"num_critics": 2, "critic_layer_norm": False, "dropout_rate": 0.0, "v_updates": 1}
JAX_CORL = {
    "xql": Method(
        {
            **JAX_CORL_IN_SAMPLE,
            "loss_temp": "beta",
            "max_clip": "clip",
            "sample_random_times": "uniform_actions",
        },
        {**JAX_CORL_IN_SAMPLE_OURS, "decay_actor_lr": True, "clip_rule": "above", "critic_loss": "huber"},
    ),
    "iql": Method(
        {**JAX_CORL_IN_SAMPLE, "expectile": "expectile", "opt_decay_schedule": "decay_actor_lr"},
        JAX_CORL_IN_SAMPLE_OURS,
    ),
    "td3_bc": Method(
        {
            **JAX_CORL_LEARNING,
            "hidden_dims": "actor_hidden_dims",
            "alpha": "q_weight",
            "policy_freq": "actor_period",
            "policy_noise_std": "target_noise",
            "policy_noise_clip": "target_noise_clip",
        },
        {"num_critics": 2, "critic_layer_norm": True},
        learns_v=False,
    ),
    "cql": Method(
        {
            **same("discount", "batch_size", "max_steps"),
            "soft_target_update_rate": "tau",
            "policy_lr": "actor_lr",
            "qf_lr": "critic_lr",
            "cql_min_q_weight": "cql_alpha",
            "cql_n_actions": "cql_actions",
            "backup_entropy": lambda ours: not ours["deterministic_backup"],
            "n_jitted_updates": lambda ours: 1,  # eight of its five gradients take minutes to compile
        },
        {
            "num_critics": 2,
            "actor_hidden_dims": (256, 256),
            "critic_hidden_dims": (256, 256),
            "cql_threshold": np.inf,
            "initial_entropy_coef": 1.0,
        },
        learns_v=False,
    ),
    "awac": Method(
        {
            **JAX_CORL_LEARNING,
            **same("critic_hidden_dims"),
            "n_jitted_updates": lambda ours: 1,  # its targets move once a call
        },
        {
            "num_critics": 2,
            "actor_hidden_dims": (256,) * 4,  # their default, which their own type of the setting refuses
            "awr_temperature": 1.0,
            "max_weight": np.inf,
            "critic_layer_norm": True,
            "decay_actor_lr": False,
            "dropout_rate": 0.0,
        },
        learns_v=False,
    ),
}


class JaxCorl:
    """A file of nissymori/JAX-CORL, one a method, which holds the data on the device.

    What stays different: its Gaussians' means are not squashed, the first target networks are drawn anew
    instead of copied, and CQL's networks begin otherwise. Its AWAC adds arrays of shapes [B] and [B, 1], so
    that Q's targets are averaged over the minibatch's rewards, and all actions have the same weight.
    """

    mark, stride, methods = "algos/xql.py", 8, JAX_CORL

    def __init__(self, folder: Path, method: str, settings: Settings, data: Dataset, seed: int):
        name = method.replace("_", "")
        settings = {"n_jitted_updates": self.stride, **settings, "seed": seed}
        if method == "cql":  # its main takes both from the environment
            settings |= {"action_dim": data.action_dim, "target_entropy": -data.action_dim}
        from_cli = types.SimpleNamespace(from_cli=lambda: settings)
        with importing(folder / "algos", omegaconf={"OmegaConf": from_cli}):
            file = module_of(f"jax_corl_{name}", folder / "algos" / f"{name}.py")
        self._config = file.config
        rows = {**data.batch._asdict(), "dones": 1.0 - data.batch.masks, "dones_float": data.ends}
        fields = {field: jnp.asarray(rows[field], jnp.float32) for field in file.Transition._fields}
        self._data = file.Transition(**fields)
        first = jax.tree.map(lambda column: column[0], self._data)
        self._key, key = jax.random.split(jax.random.PRNGKey(seed))
        create = getattr(file, f"create_{name}_train_state")
        self._state = create(key, first.observations, first.actions, self._config)
        algorithm = getattr(file, name.upper())
        self._update = jax.jit(algorithm.update_n_times, static_argnums=3)
        drawn = {"seed": jax.random.PRNGKey(0), "temperature": 0.0}  # with 0: the distribution's centre
        given = {} if method in ("td3_bc", "cql") else drawn

        def act(state: Any, observation: jax.Array) -> jax.Array:
            return algorithm.get_action(state, observation, **given)

        self._act = jax.jit(jax.vmap(act, in_axes=(None, 0)))

    def advance(self, updates: int) -> None:
        for _ in range(updates // self._config.n_jitted_updates):
            self._key, key = jax.random.split(self._key)
            self._state, _ = self._update(self._state, self._data, key, self._config)

    def act(self, observations: np.ndarray) -> np.ndarray:
        return np.asarray(self._act(self._state, observations))

    def values(self, observations: np.ndarray) -> np.ndarray:
        state = self._state
        if hasattr(state, "value"):
            return np.asarray(state.value.apply_fn(state.value.params, observations))
        critics = [state.critic] if hasattr(state, "critic") else [state.qf1, state.qf2]
        actions = self.act(observations)
        q = [critic.apply_fn(critic.params, observations, actions) for critic in critics]
        return np.min([np.reshape(each, -1) for each in jax.tree.leaves(q)], axis=0)


AUTHORS = {
    "xql": Method(
        {
            **same("actor_lr", "value_lr", "critic_lr", "tau", "discount", "dropout_rate", "batch_size"),
            "max_steps": "max_steps",
            "hidden_dims": "actor_hidden_dims",
            "layernorm": "layer_norm",
            "temperature": "awr_temperature",
            "loss_temp": "beta",
            "opt_decay_schedule": lambda ours: "cosine" if ours["decay_actor_lr"] else None,
            "max_clip": "clip",
            "sample_random_times": "uniform_actions",
            "num_v_updates": "v_updates",
        },
        {"num_critics": 2, "critic_layer_norm": False, "clip_rule": "above", "critic_loss": "huber"},
    )
}


@dataclasses.dataclass(frozen=True)
class AuthorsFlags:
    """The flags of its script that its losses read."""

    max_clip: float
    sample_random_times: int
    num_v_updates: int
    noise: bool = False
    noise_std: float = 0.0
    grad_pen: bool = False
    lambda_gp: float = 0.0
    log_loss: bool = False


JIT = jax.jit


def jit_of_2022(function: Callable, static_argnames: Sequence[str] = ()) -> Callable:
    """JAX's jit as it was: names of arguments that the function does not have are no error."""
    known = inspect.signature(function).parameters
    return JIT(function, static_argnames=[name for name in static_argnames if name in known])


class Authors:
    """The learner of Div99/XQL, with the minibatches of its own `Dataset.sample`.

    Its script does not seed NumPy, from which minibatches are drawn; here the seed does.
    """

    mark, stride, methods = "offline/learner.py", 1, AUTHORS

    def __init__(self, folder: Path, method: str, settings: Settings, data: Dataset, seed: int):
        names = ("max_clip", "sample_random_times", "num_v_updates")
        flags = AuthorsFlags(**{name: settings[name] for name in names})
        others = {name: value for name, value in settings.items() if name not in (*names, "batch_size")}
        importlib.import_module("tensorflow_probability.substrates.jax")  # which needs today's jit
        with importing(folder / "offline"), mock.patch.object(jax, "jit", jit_of_2022):
            learner, dataset_utils = map(importlib.import_module, ("learner", "dataset_utils"))
        batch = data.batch
        self._data = dataset_utils.Dataset(
            **batch._asdict(), dones_float=data.ends.astype(np.float32), size=data.size
        )
        self._batch_size = settings["batch_size"]
        np.random.seed(seed)  # noqa: NPY002  # what its `sample` draws from
        jax.tree_multimap = jax.tree.map  # its name until 2022
        with flax.config.temp_flip_flag("return_frozendict", True):  # as `init` did until 2023
            self._learner = learner.Learner(
                *(seed, batch.observations[:1], batch.actions[:1]),
                **(others | {"vanilla": False, "double_q": True, "args": flags}),
            )

    def advance(self, updates: int) -> None:
        for _ in range(updates):
            self._learner.update(self._data.sample(self._batch_size))

    def act(self, observations: np.ndarray) -> np.ndarray:
        return self._learner.sample_actions(observations, temperature=0.0)

    def values(self, observations: np.ndarray) -> np.ndarray:
        return np.asarray(self._learner.value(observations))


FQL_LEARNING = {
    **same("discount", "tau", "batch_size", "actor_hidden_dims", "actor_layer_norm", "flow_steps"),
    "lr": "actor_lr",
    "value_hidden_dims": "critic_hidden_dims",
    "layer_norm": "critic_layer_norm",
}
FQL = {
    "fql": Method(
        {**FQL_LEARNING, "q_agg": "target_q", "alpha": "flow_alpha", "normalize_q_loss": "normalize_q"},
        {"num_critics": 2, "decay_actor_lr": False},
        learns_v=False,
    ),
    "iql+flow": Method(
        {**FQL_LEARNING, "expectile": "expectile", "num_samples": "candidates"},
        {"num_critics": 2, "decay_actor_lr": False, "v_updates": 1},
    ),
}


class Fql:
    """An agent of seohongpark/fql, with the minibatches of its own `Dataset.sample`.

    Its deterministic actions are made of the same noise in all states, as ours: FQL's of 0, IFQL's are the
    best of fixed candidates. Its own evaluations draw noise anew.
    What stays different: its V and Q have GELU and then layer norm, and other first weights. Within an update
    its networks learn from each other's last parameters, ours also from new ones.
    """

    mark, stride, methods = "agents/fql.py", 1, FQL

    def __init__(self, folder: Path, method: str, settings: Settings, data: Dataset, seed: int):
        name = {"fql": "fql", "iql+flow": "ifql"}[method]
        with importing(folder):
            agent = importlib.import_module(f"agents.{name}")
            agents = importlib.import_module("agents").agents
            datasets = importlib.import_module("utils.datasets")
        config = agent.get_config()
        config.update(settings)
        np.random.seed(seed)  # noqa: NPY002  # what its `sample` draws from
        self._data = datasets.Dataset.create(
            **data.batch._asdict(), terminals=data.ends.astype(np.float32), freeze=False
        )
        batch = data.batch
        self._agent = agents[name].create(seed, batch.observations[:1], batch.actions[:1], config)
        self._is_fql, self._batch_size = name == "fql", settings["batch_size"]

    def advance(self, updates: int) -> None:
        for _ in range(updates):
            self._agent, _ = self._agent.update(self._data.sample(self._batch_size))

    def act(self, observations: np.ndarray) -> np.ndarray:
        if self._is_fql:
            noise = np.zeros((len(observations), self._agent.config["action_dim"]), np.float32)
            one_step = self._agent.network.select("actor_onestep_flow")
            return np.clip(one_step(observations, noise), -1.0, 1.0)
        return np.asarray(best_of_candidates(self._agent, observations))

    def values(self, observations: np.ndarray) -> np.ndarray:
        if not self._is_fql:
            return np.asarray(self._agent.network.select("value")(observations))
        critic = self._agent.network.select("critic")
        return np.asarray(critic(observations, actions=self.act(observations)).min(axis=0))


@jax.jit
def best_of_candidates(agent: Any, observations: jax.Array) -> jax.Array:
    """Returns the agent's actions f32[B, A] for states f32[B, O], all with the same key and so noise."""
    return jax.vmap(lambda observation: agent.sample_actions(observation, jax.random.PRNGKey(0)))(
        observations
    )


PEERS: tuple[type[Peer], ...] = (JaxCorl, Authors, Fql)


def peer_of(folder: Path) -> type[Peer]:
    """Returns the program whose clone the folder is."""
    for peer in PEERS:
        if (folder / peer.mark).is_file():
            return peer
    known = ", ".join(peer.mark for peer in PEERS)
    raise UserError(f"--peer={folder}: a clone of a known program has one of these files: {known}")


@contextlib.contextmanager
def importing(folder: Path, **contents: Settings) -> Iterator[None]:
    """While entered, a peer's imports find its own files in the folder, and stand-ins with these contents."""
    modules: dict[str, types.ModuleType] = {"gym": gymnasium}
    for name in ("d4rl", "wandb", *contents):
        modules[name] = types.ModuleType(name)
        vars(modules[name]).update(contents.get(name, {}))
    before = {name: sys.modules.get(name) for name in modules}
    # JAX-CORL's files set XLA_FLAGS, which would reach the processes of our environments.
    with mock.patch.object(sys, "path", [str(folder), *sys.path]), mock.patch.dict(os.environ):
        sys.modules.update(modules)
        try:
            yield
        finally:
            for name, module in before.items():
                del sys.modules[name]
                if module:
                    sys.modules[name] = module


def module_of(name: str, path: Path) -> types.ModuleType:
    """Returns a new module made of the file, whose settings are read when it is made."""
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise UserError(f"{path}: no Python file")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
