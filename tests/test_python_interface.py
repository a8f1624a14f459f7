"""Training and acting from Python: the run is the command line's, and the policy is the run's."""

import dataclasses
import multiprocessing
import pickle
import re
from pathlib import Path

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from driver import run_folder, succeed
from python_cases import SMALL, bandit

import xql_jax
from xql_jax.data.arrays import from_arrays
from xql_jax.errors import UserError
from xql_jax.runs.load import load_run

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "bandit.npz"
    np.savez(path, **bandit())
    return path


@pytest.fixture(scope="module")
def of_several(data, tmp_path_factory):
    """The policies of two seeds times two betas, on normalised observations."""
    folder, sweep = tmp_path_factory.mktemp("several"), {"beta": np.array([0.1, 0.5])}
    settings = {"max_steps": 100, "num_seeds": 2, "normalize_observations": True, **SMALL}
    return xql_jax.train(dataset=data, save_dir=folder, sweep=sweep, **settings)


@pytest.mark.slow
def test_python_and_the_command_line_make_the_same_bits(data, tmp_path):
    """A file gives the same run, down to the digest of all settings; its arrays give the same numbers."""
    flags = ("--max_steps=300", "--config.beta=0.3", "--num_seeds=2", "--config.hidden_dims=(16,)")
    succeed([*flags, "--batch_size=32", f"--dataset={data}", "--save_dir=typed"], tmp_path)
    typed = run_folder(tmp_path / "typed")
    settings = {"max_steps": 3e2, "beta": 0.3, "num_seeds": 2, "hidden_dims": [16], "batch_size": 32}
    called = xql_jax.train(dataset=str(data), save_dir=tmp_path / "called", progress=False, **settings)
    assert called.path == tmp_path / "called" / "bandit" / "xql" / typed.name
    of_arrays = xql_jax.train(dataset=dict(np.load(data)), progress=False, **settings)
    assert of_arrays.path.parent.parent.name == "arrays"
    for path in (called.path, of_arrays.path):
        assert metrics(path) == metrics(typed)
        assert_same_weights(path, typed)


def metrics(run):
    """The rows but for their last column, the seconds."""
    return [line.rpartition(",")[0] for line in (run / "metrics.csv").read_text().splitlines()]


def assert_same_weights(path, other):
    run, theirs = load_run(path), load_run(other)
    assert run.step == theirs.step == 300
    jax.tree.map(np.testing.assert_array_equal, run.states, theirs.states)


def test_without_a_choice_of_a_member_it_does_not_act(of_several):
    with pytest.raises(
        UserError, match=r"4 members: choose a member with policy\.select.*seed 42, beta=0\.1"
    ):
        of_several([0.0])
    with pytest.raises(UserError, match=r"no such member; there are seed 42, beta=0\.1"):
        xql_jax.load_policy(of_several.path, seed=41)
    chosen = of_several.select(seed=43).members
    assert [str(member) for member in chosen] == ["seed 43, beta=0.1", "seed 43, beta=0.5"]


def test_each_member_acts_as_its_own_weights_say(of_several):
    """The first layer's input is the normalised observation; computed here from the arrays on the disk."""
    policy = xql_jax.load_policy(of_several.path, seed=43, beta=0.5)
    run = load_run(of_several.path)
    actor = run.learner.actor(run.states["seed43_beta=0.5"])
    observations = np.array([[0.3], [-0.8]], np.float32)
    rows = bandit()["observations"].astype(np.float32).astype(np.float64)
    seen = ((observations - rows.mean()) / rows.std()).astype(np.float32)
    within = bandit()["actions"].min(), bandit()["actions"].max()  # where its policy stays
    expected = run.learner.act(actor, seen, jax.random.key(0), deterministic=True).clip(*within)
    np.testing.assert_allclose(policy(observations), expected, atol=1e-6)
    assert not np.allclose(of_several.select(seed=42, beta=0.5)(observations), expected, atol=1e-3)
    drawn = run.learner.act(actor, seen, jax.random.key(7), deterministic=False).clip(*within)
    np.testing.assert_allclose(policy(observations, key=7), drawn, atol=1e-6)
    np.testing.assert_array_equal(policy(observations, key=jax.random.key(7)), policy(observations, key=7))
    assert (policy(observations, key=8) != policy(observations, key=7)).all()
    with pytest.raises(UserError, match=r"must be of shape \[\.\.\., 1\], not \[2\]"):
        policy([0.0, 1.0])


def test_v_and_q_are_the_networks_own(of_several, monkeypatch):
    """V by its network on the normalised observation, Q the least of its two; in the data's unit."""
    policy = of_several.select(seed=43, beta=0.5)
    state = policy.run.states["seed43_beta=0.5"]
    observations, actions = np.array([[0.3], [-0.8]], np.float32), np.array([[0.1], [0.9]], np.float32)
    seen = policy.run.preprocessing.observations(observations)
    unit = np.sqrt(np.mean(np.square(bandit()["rewards"])))
    np.testing.assert_allclose(policy.value(observations), unit * state.value(seen), rtol=1e-5)
    both = [state.critic.network.apply(params, seen, actions) for params in state.critic.params]
    np.testing.assert_allclose(policy.q(observations, actions), unit * np.minimum(*both), rtol=1e-5)
    assert policy.q(observations[0], actions[0]).shape == policy.value(observations[0]).shape == ()
    before = policy.value(observations), policy.q(observations, actions)
    scaled = dataclasses.replace(policy.run.preprocessing, reward_scale=4.0)
    monkeypatch.setitem(policy.run.__dict__, "preprocessing", scaled)
    before = tuple(estimate / unit for estimate in before)  # in the unit that is learned from
    after = policy.value(observations), policy.q(observations, actions)  # in the environment's units
    np.testing.assert_allclose(np.multiply(4.0, after), before, rtol=1e-6)
    with pytest.raises(UserError, match=r"actions: must be of shape \[2, 1\] or \[2, 1, 1\], not \[1\]"):
        policy.q(observations, actions[0])


class Echo(gymnasium.Env):
    """Ten steps, each of which pays the action's first entry; bounds of -2 and 2."""

    observation_space = gymnasium.spaces.Box(-1.0, 1.0, (1,))
    action_space = gymnasium.spaces.Box(-2.0, 2.0, (1,))

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.state, self.steps, self.actions = self.np_random.uniform(-1, 1, 1).astype(np.float32), 0, []
        return self.state, {}

    def step(self, action):
        self.steps += 1
        self.actions.append(action)
        return self.state, float(action[0]), False, self.steps == 10, {"success": bool(action[0] > 0)}


gymnasium.register("Echo-v0", Echo, max_episode_steps=10)


@pytest.mark.parametrize("path", [None, 5, b"results", []])
def test_what_is_no_path_is_one_line(path):
    with pytest.raises(UserError, match=f"a {type(path).__name__} is no path"):
        xql_jax.load_policy(path)


@pytest.mark.parametrize("choice", [{"seed": "x"}, {"beta": None}, {"seed": np.array([42, 43])}])
def test_what_chooses_no_member_is_one_line(of_several, choice):
    with pytest.raises(UserError, match="select: give a seed, and values"):
        of_several.select(**choice)
    assert [str(one) for one in of_several.select(seed=43, beta="0.5").members] == ["seed 43, beta=0.5"]


def test_arrays_that_are_given_again_are_cut_at_the_runs_own_limit():
    """Without `timeouts` the limit of the run's task ends episodes, as it did when the run was trained."""
    arrays = {name: of for name, of in bandit(700).items() if name not in ("timeouts", "next_observations")}
    wide = {"observations": np.zeros((700, 4)), "actions": np.zeros((700, 2)), "terminals": np.zeros(700)}
    policy = xql_jax.train("pointmaze-umaze-v0", dataset=arrays | wide, max_steps=2, **SMALL, eval_episodes=0)
    again = xql_jax.train_finetune(checkpoint=policy, dataset=arrays | wide, max_steps=3, eval_episodes=0)
    expected = from_arrays(
        {**arrays, **wide, "timeouts": np.arange(700) % 300 == 299}, "arrays"
    ).fingerprint()
    assert [run.record["dataset_fingerprint"] for run in (policy.run, again.run)] == [expected] * 2


def test_arrays_that_are_not_to_be_read_are_read_past_and_recorded(tmp_path):
    """The same data by the digest, and in fine-tuning the checkpoint's choice."""
    wide = {"observations": np.zeros((700, 4)), "actions": np.zeros((700, 2)), "terminals": np.zeros(700)}
    arrays = bandit(700) | wide | {"next_observations": np.ones((700, 4))}
    more = arrays | {"n_env": np.arange(700) % 4, "masks": np.full(700, 0.5)}
    unused = {"unused_arrays": ["n_env", "masks"]}
    given = {"env_name": "pointmaze-umaze-v0", "max_steps": 2, **SMALL, "eval_episodes": 0}
    with pytest.raises(UserError, match="n_env sounds like"):
        xql_jax.train(dataset=more, **given)
    plain = xql_jax.train(dataset=arrays, **given)
    policy = xql_jax.train(dataset=more, **unused, **given)
    again = xql_jax.train_finetune(checkpoint=policy, dataset=more, max_steps=3, eval_episodes=0)
    digests = [one.run.record["dataset_fingerprint"] for one in (plain, policy, again)]
    assert len({*digests}) == 1
    assert [one.run.unused_arrays for one in (plain, policy, again)] == [
        (),
        ["n_env", "masks"],
        ["n_env", "masks"],
    ]


def test_it_is_evaluated_in_an_environment_that_is_given(of_several):
    policy, env = of_several.select(seed=43, beta=0.5), Echo()
    results = policy.evaluate(env, episodes=3, seed=1)
    assert results["lengths"].tolist() == [10, 10, 10]
    [own] = policy(env.state)  # of a run that learned from data alone: 1 is the bound
    np.testing.assert_allclose(env.actions[-1], [2 * own], rtol=1e-5)
    np.testing.assert_allclose(results["returns"][2], 20 * own, rtol=1e-5)
    assert results["return_mean"] == results["score_mean"] == pytest.approx(results["returns"].mean())
    assert results["successes"].tolist() == (results["returns"] > 0).tolist()
    assert policy.evaluate(env, episodes=3, seed=1)["returns"].tolist() == results["returns"].tolist()
    with pytest.raises(UserError, match=r"an episode goes on after 9 steps: end it by .*TimeLimit"):
        policy.evaluate(env, episodes=1, max_steps=9)
    with pytest.raises(UserError, match="does not fit the run"):
        policy.evaluate("pointmaze-umaze-v0")


def test_fine_tuning_goes_on_with_the_member_that_a_policy_has(of_several, tmp_path):
    chosen = of_several.select(seed=43, beta=0.5)
    settings = {
        "env_name": "Echo-v0",
        "max_steps": 3,
        "eval_episodes": 0,
        "save_dir": tmp_path,
        "progress": False,
    }
    with pytest.raises(UserError, match=r"member=0: the policy has a single member: seed 43, beta=0\.5"):
        xql_jax.train_finetune(checkpoint=chosen, member=0, **settings)
    tuned = xql_jax.train_finetune(checkpoint=chosen, **settings)
    assert [str(member) for member in tuned.members] == ["seed 43, beta=0.5"]
    assert tuned.run.record["checkpoint"]["step"] == 100


def test_callbacks_hear_and_end_a_run(tmp_path):
    """Ended by a callback, the run is saved, and the same call goes on with it."""
    settings = {"dataset": bandit(), "max_steps": 200, "save_dir": tmp_path, "num_seeds": 2, **SMALL}
    heard = []
    policy = xql_jax.train(
        callbacks=[lambda *told: heard.append(told), lambda step, _: step == 100], **settings
    )
    assert [step for step, _ in heard] == [50, 100]
    assert policy.step == 100
    rows = policy.run.rows(policy.run.files.metrics)
    np.testing.assert_allclose(
        [row.results["value/v"] for row in rows[2:]], heard[1][1]["value/v"], rtol=1e-5
    )
    with pytest.raises(UserError, match="return a single True or False"):  # for each of two members
        xql_jax.train(callbacks=[lambda _, numbers: numbers["value/v"] > 0], **settings)
    assert xql_jax.train(**settings).step == 200


def test_a_caller_that_reuses_its_memory_changes_nothing(tmp_path):
    """A callback writes over the data, over the numbers that it hears, and over what a policy gave."""

    def given():
        arrays = {name: array.astype(np.float32) for name, array in bandit().items()}
        return [*arrays.values()], arrays

    def reuse(step, numbers):
        for array in memory:
            array[:] = 0
        numbers["critic/loss"][:] = np.nan

    settings = {"max_steps": 100, "num_seeds": 2, **SMALL}
    memory, data = given()
    policy = xql_jax.train(dataset=data, callbacks=[reuse], save_dir=tmp_path / "a", **settings)
    expected = xql_jax.train(dataset=given()[1], save_dir=tmp_path / "b", **settings)
    assert metrics(policy.path) == metrics(expected.path)
    jax.tree.map(np.testing.assert_array_equal, policy.run.states, expected.run.states)
    first = policy.select(seed=42)
    before = first(np.zeros(1))
    first(np.zeros(1))[:] = 2
    np.testing.assert_array_equal(first(np.zeros(1)), before)


@pytest.mark.parametrize(
    ("settings", "words"),
    [  # other bounds: tests/experiments/test_command_line.py; other arrays: tests/data
        ({"betta": 1.0}, "betta: unknown setting; nearest known: beta"),
        ({"checkpoint": "x"}, "checkpoint: unknown setting"),
        ({"replay": {"rewards": [0.5]}}, "replay: unknown setting"),
        ({"config": ""}, "--config: no file ''; configs/ of the package has"),
        ({"max_steps": None}, "max_steps=None: must be a whole number"),
        ({"max_step": 20}, "max_step: unknown setting; nearest known: max_steps"),
        ({"callbacks": print}, "callbacks: give a list of functions"),
        ({"callbacks": [None]}, "callbacks: give a list of functions"),
        ({"dataset": 3.0}, "dataset: cannot use a float"),
        ({"dataset": []}, "dataset: the list is empty"),
        ({"dataset": ""}, "dataset=.*: must be text, not empty"),
        ({"config": {"beta": 1}}, "config=.*beta.*: must be a file's path or name"),
        ({"save_dir": ""}, "save_dir=: must be text, not empty"),
        ({"save_dir": 5}, "save_dir=5: must be text, not empty"),
        ({"method": ""}, "method='': must be a name"),
        ({"sweep": {"beta": {0.1, 0.2}}}, "beta=.*: must be a number, or a list of numbers"),
        ({"hidden_dims": {8, 16}}, "hidden_dims=.*: give a number, text, or a list"),
        ({"hidden_dims": b"8"}, "hidden_dims=.*: give a number, text, or a list"),
        ({"env_name": object}, "env_name=.*object.*: must be text, not empty"),
        ({"method": 3}, "method=3: must be a name"),
        ({"dataset": bandit() | {"rewards": [[1.0, 2.0]] * 9 + [[1.0]]}}, "dataset: rewards"),
        ({"dataset": bandit() | {1: [], "infos": {"dones": [0]}}}, "arrays: infos/dones sounds like ends"),
        ({"dataset": bandit(60) | {"rewards": np.ma.masked_equal(np.arange(60.0), 3.0)}}, "dataset: rewards"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_mistake_is_one_line_and_leaves_nothing(settings, words, tmp_path, monkeypatch):
    given = {"dataset": bandit(), "max_steps": 50, "save_dir": tmp_path / "runs", **settings}
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=words) as raised:
        xql_jax.train(**given, progress=False)
    assert "\n" not in str(raised.value)
    assert raised.value._render_traceback_() == [f"UserError: {raised.value}"]  # what a notebook shows
    assert not [*tmp_path.iterdir()]


def test_a_main_that_a_new_process_runs_is_a_line(monkeypatch, tmp_path):
    monkeypatch.setattr(multiprocessing.current_process(), "_inheriting", True, raising=False)
    with pytest.raises(UserError, match="__main__"):
        xql_jax.train(dataset=bandit(), max_steps=1, save_dir=tmp_path)


@pytest.mark.parametrize("make", [float, np.float64, np.float32, np.float16, np.array, jnp.float32, str])
def test_a_number_is_that_of_the_flag_with_its_text(make, data, tmp_path):
    """Float32's 0.7 is 0.699999988, float16's 0.70019531."""
    called = {
        "beta": make(0.7), "layer_norm": np.bool_(True), "num_critics": np.int64(2), "tuned": "false",
        "hidden_dims": np.int64(16), "ramp": {"value_lr": [make(0.001), make(0.00001)]},
        "sweep": {"tau": [make(0.7), make(0.1)], "discount": np.float32([0.9, 1])},
    }  # fmt: skip
    typed = {
        "beta": "0.7", "layer_norm": "true", "num_critics": "2", "tuned": "false", "hidden_dims": "16",
        "ramp": "value_lr=0.001:1e-05", "sweep": "tau=0.70,1e-1 discount=.9,1.0",
    }  # fmt: skip
    given = {"max_steps": 3, "batch_size": 8, "progress": False, "save_dir": tmp_path}
    path = xql_jax.train(dataset=data, **given, **typed).path
    assert xql_jax.train(dataset=data, **given, **called).path == path


def test_numpys_numbers_and_data_of_several_kinds(data, tmp_path):
    settings = {"dataset": [data, bandit(), data], "max_steps": np.int64(3), **SMALL}
    policy = xql_jax.train(save_dir=tmp_path, beta=np.float32(0.5), **settings)
    assert load_run(policy.path).hyperparameters["beta"] == 0.5
    assert policy.path.parent.parent.name == "bandit-and-2-more"


@pytest.mark.slow
def test_the_guides_blocks_run_as_printed(tmp_path, monkeypatch, capsys):
    """One after the other, as in a notebook, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    text = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
    first, *others = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    names = {}
    exec(first, names)
    printed = float(capsys.readouterr().out.splitlines()[-1].strip("[]"))
    assert abs(printed - 0.5) < 0.1  # the best action; digits depend on the processor
    for block in others:
        exec(block, names)
    assert names["drawn"].shape == (2, 1)
    assert names["tuned"].run.record["checkpoint"]["step"] > 0


def test_a_method_without_q_says_so():
    policy = xql_jax.train(dataset=bandit(), max_steps=3, method="bc", **SMALL)
    for ask in (lambda: policy.value([0.0]), lambda: policy.q([0.0], [0.0])):
        with pytest.raises(UserError, match="bc learns no"):
            ask()


def test_a_policy_is_pickled_by_its_runs_path(of_several, tmp_path, monkeypatch):
    """Another process, in another folder, has the chosen members; their numbers stay in the run's files."""
    monkeypatch.chdir(tmp_path)
    chosen = of_several.select(beta=0.5)
    pickled = pickle.dumps(chosen)
    assert len(pickled) < 1_000
    assert pickle.loads(pickled).members == chosen.members
    observations = np.linspace(-1, 1, 5, dtype=np.float32)[:, None]
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        found = pool.map(chosen.select(seed=43), [observations])
    np.testing.assert_array_equal(found[0], chosen.select(seed=43)(observations))
    assert pickle.loads(pickle.dumps(xql_jax.load_policy(chosen.path / "checkpoints" / "100"))).step == 100
