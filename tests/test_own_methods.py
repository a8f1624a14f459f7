"""Methods of a user's own module, MODULE:NAME: what they train, and that no run imports their module."""

import functools
import pickle
import re
import sys

import jax
import numpy as np
import pytest
from driver import EXPERIMENTS, contents, run_main, write_dataset
from python_cases import SMALL, bandit

import xql_jax
from xql_jax.errors import UserError
from xql_jax.learners.registry import make_learner
from xql_jax.runs.config_files import choose_config
from xql_jax.runs.folder import identity_of
from xql_jax.runs.kinds import Finetune, Offline
from xql_jax.runs.resolve import resolved, settings_from
from xql_jax.settings import recorded_values
from xql_jax.training.population import Population
from xql_jax.workshop.tools import policy_values
from xql_jax.workshop.tools.choose import ChoiceSettings, choose
from xql_jax.workshop.tools.export import export_policy, read_artifact
from xql_jax.workshop.tools.list_runs import list_runs

# XQL's own loss by another name, so that its numbers are known; and what is no method.
MODULE = """
from pathlib import Path
from typing import Any, NamedTuple
import flax.linen as nn
import jax
from xql_jax.learners import bc
from xql_jax.learners.method import Method, Part
from xql_jax.learners.iql import Expectile
from xql_jax.learners.td3_bc import TD3_BC
from xql_jax.learners.xql import GumbelFit, InSample
from xql_jax.learners.parts import ForwardKL, Gaussian, NetworkState, ValueFit
from xql_jax.networks.mlp import DiagonalGaussian, GaussianPolicy
from xql_jax.settings import ANY, POSITIVE_OR_OFF, WIDTHS, part, static, traced
from xql_jax.types import Batch

class Clipped(ValueFit):
    max_grad_norm: float = traced(0.25, POSITIVE_OR_OFF)
class Wide(ValueFit):
    hidden_dims: tuple[int, ...] = static((8,), WIDTHS)
wide = Method(InSample, value=Wide)
class Narrow(Gaussian):
    actor_hidden_dims: tuple[int, ...] = static((8,), WIDTHS)
class Sharp(ForwardKL):
    awr_temperature: float = traced(7.0, POSITIVE_OR_OFF)
    head: Gaussian = part(Narrow)
clipped = Method(InSample, value=Clipped)
sharp = Method(InSample, value=Expectile, policy=Sharp)
agreed = Method(InSample, {"max_grad_norm": 0.5, "awr_temperature": 7.0}, value=Clipped)
differing = InSample(value=Clipped(max_grad_norm=1.0))
own_run = Method(InSample, settings={"offline_fraction": 0.5, "online": "actor_lr=1e-4"}, like="xql")
like_iql = Method(InSample, value=ValueFit, like="iql")
soft = InSample(policy=ForwardKL(awr_temperature=7.0))

class Normalised(GaussianPolicy):
    @nn.compact
    def __call__(self, observations, training=False):
        x = nn.relu(nn.LayerNorm()(nn.Dense(8)(observations)))
        return DiagonalGaussian(jax.numpy.tanh(nn.Dense(self.action_dim)(x)), jax.numpy.exp(self.log_std(x)))
class OwnHead(Gaussian):
    def network(self, action_dim):
        return Normalised(action_dim, self.actor_hidden_dims)
class Clone(ForwardKL):
    head: Gaussian = part(OwnHead)
own_head = Method(InSample, value=Expectile, policy=Clone)

Path("imported").touch()
gumbel = Method(InSample, value=GumbelFit)
instance = InSample(value=Expectile(expectile=0.8))
part = Expectile
class Plain: pass
class Shifted(bc.METHODS["bc"].learner):
    shift: float = traced(0.0, ANY, "Added to the policy's action.")
    def act(self, actor, observations, key, deterministic):
        return super().act(actor, observations, key, deterministic) + self.shift

class Least(NetworkState):
    def __call__(self, observations):
        return jax.numpy.minimum(*(self.network.apply(each, observations) for each in self.params))
class TwoValues(ValueFit):
    def init(self, key, observations):
        one, other = (ValueFit.init(self, each, observations) for each in jax.random.split(key))
        return Least.create(one.network, (one.params, other.params))
    def fit(self, value, observations, targets):
        return value, {}
two_values = Method(InSample, value=TwoValues)
class OwnState(NamedTuple):
    weights: Any
class Still(Part):
    batch_type = Batch
    def init(self, key, observations, actions):
        return OwnState(jax.numpy.ones((observations.shape[-1], actions.shape[-1])))
    def update(self, state, batch, key):
        return state, {"actor/loss": batch.rewards.mean()}
    def actor(self, state):
        return state.weights
    def act(self, actor, observations, key, deterministic):
        return jax.numpy.tanh(observations @ actor)
"""


@pytest.fixture
def place(tmp_path, monkeypatch):
    """The current folder, with the module, of which nothing is imported yet."""
    (tmp_path / "own_methods.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    sys.modules.pop("own_methods", None)


def train(method, **settings):
    return xql_jax.train(dataset=bandit(60), max_steps=20, method=method, save_dir="runs", **SMALL | settings)


def test_a_method_of_ones_own_has_the_numbers_of_the_packages(place, caplog):
    ours = train("own_methods:gumbel", sweep={"beta": [0.5, 2.0]})
    theirs = train("xql", sweep={"beta": [0.5, 2.0]}, clip_rule="both")  # its own default, not the file's
    jax.tree.map(np.testing.assert_array_equal, ours.run.states, theirs.run.states)
    assert ours.path.parent.name == "own_methods.gumbel"  # some file systems have no colon
    assert ours.run.hyperparameters == {**theirs.run.hyperparameters, "algorithm": "own_methods:gumbel"}
    assert train("own_methods:gumbel", sweep={"beta": [0.5, 2.0]}).path == ours.path  # it is found again
    assert not caplog.records
    (place / "own_methods.py").write_text(MODULE + "# edited")
    train("own_methods:gumbel", sweep={"beta": [0.5, 2.0]})
    assert "trained by other code (own_methods" in caplog.text


def test_on_an_accelerator_each_member_is_judged_by_its_own_numbers(place, monkeypatch):
    """The learner that both come from has the shift 0."""
    data = {"dataset": write_dataset(place / "data.npz"), "save_dir": "runs", **SMALL}
    path = str(
        xql_jax.train(max_steps=5, method="own_methods:Shifted", sweep={"shift": [0.0, 0.5]}, **data).path
    )

    def values(together):
        monkeypatch.setattr(policy_values, "Population", functools.partial(Population, together=together))
        chosen = choose(ChoiceSettings(checkpoint=path, max_steps=50, tqdm=False))["members"]
        return {entry["shift"]: entry["fqe_value"] for entry in chosen}

    on_cpu = values(False)
    assert values(True) == pytest.approx(on_cpu, rel=1e-3)
    assert abs(on_cpu[0.0] - on_cpu[0.5]) > 0.01 * abs(on_cpu[0.0])


# A class's body, and the words of the one line that its first update ends with.
WRONG = {
    "pairs": (
        "ValueFit", "def loss_of(self, values, targets): return (values[:, None] - targets) ** 2",
        r"Own.loss_of of values \[8\].*not one number an example, \[8\], but \[8, 8\]",
    ),
    "scalar": (
        "TemporalDifference", "def loss_of(self, values, targets): return ((values - targets) ** 2).mean()",
        r"Own.loss_of .*not one number an example, \[8\], but \[\]",
    ),
    "column": (
        "ValueFit", "def loss_of(self, values, targets): return (values - targets)[:, None] ** 2",
        r"Own.loss_of .*but \[8, 1\]",
    ),
    "weights": (
        "ForwardKL",
        "def update(self, actor, estimates, batch, key):\n"
        "        return self.regress(actor, estimates.q[:, None] > estimates.v, batch, key)",
        r"the weights of \S+\.Own: not one number an example, \[8\], but \[8, 8\]",
    ),
    "flow's weights": (
        "WeightedFlow",
        "def update(self, actor, estimates, batch, key): return self.regress(actor, 1.0, batch, key)",
        r"the weights of \S+\.Own: not one number",
    ),
    "if": (
        "ValueFit",
        "def loss_of(self, values, targets): return values if targets.max() > 0 else -values",
        r"update fails: a Python `if`.*own_\w+.py:\d+, in loss_of",
    ),
    "float": (
        "Critic", "def loss_of(self, values, targets): return values * float(targets.max())",
        r"update fails: a Python `if`, float\(\).*in loss_of",
    ),
    "numpy": (
        "ForwardKL",
        "def update(self, actor, estimates, batch, key):\n"
        "        return self.regress(actor, np.clip(np.array(estimates.q), 0, 1), batch, key)",
        r"update fails: a Python `if`, float\(\) or NumPy.*in update",
    ),
    "shape": (
        "ValueFit",
        "def follow(self, value, q, v):\n"
        "        return value.replace(target=jnp.append(value.target, q.mean())), {}\n"
        "    def init(self, key, observations):\n"
        "        return super().init(key, observations).replace(target=jnp.zeros(1))",
        r"Own: update changes the state.*value\.target is float32\[1\], then float32\[2\]",
    ),
    "type": (
        "ValueFit",
        "def follow(self, value, q, v): return value.replace(target=value.target + q.mean()), {}\n"
        "    def init(self, key, observations):\n"
        "        return super().init(key, observations).replace(target=jnp.zeros((), int))",
        r"value\.target is int32\[\], then float32\[\]",
    ),
    "structure": (
        "ValueFit",
        "def follow(self, value, q, v): return value.replace(target={'q': q.mean()}), {}",
        r"Own: update changes the state",
    ),
    "metrics": (
        "ValueFit",
        "def follow(self, value, q, v): return value, {'value/spread': q - v}",
        r"Own: update's metrics are single numbers by name, not value/spread",
    ),
    "act": (
        "BC",
        "def act(self, actor, observations, key, deterministic):\n"
        "        return super().act(actor, observations, key, deterministic)[0]",
        r"Own: act returns actions float32\[1\], not float32\[1, 1\]",
    ),
}  # fmt: skip
PARTS = {
    "ValueFit": "value", "ForwardKL": "policy", "WeightedFlow": "policy", "Critic": "critic",
    "TemporalDifference": "critic",
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_what_a_method_of_ones_own_gets_wrong_is_one_line_before_the_first_update(place, name):
    base, body, words = WRONG[name]
    module = f"own_{name.partition(chr(39))[0]}"
    made = f"Method(InSample, {PARTS[base]}=Own)" if base in PARTS else "Own"
    (place / f"{module}.py").write_text(
        "import jax.numpy as jnp, numpy as np\n"
        "from xql_jax.learners.bc import BC\n"
        "from xql_jax.learners.flow_policies import WeightedFlow\n"
        "from xql_jax.learners.method import Method\n"
        "from xql_jax.learners.parts import Critic, ForwardKL, ValueFit\n"
        "from xql_jax.learners.xql import InSample, TemporalDifference\n"
        f"class Own({base}):\n    {body}\nown = {made}\n"
    )
    with pytest.raises(UserError, match=words) as found:
        train(f"{module}:own", batch_size=8)
    assert module in str(found.value)
    assert "\n" not in str(found.value)
    if name == "pairs":  # from the command line, and once it is mended
        typed = ["--dataset=data.npz", f"--method={module}:own", "--max_steps=2", "--batch_size=8"]
        write_dataset(place / "data.npz")
        outcome = run_main([*typed, "--save_dir=again"], place)
        assert (outcome.code, "not one number an example" in outcome.err) == (2, True), outcome


def test_an_instance_a_class_and_another_policy(place):
    assert train("own_methods:instance", expectile=0.6).run.hyperparameters["expectile"] == 0.6
    assert make_learner("own_methods:instance+reverse_kl").value.expectile == np.float32(0.8)
    assert train("own_methods:TD3_BC", q_weight=0.5).run.hyperparameters["q_weight"] == 0.5


def test_v_is_what_its_state_returns(place):
    policy, seen = train("own_methods:two_values"), np.array([[0.3], [-0.8]], np.float32)
    state = policy.run.states["seed42"].value
    both = [state.network.apply(params, seen) for params in state.params]
    scale = policy.run.preprocessing.reward_scale
    np.testing.assert_allclose(scale * policy.value(seen), np.minimum(*both), rtol=1e-5)
    assert (both[0] != both[1]).all()


def test_a_state_of_ones_own_needs_neither_v_nor_q(place):
    file = write_dataset(place / "data.npz")
    run = xql_jax.train(
        dataset=file, max_steps=2, method="own_methods:Still", save_dir="runs", progress=False
    )
    for ask in (lambda: run.value(np.zeros(4)), lambda: run.q(np.zeros(4), np.zeros(2))):
        with pytest.raises(UserError, match="learns no"):
            ask()
    [chosen] = choose(ChoiceSettings(checkpoint=str(run.path), max_steps=2, tqdm=False))["members"]
    assert chosen["fqe_value"] is not None
    assert chosen["initial_v"] is chosen["initial_q"] is None


def test_a_network_of_ones_own_is_exported_as_jax_and_no_file_that_acts_otherwise_stays(place):
    policy = train("own_methods:own_head")
    assert export_policy(checkpoint=str(policy.path))["largest_difference"].keys() == {"jax"}
    seen = np.array([[0.3], [-0.8]], np.float32)
    exported = read_artifact(policy.path / "export" / "policy.jax")(seen)
    np.testing.assert_allclose(exported, policy(seen), atol=1e-6)
    shifted = train("own_methods:Shifted", shift=0.5).path
    with pytest.raises(UserError, match=r"policy.npz: its actions differ from the run's by 0\.5"):
        export_policy(checkpoint=str(shifted), formats=["npz"])
    assert not (shifted / "export" / "policy.npz").exists()


@pytest.mark.parametrize("method", ["clipped", "differing", "clipped+reverse_kl"])
def test_a_setting_of_several_parts_has_one_default(place, method):
    with pytest.raises(
        UserError, match=f"^own_methods:{re.escape(method)}: max_grad_norm is .* and inf in another"
    ):
        train(f"own_methods:{method}")


def test_the_name_for_all_widths_is_no_parts_own(place):
    with pytest.raises(UserError, match="hidden_dims means the widths of all networks"):
        train("own_methods:wide")


def test_own_defaults_come_before_what_a_suite_has_for_all_methods(place):
    """The maze's are 30 and two layers of 128."""

    def trained(method, **given):
        chosen = choose_config(Offline, f"own_methods:{method}", env_name="pointmaze-umaze-v0")
        made = resolved(settings_from(chosen, given))
        recorded = {"algorithm": f"own_methods:{method}", **recorded_values(made.learner)}
        assert identity_of(made)["config"] == recorded
        return made.learner

    assert trained("sharp").policy.awr_temperature == 7.0
    assert trained("sharp").policy.head.actor_hidden_dims == (8,)
    assert trained("sharp").value.value_hidden_dims == (128, 128)
    given = trained("sharp", awr_temperature=5, hidden_dims=16).policy
    assert (given.awr_temperature, given.head.actor_hidden_dims) == (5.0, (16,))
    agreed = trained("agreed")
    assert agreed.policy.max_grad_norm == agreed.value.max_grad_norm == 0.5
    assert agreed.policy.awr_temperature == trained("soft").policy.awr_temperature == 7.0


def test_own_settings_of_a_run_stay_and_others_changes_are_taken_as_far_as_they_fit(place):
    """IQL's `online` in the mazes changes its expectile, which the method has not."""
    kitchen = choose_config(Finetune, "own_methods:own_run", env_name="kitchen-complete-v0").values
    assert (kitchen["offline_fraction"], kitchen["online"]) == (0.5, "actor_lr=1e-4")
    assert kitchen["acting_temperature"] == 0.0  # XQL's there
    maze = choose_config(Finetune, "own_methods:like_iql", env_name="pointmaze-umaze-v0").values
    assert maze["online"] == "actor_lr=0.0003:0.00003"


NO_METHODS = {
    "nowhere:gumbel": "ModuleNotFoundError",
    "own_methods:gumbul": "gumbul",
    "own_methods:part": "update",
    "own_methods:Plain": "Part",
}


@pytest.mark.parametrize(("method", "named"), NO_METHODS.items())
def test_what_is_no_method_is_named(place, method, named):
    with pytest.raises(UserError, match=f"--method=.*{named}"):
        train(method)


def test_a_run_does_not_import_its_method_and_the_user_does(place):
    data, task = str(write_dataset(place / "data.hdf5")), "pointmaze-umaze-v0"
    settings = {"method": "own_methods:gumbel", "save_dir": "runs", **SMALL}
    run = xql_jax.train(task, dataset=data, max_steps=4, eval_episodes=1, **settings)
    actions = run(np.zeros((3, 4)))
    del sys.modules["own_methods"]
    (place / "imported").unlink()
    path, before = str(run.path), contents(place)
    with pytest.raises(UserError, match=r"own_methods:gumbel.*not imported"):
        xql_jax.load_policy(path)
    with pytest.raises(UserError, match=r"own_methods:gumbel.*not imported"):
        xql_jax.train_finetune(checkpoint=path, max_steps=4)
    commands = (["evaluate", path, "--episodes=1"], ["export", path, "--formats=npz"], ["choose", path])
    for main, *words in commands:
        outcome = run_main(words, place, EXPERIMENTS / f"{main}.py")
        assert (outcome.code, "--method=own_methods:gumbel" in outcome.err) == (2, True), outcome
    [listed] = list_runs(["runs"])[0]
    assert (listed.method, listed.status) == ("own_methods:gumbel", "finished")
    assert contents(place) == before
    assert "own_methods" not in sys.modules
    for main, *words in commands:
        outcome = run_main([*words, "--method=own_methods:instance"], place, EXPERIMENTS / f"{main}.py")
        assert outcome.code == 2
        assert "--method=own_methods:instance: the run is of own_methods:gumbel" in outcome.err, outcome
    collect = ["collect", f"--policy={path}", f"--env_name={task}", "--episodes=1", "--output=rows.hdf5"]
    for main, *words in (collect, *commands[:2]):
        outcome = run_main([*words, "--method=own_methods:gumbel"], place, EXPERIMENTS / f"{main}.py")
        assert outcome.code == 0, outcome
    np.testing.assert_array_equal(xql_jax.load_policy(path)(np.zeros((3, 4))), actions)


def test_a_pickled_policy_imports_its_method(place):
    policy = train("own_methods:gumbel")
    pickled, expected = pickle.dumps(policy), policy(np.array([0.5]))
    del sys.modules["own_methods"]
    np.testing.assert_array_equal(pickle.loads(pickled)(np.array([0.5])), expected)
