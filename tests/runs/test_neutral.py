"""A hyperparameter at its neutral value leaves a run as it was before the hyperparameter existed."""

import json
from pathlib import Path

import pytest
from written_runs import write_run

from xql_jax.files import digest
from xql_jax.learners.registry import OFFLINE, make_learner
from xql_jax.runs.config_files import choose_config
from xql_jax.runs.folder import identity_of
from xql_jax.runs.kinds import Finetune, Offline, Online
from xql_jax.runs.load import load_run
from xql_jax.runs.resolve import resolved, settings_from
from xql_jax.settings import values_of
from xql_jax.workshop.paper.curves import read_ablation

# Digests of the identities that runs of each method have, with its suite's values. A digest that changes says
# that older runs of this method are trained anew: CHANGELOG says why. `pytest tests/runs/test_neutral.py -s`
# prints the new one.
RECORDED = json.loads((Path(__file__).parent / "identities.json").read_text())
TASKS = {"offline": "pointmaze-umaze-v0", "online": "cheetah-run", "finetune": "pointmaze-umaze-v0"}
KINDS = {"offline": Offline, "online": Online, "finetune": Finetune}


def made(kind, method, **given):
    given |= {"env_name": TASKS[kind]}
    return resolved(settings_from(choose_config(KINDS[kind], method, env_name=TASKS[kind]), given))


@pytest.mark.parametrize("name", RECORDED)
def test_runs_of_every_method_keep_their_identity(name):
    found = digest(identity_of(made(*name.split())))[:16]
    print(f'"{name}": "{found}"')
    assert found == RECORDED[name]


def test_every_other_value_is_another_run():
    plain, neutral, decayed = (
        identity_of(made("offline", "xql", **given))
        for given in ({}, {"critic_weight_decay": 0.0}, {"critic_weight_decay": 0.25})
    )
    assert plain == neutral
    assert decayed == {**plain, "config": {**plain["config"], "critic_weight_decay": 0.25}}


def test_what_a_run_does_not_record_it_had_at_its_neutral_value(tmp_path, monkeypatch):
    monkeypatch.setitem(OFFLINE["iql"].defaults, "critic_weight_decay", 0.125)
    assert values_of(make_learner("iql"))["critic_weight_decay"] == 0.125
    names = {"expectile": 0.7}
    paths = [
        write_run(tmp_path, "hopper-medium-v2", "iql", {0: [score], 1: [score]}, **names, **config)
        for score, config in ((30.0, {}), (40.0, {"critic_weight_decay": 0.25}))
    ]
    runs = [load_run(path) for path in paths]
    assert [values_of(run.training.learner)["critic_weight_decay"] for run in runs] == [0.0, 0.25]
    assert [run.settings_text["config.critic_weight_decay"] for run in runs] == ["0", "0.25"]
    last = read_ablation(tmp_path, field="critic_weight_decay")["last"]
    assert {*zip(last["value"], last["score"], strict=True)} == {(0.0, 30.0), (0.25, 40.0)}
