"""The online configs against the paper's Tables 5 and 6, and what a network's size and a task change."""

import csv
import runpy
from pathlib import Path

import pytest

from xql_jax.configuration import learner_from_config, online_config, resolve_online
from xql_jax.errors import UserError
from xql_jax.learners.fields import hyperparameters

ROOT = Path(__file__).resolve().parents[2]
PAPER = Path(__file__).parent / "paper"  # its Tables 5 and 6 as printed
FILE_OF = {"xsac": "xsac", "sac": "sac", "xtd3": "xtd3", "xtd3_dq": "xtd3", "td3": "td3", "td3_dq": "td3"}


def get_config(algorithm):
    return runpy.run_path(str(ROOT / "configs" / f"{FILE_OF[algorithm]}_config.py"))["get_config"](algorithm)


def table(name):
    with (PAPER / name).open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("algorithm", FILE_OF)
def test_table_5(algorithm):
    column = "SAC" if "sac" in algorithm else "TD3"
    rows = {row["parameter"]: row[column] for row in table("table_5.csv")}
    config = get_config(algorithm)
    assert config.batch_size == int(rows["Batch Size"])
    assert config.actor_lr == config.critic_lr == float(rows["Learning Rate"])
    assert config.actor_period == int(rows["Actor Freq"])
    widths = {field: value for field, value in config.items() if field.endswith("_hidden_dims")}
    assert {"actor_hidden_dims", "critic_hidden_dims"} <= widths.keys()
    assert set(widths.values()) == {tuple(map(int, rows["Actor and Critic Arch"].split(",")))}
    assert config.buffer_size == int(rows["Buffer Size"].replace(",", ""))
    if column == "TD3":
        assert config.target_noise == float(rows["Target Noise"])
        assert f"{config.exploration_noise:g}, 0.05 (Hopper)" == rows["Actor Noise"]
        config = resolve_online(config, "hopper-hop", ())
        assert config.exploration_noise == 0.05
        learner = learner_from_config(config, 1)
        assert hyperparameters(learner)["exploration_noise"] == pytest.approx(0.05)
    assert (config.num_critics == 1) == algorithm.endswith("_dq")


@pytest.mark.parametrize(
    ("algorithm", "column"), [("xsac", "X-SAC"), ("xtd3", "X-TD3"), ("xtd3_dq", "X-TD3-DQ")]
)
def test_table_6(algorithm, column):
    rows = table("table_6.csv")
    assert len(rows) == 4
    for row in rows:
        config = get_config(algorithm)
        task = row["task"].lower().replace(" ", "-")
        config = resolve_online(config, task, ())
        assert config.beta == float(row[column])
        assert hyperparameters(learner_from_config(config, 1))["beta"] == pytest.approx(config.beta)
        assert config.clip == 8.0  # Appendix D.6


@pytest.mark.parametrize("algorithm", FILE_OF)
def test_small_networks_are_for_a_laptop(algorithm):
    config = get_config(algorithm)
    config.network = "small"
    config = resolve_online(config, "cartpole-swingup", given=())
    assert (config.batch_size, config.warmup_steps) == (256, 1_000)
    learner = hyperparameters(learner_from_config(config, 1))
    widths = {field: value for field, value in learner.items() if field.endswith("_hidden_dims")}
    assert {"actor_hidden_dims", "critic_hidden_dims"} <= widths.keys()
    assert set(widths.values()) == {(256, 256)}


def test_widths_that_are_given_win_over_the_networks_size():
    config = get_config("xsac")
    config.network, config.hidden_dims, config.critic_hidden_dims = "small", (8, 8), (4,)
    config = resolve_online(config, "cheetah-run", given={"hidden_dims", "critic_hidden_dims"})
    assert "hidden_dims" not in config
    widths = [config[f"{network}_hidden_dims"] for network in ("actor", "critic", "value")]
    assert widths == [(8, 8), (4,), (8, 8)]


def test_mistakes_are_refused():
    config = get_config("sac")
    config.network = "tiny"
    with pytest.raises(UserError, match=r"config.network must be one of paper, small, not 'tiny'"):
        resolve_online(config, "cheetah-run", ())
    lacking, misspelt = get_config("sac"), get_config("sac")
    with lacking.unlocked(), misspelt.unlocked():
        del lacking.updates_per_step
        misspelt.betta = 1.0
    with pytest.raises(UserError, match="the config has no updates_per_step, a field of sac"):
        resolve_online(lacking, "cheetah-run", ())
    with pytest.raises(UserError, match="unknown config field 'betta' for sac"):
        resolve_online(misspelt, "cheetah-run", ())
    with pytest.raises(UserError, match=r"unknown algorithm 'xql' here .*train_offline.py.*known: .*xsac"):
        online_config("xql", algorithms=("sac",), differences={}, small={}, by_task={})
    for file, algorithm in (("td3", "xtd3"), ("sac", "xsac"), ("xsac", "sac"), ("xtd3", "td3_dq")):
        with pytest.raises(UserError, match=rf"values are for .*{file}.*, not for {algorithm},"):
            runpy.run_path(str(ROOT / "configs" / f"{file}_config.py"))["get_config"](algorithm)
    with pytest.raises(UserError, match=r"unknown algorithm 'sac' here .*train_online.py.*known: .*xql"):
        runpy.run_path(str(ROOT / "configs" / "mujoco_config.py"))["get_config"]("sac")
