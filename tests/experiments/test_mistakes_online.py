"""Mistakes at train_online.py's command line: exit code 2, one clear line, nothing written."""

import pytest
from main_runs import ROOT, run_process
from mistakes import assert_told

# By name: what is added to a good command, and what the message must say.
MISTAKES = {
    "unknown task": ("online --env_name=cheetah-runs", "'cheetah-runs'", "cheetah-run"),
    "unknown task, otherwise misspelt": ("online --env_name=chetah-run", "cheetah-run"),
    "task without a simulator": (
        "online --env_name=bullet-hopper-medium-v0", "bullet-hopper-medium-v0", "dm_control"
    ),
    "unknown compiled task": (
        "online --env_name=playground:CheetahRum", "'playground:CheetahRum'", "playground:CheetahRun"
    ),
    "compiled in processes": ("online --env_name=playground:CheetahRun --processes", "--processes"),
    "compiled with restarts": (
        "online --env_name=playground:CheetahRun --on_divergence=restart", "--on_divergence=restart", "freeze"
    ),
    "a module that is not there": ("online --env_name=no_module:PointMass", "'no_module'", "does not import"),
    "unknown size of networks": (
        "online --config.network=tiny", "config.network", "paper, small", "'tiny'"
    ),
    "buffer smaller than a batch": (
        "online --config.buffer_size=4", "config.buffer_size=4", "config.batch_size=8"
    ),
    "buffer smaller than a step": (
        "online --config.buffer_size=10 --num_environments=50", "config.buffer_size=10", "=50"
    ),
    "buffers without room": (
        "online --config.buffer_size=100000000 --num_seeds=99", "config.buffer_size=100000000", "GiB"
    ),
    "intervals between steps": (
        "online --num_environments=3", "--max_steps=200", "--log_interval=50", "--eval_interval=100",
        "multiple of --num_environments=3",
    ),
    "errors between steps": (
        "online --num_environments=2 --bellman_error_interval=15", "--bellman_error_interval=15"
    ),
    "negative interval": ("online --bellman_error_interval=-1", "--bellman_error_interval=-1"),
    "nothing but random steps": (
        "online --config.warmup_steps=200", "--max_steps=200", "config.warmup_steps=200"
    ),
    "lag that cannot be had": (
        "online --num_environments=50 --max_policy_lag=1", "--max_policy_lag=1", "--num_environments=50"
    ),
    "impossible rate": ("online --config.tau=0", "config.tau", "within (0, 1]"),
    "empty batches": ("online --config.batch_size=0", "config.batch_size", "from 1 to"),
    "negative steps": ("online --config.warmup_steps=-1", "config.warmup_steps", "at least 0"),
    "updates that are no number": (
        "online --config.updates_per_step=nan", "config.updates_per_step", "above 0"
    ),
    "unknown field": ("online --config.betta=1", "'betta'"),
    "sweep of a run's field": ("online --sweep=batch_size=1,2", "--sweep", "'batch_size'"),
    "an offline algorithm": (
        "online --config={configs}/td3_config.py:xql", "'xql'", "train_offline.py", "xtd3_dq"
    ),
    "another file's algorithm": ("online --config={configs}/td3_config.py:xtd3", "for td3 and td3_dq"),
    "an online method with a policy": (
        "online --config={configs}/td3_config.py:td3+forward_kl", "leave out +forward_kl"
    ),
    "an offline config": (
        "online --config={configs}/pointmaze_config.py",
        "/pointmaze_config.py: that is for experiments/train_offline.py",
    ),
    "a config of neither": ("online --config=neither_config.py", "neither_config.py", "online_config"),
    "a config without a field of the run": (
        "online --config=less_config.py", "the config has no updates_per_step, a field of td3"
    ),
    "unknown field in the file": ("online --config=more_config.py", "unknown config field 'betta' for td3"),
}  # fmt: skip
TD3 = (
    (ROOT / "configs" / "td3_config.py").read_text().replace("return online_config", "config = online_config")
)
CHANGED = "    with config.unlocked():\n        {}\n    return config\n"
FILES = {
    "neither": TD3 + CHANGED.format("del config.about.small"),
    "less": TD3 + CHANGED.format("del config.updates_per_step"),
    "more": TD3 + CHANGED.format("config.betta = 1.0"),
}


@pytest.fixture(scope="module")
def outcomes(place):
    for name, source in FILES.items():
        (place.folder / f"{name}_config.py").write_text(source)
    return place.outcomes(MISTAKES)


@pytest.mark.parametrize("name", MISTAKES)
def test_mistake_ends_with_one_line(outcomes, name):
    assert_told(outcomes[name], MISTAKES[name][1:])


def test_alone_they_end_alike(place, outcomes):
    place.assert_same_alone(MISTAKES, outcomes)


@pytest.mark.slow
def test_mistake_in_a_process_of_its_own(place, tmp_path):
    command, *words = MISTAKES["lag that cannot be had"]
    run = place.run_of(command)
    assert_told(run_process(run.arguments, tmp_path, main=run.main), words)
    assert not list(tmp_path.iterdir())
