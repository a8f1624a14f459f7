"""Every config file for every algorithm, and their numbers against the paper's Table 4."""

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
    suite_config,
)
from xql_jax.errors import UserError
from xql_jax.learners.fields import FinetuneDefaults, hyperparameters
from xql_jax.learners.registry import OFFLINE, make_learner
from xql_jax.tasks import TASKS, get_task
from xql_jax.training.schedule import parse_ramps

ROOT = Path(__file__).resolve().parents[2]
FILES = {
    path.stem.removesuffix("_config"): path
    for path in sorted((ROOT / "configs").glob("*_config.py"))
    if path.stem not in ("sac_config", "xsac_config", "td3_config", "xtd3_config")  # see test_online_configs
}
TABLE_4 = Path(__file__).parent / "paper" / "table_4.csv"  # as printed; blank: the paper leaves it out
FILE_OF_ROBOT = {"halfcheetah": "mujoco", "hopper": "mujoco", "walker2d": "mujoco"}


def get_config(name, *algorithm):
    return runpy.run_path(str(FILES[name]))["get_config"](*algorithm)


def table_4():
    with TABLE_4.open(newline="") as file:
        return list(csv.DictReader(file))


def config_for(row):
    robot = row["dataset"].split("-")[0]
    return get_config(FILE_OF_ROBOT.get(robot, robot))


def test_there_is_a_file_for_every_suite():
    suites = [suite for name in FILES if "finetune" not in name for suite in get_config(name).about.suites]
    without_data = {"gymnasium", "dm_control", "compiled", "own"}  # that data of one's own may be for
    assert sorted(suites) == sorted({task.suite for task in TASKS.values()} | without_data)
    for suite in suites:  # and the one that is chosen where none is named is for it
        assert suite in get_config(file_for_suite(suite).removesuffix("_config.py")).about.suites


@pytest.mark.parametrize("algorithm", sorted(OFFLINE))
@pytest.mark.parametrize("name", FILES)
def test_every_file_gives_every_algorithm(name, algorithm):
    config = get_config(name, algorithm)
    assert config.algorithm == algorithm
    assert set(config) == {*hyperparameters(make_learner(algorithm)), "algorithm", "hidden_dims", "about"}
    assert config.is_locked
    with pytest.raises(AttributeError):
        config.betta = 1.0
    learner = learner_from_config(config, max_steps=500)
    for field, value in hyperparameters(learner).items():
        assert config[field] == (pytest.approx(value) if isinstance(value, float) else value), field
    if "decay_actor_lr" in config:
        assert float(learner.policy.actor_decay_steps) == (500.0 if config.decay_actor_lr else float("inf"))
    assert config.hidden_dims is None


@pytest.mark.parametrize("algorithm", sorted(OFFLINE))
@pytest.mark.parametrize("name", FILES)
def test_what_changes_at_the_hand_over_is_a_field_of_the_method(name, algorithm):
    config = get_config(name, algorithm)
    learner = learner_from_config(config, max_steps=1)
    changes = parse_ramps(config.about.finetune.online, learner, 10, {})
    assert bool(changes) == (name == "pointmaze_finetune" and algorithm in ("xql", "iql"))
    assert set(config.about.finetune) == {field.name for field in dataclasses.fields(FinetuneDefaults)}


def test_hidden_dims_are_those_of_every_network_but_explicit_ones():
    config = get_config("pointmaze")
    config.hidden_dims, config.value_hidden_dims = (8, 8), (4,)
    config, _ = resolve_offline(config, None, False, given={"hidden_dims", "value_hidden_dims"})
    assert "hidden_dims" not in config
    widths = [config[f"{network}_hidden_dims"] for network in ("actor", "value", "critic")]
    assert widths == [(8, 8), (4,), (8, 8)]
    learner = learner_from_config(config, 1)
    assert hyperparameters(learner)["critic_hidden_dims"] == (8, 8)

    untouched = get_config("pointmaze")
    untouched, _ = resolve_offline(untouched, None, False, given=())
    assert "hidden_dims" not in untouched
    assert untouched.actor_hidden_dims == untouched.value_hidden_dims == (128, 128)


@pytest.mark.parametrize("name", FILES)
def test_xql_is_the_default_and_others_are_refused(name):
    assert get_config(name).to_dict() == get_config(name, "xql").to_dict()
    with pytest.raises(UserError, match=r"'xqll'.*xql"):
        get_config(name, "xqll")


def test_a_difference_that_is_no_field_is_refused():
    config = suite_config("iql", suites=(), differences={"iql": {"beta": 1.0}})
    with pytest.raises(UserError, match="unknown config field 'beta' for iql; nearest known: "):
        learner_from_config(config, max_steps=1)


@pytest.mark.parametrize("row", table_4(), ids=lambda row: row["dataset"])
def test_numbers_are_those_of_table_4(row):
    config = config_for(row)
    check_suite(config, get_task(row["dataset"]))
    # The table leaves the first clip of locomotion blank; the authors' script passes 7.
    assert (config.beta, config.clip) == (float(row["beta"]), float(row["grad_clip"] or 7))
    assert config.v_updates == int(row["v_updates"])
    assert int(row["batch_size"]) == 256  # the main's default

    config, batch_size = resolve_offline(config, row["dataset"], True, given=())
    assert (config.beta, config.clip) == (float(row["beta_tuned"]), float(row["grad_clip_tuned"]))
    assert (config.v_updates, batch_size) == (int(row["v_updates_tuned"]), int(row["batch_size_tuned"]))
    learner = learner_from_config(config, max_steps=1)
    assert float(learner.value.regression.beta) == pytest.approx(config.beta)
    assert learner.value.v_updates == config.v_updates


def test_an_explicit_override_wins_over_tuned():
    config = get_config("antmaze")
    config.beta = 3.5
    config, batch_size = resolve_offline(config, "antmaze-umaze-v0", True, given={"beta"})
    assert batch_size == 256
    assert (config.beta, config.v_updates) == (3.5, 4)  # tuned: 1.0 and 4


@pytest.mark.parametrize(
    ("name", "algorithm", "env_name", "words"),
    [
        ("mujoco", "xql", "hopper-random-v2", ["hopper-random-v2", "hopper-medium-v2"]),
        ("mujoco", "iql", "hopper-medium-v2", ["hopper-medium-v2", "iql", "none"]),
        ("pointmaze", "xql", "pointmaze-umaze-v0", ["pointmaze-umaze-v0", "none"]),
    ],
)
def test_tuned_without_values(name, algorithm, env_name, words):
    config = get_config(name, algorithm)
    with pytest.raises(UserError) as error:
        resolve_offline(config, env_name, True, given=())
    for word in ("--tuned", *words):
        assert word in str(error.value)


@pytest.mark.parametrize(
    "task", [get_task(n) for n in ("hopper-medium-v2", "pen-human-v1", "maze2d-large-v1", "Hopper-v5")]
)
def test_a_config_for_other_suites_is_refused(task):
    config = get_config("kitchen")
    with pytest.raises(UserError) as error:
        check_suite(config, task)
    advised = str(error.value).split("configs/")[1].split("_config.py")[0]
    check_suite(get_config(advised), task)  # the file that the message names is right for the task


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("beta", 0.0),
        ("beta", float("nan")),
        ("clip", -1.0),
        ("v_updates", 0),
        ("value_hidden_dims", (8, 0)),
        ("loss", "mse"),
    ],
)
def test_impossible_values_are_refused(field, value):
    config = get_config("mujoco")
    config[field] = value
    with pytest.raises(UserError, match=f"config.{field} must be"):
        learner_from_config(config, max_steps=1)
