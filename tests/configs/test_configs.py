"""Every config file for every method, and their numbers against the paper's Tables 4, 5 and 6."""

import csv
import json
import runpy
from pathlib import Path
from types import SimpleNamespace

import pytest

from xql_jax.errors import UserError
from xql_jax.learners.registry import OFFLINE, ONLINE, make_learner
from xql_jax.runs.config_files import Config, choose_config, file_for_suite
from xql_jax.runs.kinds import (
    METHOD_SETTINGS,
    OF_OFFLINE,
    Finetune,
    Offline,
    Online,
    as_plain,
    from_plain,
)
from xql_jax.runs.layers import DEFAULT, FILE, METHOD, OFF, ORDER, SUITE, TABLE_4, USER, layers_of
from xql_jax.runs.resolve import resolved, settings_from
from xql_jax.runs.varied import parse_ramps
from xql_jax.settings import settings_of, values_of
from xql_jax.suites import METHODS_OWN, Values
from xql_jax.suites.online import ONLINE_VALUES
from xql_jax.suites.tasks import SUITES, get_task
from xql_jax.workshop.commands.messages import sources_of

ROOT = Path(__file__).resolve().parents[2]
PAPER = Path(__file__).parent / "paper"  # the tables as printed; blank: the paper leaves it out
FILES = {path.stem.removesuffix("_config") for path in (ROOT / "configs").glob("*_config.py")} - {"online"}


def get_config(name, *text):
    return runpy.run_path(str(ROOT / "configs" / f"{name}_config.py"))["get_config"](*text)


def config_by(kind, name, tags, values):
    return Config(kind, name, layers_of(kind, name, tags, values))


def online(method, task="cartpole-swingup", network="paper"):
    file = choose_config(Online, method, env_name=task, network=network)
    return settings_from(file, {"env_name": task, "network": network})


def table(number):
    with (PAPER / f"table_{number}.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def widths_of(values):
    return {field: value for field, value in values.items() if field.endswith("_hidden_dims")}


def test_a_suite_s_file_gives_the_values_that_the_suite_has():
    for suite, record in SUITES.items():
        config = get_config(record.config, f"xql@{suite}")
        assert file_for_suite(config.suite) == file_for_suite(suite)
        values = config_by(Finetune, "xql", [suite], record.values).values | {"method": "xql"}
        assert {name: one for name, one in config.items() if name != "suite"}.items() <= values.items()


@pytest.mark.parametrize("method", sorted(OFFLINE))
@pytest.mark.parametrize("tag", ["", "finetune"])
@pytest.mark.parametrize("name", sorted(FILES))
def test_every_file_gives_every_method(name, tag, method):
    config = get_config(name, f"{method}@{tag}")
    known = values_of(make_learner(method))
    assert set(config) == {*known, *OF_OFFLINE, "method", "suite"}
    with pytest.raises(AttributeError):
        config.betta = 1.0
    learner = make_learner(method, {name: config[name] for name in known}).scheduled(500)
    for field, value in values_of(learner).items():
        assert config[field] == (pytest.approx(value) if isinstance(value, float) else value), field
    changes = parse_ramps(config.online, settings_of(learner), 10, {})  # raises for a field that it lacks
    cloning = "xql", "xql_bellman", "mxql", "iql", "bc"
    changing = {"pointmaze": ("xql", "iql") if tag else (), "kitchen": cloning, "mujoco": cloning}
    assert bool(changes) == bool({method, OFFLINE[method].like} & {*changing.get(name, ())})


def test_a_layer_wins_over_those_before_it():
    """The field's own default, the method's, the file's, in it a tag's, Table 4's, the user's."""
    for method, temperature in (("xql", make_learner("xql").policy.awr_temperature), ("awac", 0.5)):
        assert config_by(Offline, method, (), METHODS_OWN).values["awr_temperature"] == temperature
    kitchen = get_config("kitchen", "awac")
    assert (kitchen.awr_temperature, kitchen.batch_size) == (10, 1024)
    assert get_config("pointmaze", "cql").actor_lr == 3e-4
    assert get_config("pointmaze", "xql").beta == 0.2
    assert get_config("pointmaze", "xql@finetune").beta == 0.5
    task = "antmaze-umaze-v0"
    file = choose_config(Offline, env_name=task, tuned=True)
    assert (file.layers.up_to(FILE)["beta"], file.values["beta"]) == (0.6, 1.0)
    settings = settings_from(file, {"env_name": task, "beta": 3.5, "batch_size": "8"})
    assert (settings.values["beta"], settings.values["v_updates"], settings.batch_size) == (3.5, 4, 8)
    layers = settings.layers
    assert {layer: layers[layer].get("beta") for layer in ORDER if "beta" in layers[layer]} == {
        DEFAULT: 2.0,
        SUITE: 0.6,
        TABLE_4: 1.0,
        USER: 3.5,
    }
    values = layers.up_to(OFF)
    assert [(values[name], layers.layer(name)) for name in ("beta", "v_updates", "batch_size")] == [
        (3.5, USER),
        (4, TABLE_4),
        (8, USER),
    ]


@pytest.mark.parametrize("method", [*OFFLINE, *ONLINE])
def test_each_value_is_its_layers(method):
    """The layers say the whole value of a run, and a layer of a suite or a file changes what lies below."""
    kind, task = (Online, "hopper-hop") if method in ONLINE else (Finetune, "kitchen-complete-v0")
    settings = settings_from(choose_config(kind, method, env_name=task), {"env_name": task, "seed": "7"})
    layers = settings.layers
    assert {name: layers[layers.layer(name)][name] for name in settings.values} == settings.values
    assert layers.up_to(USER) == settings.values | {"env_name": task, "seed": 7}
    for place, layer in enumerate(ORDER[1:], 1):
        below = layers.up_to(ORDER[place - 1])
        if layer not in (METHOD, USER):  # a method declares, and a user gives, what may be so already
            assert all(below[name] != value for name, value in layers[layer].items()), layer


def test_a_row_is_for_whom_it_names():
    rows = {
        "all": {"discount": 0.5, "hidden_dims": (3,)},
        "in_sample": {"awr_temperature": 5.0},
        "iql bc": {"actor_lr": 0.5},
        "xql": {"beta": 4.0},
    }
    when = {"cube": {"xql": {"beta": 7.0}}}

    def found(text, *names):
        name, *tags = text.split("@")
        config = config_by(Offline, name, tags, Values(rows, when)).values
        return [config[name] for name in names]

    usual = make_learner("xql").policy
    assert found("xql", "discount", "awr_temperature", "actor_lr") == [0.5, 5.0, usual.actor_lr]
    assert found("xql+reverse_kl@cub", "beta", "value_hidden_dims") == [4.0, (3,)]
    assert found("xql@cube-single@small", "beta") == [7.0]
    # What is done is no beginning of a name, as that of a user's module.
    for tag, beta in (("small", 9.0), ("smallworld:Car-v0", 4.0)):
        changed = config_by(
            Online, "xtd3", [tag], Values({"xtd3": {"beta": 4}}, {"small": {"xtd3": {"beta": 9}}})
        )
        assert changed.values["beta"] == beta
    assert found("iql", "actor_lr", "awr_temperature") == [0.5, 5.0]
    assert found("bc", "actor_lr", "actor_hidden_dims") == [0.5, (3,)]  # without the fields that it lacks
    assert found("q_iteration@cube", "beta") == [7.0]  # it is like XQL
    # A method's own default stays against a row for methods like XQL.
    assert found("eql", "awr_temperature") == [OFFLINE["eql"].defaults["awr_temperature"]]


def test_each_value_of_a_suite_is_one_of_a_method_that_it_is_for():
    methods = {name: {*values_of(make_learner(name))} for name in (*OFFLINE, *ONLINE)}
    for values in (ONLINE_VALUES, *(suite.values for suite in SUITES.values())):
        for table in (values.rows, *values.when.values()):
            for who, row in table.items():
                named = [*methods] if who in ("all", "in_sample") else who.split()
                known = {"hidden_dims", *METHOD_SETTINGS}.union(*(methods[name] for name in named))
                assert row.keys() <= known, (who, row)
        for row in values.tuned.values():
            assert row.keys() <= {*METHOD_SETTINGS, *methods["xql"]}


@pytest.mark.parametrize("row", table(4), ids=lambda row: row["dataset"])
def test_table_4(row):
    task = get_task(row["dataset"])
    config = get_config(file_for_suite(task.suite.name).removesuffix("_config.py"))
    # The table leaves the first clip of locomotion blank; the authors' script passes 7.
    assert (config.beta, config.clip) == (float(row["beta"]), float(row["grad_clip"] or 7))
    assert (config.v_updates, config.batch_size) == (int(row["v_updates"]), int(row["batch_size"]))
    values = SimpleNamespace(**choose_config(Offline, env_name=task.name, tuned=True).values)
    assert (values.beta, values.clip) == (float(row["beta_tuned"]), float(row["grad_clip_tuned"]))
    assert values.v_updates == int(row["v_updates_tuned"])
    # The losses by which the authors' code made the paper's scores; the table does not list them.
    of_their_code = ("above", "huber" if task.suite.name == "antmaze" else "mse")
    assert (config.clip_rule, config.critic_loss) == (values.clip_rule, values.critic_loss) == of_their_code
    assert values.batch_size == int(row["batch_size_tuned"])


OWN = [{"env_name": name, "dataset": True} for name in ("Hopper-v5", "Walker2d-v4", "Pendulum-v1", None)]


@pytest.mark.parametrize("given", OWN)
def test_xql_finds_beta_on_own_data_unless_it_is_given(given):
    chosen, data = choose_config(Offline, **given), {**given, "dataset": "mine.npz"}
    nats = [chosen.values["beta_nats"]]
    for more in ({"beta": 0.5}, {"sweep": "beta=1,2"}, {"ramp": "beta=2:1"}, {"beta": 0.5, "beta_nats": 2.0}):
        nats.append(resolved(settings_from(chosen, {**data, **more})).values["beta_nats"])
    assert nats == [1.0, 0.0, 0.0, 0.0, 2.0]
    assert chosen.values["clip_rule"] == "saturate"


@pytest.mark.parametrize("given", OWN)
def test_on_own_data_xql_and_iql_differ_in_the_loss_of_v_alone(given):
    of_loss = {"beta", "beta_nats", "clip", "clip_rule", "loss", "expectile"}
    xql, iql = (choose_config(Offline, method, **given).values for method in ("xql", "iql"))
    others = {name: value for name, value in xql.items() if name not in of_loss}
    assert others == {name: value for name, value in iql.items() if name not in of_loss}
    assert (others["layer_norm"], others["policy_nats"]) == (True, 0.3)


@pytest.mark.parametrize("given", OWN)
def test_on_own_data_every_policy_that_clones_by_weights_has_the_same_nats(given):
    nats = {method: choose_config(Offline, method, **given).values.get("policy_nats") for method in OFFLINE}
    weighted = {method for method, value in nats.items() if value is not None}
    assert weighted >= {
        *["xql", "iql", "sql", "eql", "mxql", "qql", "dvl_chi2", "dvl_tv", "xql_bellman", "awac", "onestep"]
    }
    assert {nats[method] for method in weighted} == {0.3}


@pytest.mark.parametrize("method", ["xql", "iql", "bc"])
@pytest.mark.parametrize(
    ("task", "has_unit"),
    [
        ("pointmaze-umaze-v0", False),
        ("kitchen-complete-v0", False),
        ("cube-single-play-singletask-v0", False),
        ("hopper-medium-v2", True),  # its returns span 1000
        ("antmaze-umaze-v2", True),  # its rewards are less 1
    ],
)
def test_config_own_takes_a_task_as_its_file_alone(method, task, has_unit):
    file, named = {"dataset": "mine.hdf5"}, {"env_name": task}
    alone = resolved(settings_from(choose_config(Offline, method, **file), file))
    as_own = resolved(settings_from(choose_config(Offline, method, config="own", **named), named))
    assert as_own.learner == alone.learner
    assert as_own.batch_size == alone.batch_size
    assert alone.unit_rewards is (method != "bc")
    assert as_own.unit_rewards is (alone.unit_rewards and not has_unit)


def test_a_config_of_another_suite_is_refused_even_ones_own_of_no_suite(tmp_path):
    maze = {"env_name": "pointmaze-umaze-v0"}
    (tmp_path / "mine.py").write_text(CONFIG.replace('"pointmaze"', '"own"').replace("EDIT", "pass"))
    for config, suite in (("kitchen", "kitchen"), (str(tmp_path / "mine.py"), "own")):
        told = rf"^--config is for {suite}, .* give configs/pointmaze_config\.py or configs/own_config\.py; "
        with pytest.raises(UserError, match=told):
            choose_config(Offline, "xql", config=config, **maze)


@pytest.mark.parametrize("method", ["xsac", "xtd3"])
def test_a_beta_that_is_given_is_kept_online(method):
    value = config_by(Online, method, (), Values({"all": {"beta_nats": 1.0}}))
    ways = ({}, {"beta": 2}, {"sweep": "beta=1,2"}, {"beta": 2, "beta_nats": 0.5})
    assert [resolved(settings_from(value, given)).values["beta_nats"] for given in ways] == [1, 0, 0, 0.5]


def test_on_ogbench_xql_has_the_losses_that_lose_least():
    values = choose_config(Offline, env_name="scene-play-singletask-v0").values
    assert (values["clip_rule"], values["critic_loss"], values["beta_nats"]) == ("both", "huber", 0.0)


@pytest.mark.parametrize("method", ONLINE)
def test_table_5_and_small_networks_for_a_laptop(method):
    column = "SAC" if "sac" in method else "TD3"
    rows = {row["parameter"]: row[column] for row in table(5)}
    settings, small = online(method), online(method, network="small")
    config = SimpleNamespace(**settings.values)
    assert settings.batch_size == int(rows["Batch Size"])
    assert config.actor_lr == config.critic_lr == float(rows["Learning Rate"])
    assert config.actor_period == int(rows["Actor Freq"])
    printed = tuple(map(int, rows["Actor and Critic Arch"].split(",")))
    assert set(widths_of(settings.values).values()) == {printed}
    assert settings.buffer_size == int(rows["Buffer Size"].replace(",", ""))
    assert (config.num_critics == 1) == method.endswith("_dq")
    if column == "TD3":
        assert config.target_noise == float(rows["Target Noise"])
        assert f"{config.exploration_noise:g}, 0.05 (Hopper)" == rows["Actor Noise"]
        assert online(method, "hopper-hop").values["exploration_noise"] == 0.05
    assert (small.batch_size, small.warmup_steps) == (256, 1_000)
    assert set(widths_of(small.values).values()) == {(256, 256)}


@pytest.mark.parametrize(
    ("method", "column"), [("xsac", "X-SAC"), ("xtd3", "X-TD3"), ("xtd3_dq", "X-TD3-DQ")]
)
def test_table_6(method, column):
    assert len(table(6)) == 4
    for row in table(6):
        values = online(method, row["task"].lower().replace(" ", "-")).values
        assert values["beta"] == float(row[column])
        assert (values["clip"], values["clip_rule"]) == (8.0, "both")  # Appendix D.6, and their online code
        assert values.get("beta_nats", 0.0) == 0.0


@pytest.mark.parametrize("task", ["HalfCheetah-v5", "walker-walk", "CartPole-v1"])
def test_where_the_paper_has_no_beta_xsac_finds_it_and_a_beta_that_is_given_is_kept(task):
    chosen = choose_config(Online, "xsac", env_name=task)
    ways = ({}, {"beta": 2.0}, {"sweep": "beta=1,2"}, {"beta_nats": 0.3})
    values = [resolved(settings_from(chosen, {"env_name": task, **way})).values for way in ways]
    assert [value["beta_nats"] for value in values] == [0.1, 0.0, 0.0, 0.3]


@pytest.mark.parametrize("method", [*OFFLINE, "xql+flow", "iql+mixture", *ONLINE])
def test_a_runs_value_goes_through_json(method):
    kind, task = (Online, "cheetah-run") if method in ONLINE else (Offline, "kitchen-complete-v0")
    given = {"env_name": task, "max_grad_norm": 2.0}
    value = settings_from(choose_config(kind, method, env_name=task), given)
    again = from_plain(json.loads(json.dumps(as_plain(value))))
    assert again == value
    assert again.layers == value.layers
    assert again.learner == value.learner


CONFIG = """
from xql_jax.runs.config_files import config_of
def get_config(text="xql@finetune"):
    config = config_of(text, "pointmaze").unlock()
    EDIT
    return config
"""


def value_in(tmp_path, edit):
    (tmp_path / "mine.py").write_text(CONFIG.replace("EDIT", edit))
    return choose_config(Offline, config=str(tmp_path / "mine.py"), env_name="pointmaze-umaze-v0")


def chosen_by(place, kind, suite, edit, **given):
    """The value of a run with a config file of one's own."""
    text = CONFIG.replace('"pointmaze"', repr(suite)).replace("EDIT", edit)
    (place / "mine.py").write_text(text)
    return choose_config(kind, "xql", config=str(place / "mine.py"), **given)


def test_what_a_file_changes_counts_as_chosen(tmp_path):
    """As if it were given by flags: on own data XQL finds beta, and in the maze it rises at the hand-over."""
    own, maze = {"dataset": "mine.npz"}, {"env_name": "pointmaze-umaze-v0"}
    seven = "config.beta = 7.0"
    value = resolved(settings_from(chosen_by(tmp_path, Offline, "own", seven, **own), own))
    assert (value.values["beta"], value.values["beta_nats"]) == (7.0, 0.0)
    assert from_plain(json.loads(json.dumps(as_plain(value)))).choices == value.choices
    assert value.choices == {"beta": FILE, "dataset": USER}
    assert (sources_of(value)["beta"], sources_of(value)["clip_rule"]) == ("config file", "suite")
    value = resolved(settings_from(chosen_by(tmp_path, Offline, "own", "pass", **own), own))
    assert (value.values["beta_nats"], sources_of(value)["beta"]) == (1.0, "default")
    for edit, online in ((seven, ""), ("pass", " beta=5:2")):
        file = chosen_by(tmp_path, Finetune, "pointmaze", edit, **maze)
        value = resolved(settings_from(file, {**maze, "max_steps": 5}))
        assert value.online == "actor_lr=0.0003:3e-05" + online


def test_a_users_flag_decides_over_a_file_and_a_files_own_changes_stay(tmp_path):
    own, maze = {"dataset": "mine.npz"}, {"env_name": "pointmaze-umaze-v0", "max_steps": 5}
    for given in ({"beta": 3.0}, {"sweep": "beta=1,2"}, {"ramp": "beta=1:3"}):
        file = chosen_by(tmp_path, Offline, "own", "config.beta_nats = 0.5", **own)
        assert [*resolved(settings_from(file, {**own, "max_steps": 5, **given})).nats()] == [0.0], given
    online = "beta=4:1"
    edit = f"config.beta, config.online = 3.0, {online!r}"
    file = chosen_by(tmp_path, Finetune, "pointmaze", edit, **maze)
    assert resolved(settings_from(file, maze)).online == online
    assert resolved(settings_from(file, {**maze, "beta": 2.0})).online == ""


def test_the_suite_of_a_file_must_be_one(tmp_path):
    with pytest.raises(UserError, match="unknown suite 'mujoco'; nearest known: adroit, antmaze"):
        chosen_by(tmp_path, Offline, "mujoco", "pass", dataset="mine.npz")


def test_a_file_that_drops_the_tags_cannot_be_tuned(tmp_path):
    task = {"env_name": "kitchen-mixed-v0", "tuned": True}
    assert chosen_by(tmp_path, Offline, "kitchen", "pass", **task).values["beta"] == 8.0
    hopper = {"env_name": "hopper-medium-v2", "tuned": True}  # Table 4 changes beta alone
    dropping, keeping = "return config_of('xql', 'kitchen')", "config.beta = 2.0"
    for edit, suite, given in ((dropping, "kitchen", task), (keeping, "locomotion", hopper)):
        with pytest.raises(UserError, match="the same values with and without"):
            chosen_by(tmp_path, Offline, suite, edit, **given)


def test_tags_of_a_files_own_method_hold(tmp_path):
    """0.2 offline, 0.5 in fine-tuning."""
    assert settings_from(value_in(tmp_path, "pass"), {}).values["beta"] == 0.5
    assert settings_from(value_in(tmp_path, "config.beta = 9.0"), {}).values["beta"] == 9.0


def test_a_file_from_before_a_hyperparameter_has_its_neutral_value(tmp_path):
    """Weight decay and nats came later: with neither, a file trains as it did then."""
    edit = "del config['critic_weight_decay'], config['policy_nats']"
    learner = settings_from(value_in(tmp_path, edit), {}).learner
    plain = settings_from(value_in(tmp_path, "config.critic_weight_decay = config.policy_nats = 0.0"), {})
    assert values_of(learner) == values_of(plain.learner)
    assert (values_of(learner)["critic_weight_decay"], values_of(learner)["policy_nats"]) == (0.0, 0.0)


@pytest.mark.parametrize(
    ("edit", "words"),
    {
        "del config['beta']": "it has no beta, a field of xql",
        "config.seed = 7": "seed: unknown setting",
        "config.matmul_precision = 'highest'": "matmul_precision: unknown setting",
        "del config['suite']": "gives no config as .*KeyError: 'suite'",
        "config.lock().betta = 1.0": r"AttributeError: [^{]{,80}Did you mean .beta. instead of .betta.",
    }.items(),
)
def test_a_config_that_would_train_something_else_is_refused(edit, words, tmp_path):
    with pytest.raises(UserError, match=words):
        settings_from(value_in(tmp_path, edit), {})
