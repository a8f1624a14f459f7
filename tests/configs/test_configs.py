"""Every config file for every algorithm, and their numbers against the paper's Tables 4, 5 and 6."""

import csv
import dataclasses
import runpy
from pathlib import Path

import pytest

from xql_jax.config_files import file_for_suite
from xql_jax.configuration import (
    check_suite,
    learner_from_config,
    resolve_offline,
    resolve_online,
    with_fields,
)
from xql_jax.errors import UserError
from xql_jax.learners.fields import FinetuneDefaults, hyperparameters
from xql_jax.learners.registry import OFFLINE, ONLINE, make_learner
from xql_jax.runs.folder import run_label
from xql_jax.suites import SUITES
from xql_jax.tasks import TASKS, get_task
from xql_jax.training.schedule import parse_ramps

ROOT = Path(__file__).resolve().parents[2]
PAPER = Path(__file__).parent / "paper"  # the tables as printed; blank: the paper leaves it out
ONLINE_FILES = {name: name.removesuffix("_dq") for name in ONLINE}
FILES = {path.stem.removesuffix("_config") for path in (ROOT / "configs").glob("*_config.py")}
FILES = sorted(FILES - set(ONLINE_FILES.values()))
FILE_OF_ROBOT = {"halfcheetah": "mujoco", "hopper": "mujoco", "walker2d": "mujoco"}


def get_config(name, *algorithm):
    return runpy.run_path(str(ROOT / "configs" / f"{name}_config.py"))["get_config"](*algorithm)


def online(algorithm):
    return get_config(ONLINE_FILES[algorithm], algorithm)


def table(number):
    with (PAPER / f"table_{number}.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def widths_of(values):
    return {field: value for field, value in values.items() if field.endswith("_hidden_dims")}


def test_there_is_a_file_for_every_suite():
    suites = [suite for name in FILES if "finetune" not in name for suite in get_config(name).about.suites]
    without_data = {"gymnasium", "dm_control", "compiled", "own"}  # that data of one's own may be for
    assert sorted(suites) == sorted({task.suite.name for task in TASKS.values()} | without_data)
    for suite in suites:  # and the one that is chosen where none is named is for it
        assert suite in get_config(file_for_suite(SUITES[suite]).removesuffix("_config.py")).about.suites


@pytest.mark.parametrize("algorithm", sorted(OFFLINE))
@pytest.mark.parametrize("name", FILES)
def test_every_file_gives_every_algorithm(name, algorithm):
    config = get_config(name, algorithm)
    assert config.algorithm == algorithm
    assert set(config) == {*hyperparameters(make_learner(algorithm)), "algorithm", "about"}
    with pytest.raises(AttributeError):
        config.betta = 1.0
    learner = learner_from_config(config, max_steps=500)
    for field, value in hyperparameters(learner).items():
        assert config[field] == (pytest.approx(value) if isinstance(value, float) else value), field
    if "decay_actor_lr" in config:
        assert float(learner.policy.actor_decay_steps) == (500.0 if config.decay_actor_lr else float("inf"))
    changes = parse_ramps(config.about.finetune.online, learner, 10, {})  # raises for a field that it lacks
    cloning = "xql", "xql_bellman", "mxql", "iql", "bc"
    changing = {"pointmaze_finetune": ("xql", "iql"), "kitchen": cloning, "mujoco": cloning}
    assert bool(changes) == (algorithm in changing.get(name, ()))
    assert set(config.about.finetune) == {field.name for field in dataclasses.fields(FinetuneDefaults)}


def test_hidden_dims_are_those_of_every_network_but_explicit_ones():
    given = {"hidden_dims": (8, 8), "value_hidden_dims": (4,)}
    config, _ = resolve_offline(with_fields(get_config("pointmaze"), given), None, False, given=given)
    small = with_fields(online("xsac"), {"network": "small", **given})
    for one in (config, resolve_online(small, "cheetah-run", given=given)):
        assert "hidden_dims" not in one
        widths = [one[f"{network}_hidden_dims"] for network in ("actor", "value", "critic")]
        assert widths == [(8, 8), (4,), (8, 8)]
    assert hyperparameters(learner_from_config(config, 1))["critic_hidden_dims"] == (8, 8)
    untouched, _ = resolve_offline(get_config("pointmaze"), None, False, given=())
    assert set(widths_of(untouched).values()) == {(128, 128)}


def test_a_runs_name_tells_what_was_given_and_not_what_small_networks_imply():
    given = {"network": "small", "hidden_dims": (8, 8)}
    config = resolve_online(with_fields(online("xsac"), given), "cheetah-run", given=given).to_dict()
    assert config["actor_lr"] != online("xsac").actor_lr
    identity = {"sweep": "", "config": {name: config[name] for name in config if name != "about"}}
    assert run_label(config, identity) == "hidden_dims=8,8_network=small"


@pytest.mark.parametrize("name", FILES)
def test_xql_is_the_default_and_others_are_refused(name):
    assert get_config(name).to_dict() == get_config(name, "xql").to_dict()
    with pytest.raises(UserError, match=r"'xqll'.*xql"):
        get_config(name, "xqll")


@pytest.mark.parametrize("row", table(4), ids=lambda row: row["dataset"])
def test_table_4(row):
    robot = row["dataset"].split("-")[0]
    config = get_config(FILE_OF_ROBOT.get(robot, robot))
    check_suite(config, get_task(row["dataset"]))
    # The table leaves the first clip of locomotion blank; the authors' script passes 7.
    assert (config.beta, config.clip) == (float(row["beta"]), float(row["grad_clip"] or 7))
    assert config.v_updates == int(row["v_updates"])
    assert int(row["batch_size"]) == 256  # the main's default

    tuned, batch_size = resolve_offline(config, row["dataset"], True, given=())
    assert (tuned.beta, tuned.clip) == (float(row["beta_tuned"]), float(row["grad_clip_tuned"]))
    assert (tuned.v_updates, batch_size) == (int(row["v_updates_tuned"]), int(row["batch_size_tuned"]))
    learner = learner_from_config(tuned, max_steps=1)
    assert float(learner.value.beta) == pytest.approx(tuned.beta)
    assert learner.value.v_updates == tuned.v_updates
    config.beta = 3.5
    mine, _ = resolve_offline(config, row["dataset"], True, given={"beta"})
    assert (mine.beta, mine.v_updates) == (3.5, tuned.v_updates)


@pytest.mark.parametrize("name", ["hopper-medium-v2", "pen-human-v1", "maze2d-large-v1", "Hopper-v5"])
def test_a_config_for_other_suites_is_refused(name):
    with pytest.raises(UserError) as error:
        check_suite(get_config("kitchen"), get_task(name))
    advised = str(error.value).split("configs/")[1].split("_config.py")[0]
    check_suite(get_config(advised), get_task(name))  # the file that the message names is right for the task


@pytest.mark.parametrize("algorithm", ONLINE_FILES)
def test_table_5_and_small_networks_for_a_laptop(algorithm):
    column = "SAC" if "sac" in algorithm else "TD3"
    rows = {row["parameter"]: row[column] for row in table(5)}
    config, small = online(algorithm), online(algorithm)
    assert config.batch_size == int(rows["Batch Size"])
    assert config.actor_lr == config.critic_lr == float(rows["Learning Rate"])
    assert config.actor_period == int(rows["Actor Freq"])
    assert {"actor_hidden_dims", "critic_hidden_dims"} <= widths_of(config).keys()
    printed = tuple(map(int, rows["Actor and Critic Arch"].split(",")))
    assert set(widths_of(config).values()) == {printed}
    assert config.buffer_size == int(rows["Buffer Size"].replace(",", ""))
    assert (config.num_critics == 1) == algorithm.endswith("_dq")
    if column == "TD3":
        assert config.target_noise == float(rows["Target Noise"])
        assert f"{config.exploration_noise:g}, 0.05 (Hopper)" == rows["Actor Noise"]
        learner = learner_from_config(resolve_online(config, "hopper-hop", ()), 1)
        assert hyperparameters(learner)["exploration_noise"] == pytest.approx(0.05)

    small.network = "small"
    small = resolve_online(small, "cartpole-swingup", given=())
    assert (small.batch_size, small.warmup_steps) == (256, 1_000)
    assert set(widths_of(hyperparameters(learner_from_config(small, 1))).values()) == {(256, 256)}


@pytest.mark.parametrize(
    ("algorithm", "column"), [("xsac", "X-SAC"), ("xtd3", "X-TD3"), ("xtd3_dq", "X-TD3-DQ")]
)
def test_table_6(algorithm, column):
    assert len(table(6)) == 4
    for row in table(6):
        config = resolve_online(online(algorithm), row["task"].lower().replace(" ", "-"), ())
        assert config.beta == float(row[column])
        assert hyperparameters(learner_from_config(config, 1))["beta"] == pytest.approx(config.beta)
        assert config.clip == 8.0  # Appendix D.6


def test_mistakes_are_refused():
    """Those that no test of the command line makes."""
    lacking, misspelt = online("sac"), online("sac")
    with lacking.unlocked(), misspelt.unlocked():
        del lacking.updates_per_step
        misspelt.betta = 1.0
    for one, words in (
        (lacking, "the config has no updates_per_step, a field of sac"),
        (misspelt, "unknown config field 'betta' for sac; nearest known: "),
    ):
        with pytest.raises(UserError, match=words):
            resolve_online(one, "cheetah-run", ())
    for file, algorithm in (("td3", "xtd3"), ("sac", "xsac"), ("xsac", "sac"), ("xtd3", "td3_dq")):
        with pytest.raises(UserError, match=rf"values are for .*{file}.*, not for {algorithm},"):
            get_config(file, algorithm)
    for tuned in (("mujoco", "xql", "hopper-random-v2"), ("mujoco", "iql", "hopper-medium-v2")):
        with pytest.raises(
            UserError, match=f"^--tuned has no values for {tuned[2]} with {tuned[1]}; it has: "
        ):
            resolve_offline(get_config(*tuned[:2]), tuned[2], True, given=())
