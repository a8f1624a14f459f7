"""Honest mistakes at the command lines: exit code 2, one clear line, and not a file touched."""

import fcntl
import shutil

import numpy as np
import pytest
from driver import ROOT, contents, run_process, write_dataset
from mistakes import assert_told, mistakes

SOURCE = (ROOT / "configs" / "pointmaze_config.py").read_text()
EDITED = SOURCE.replace("return config_of", "config = config_of")
CONFIGS = {  # by name of the file, what is in it
    "syntax": SOURCE.replace("def get_config(", "def get_config(("),
    "dictionary": "def get_config():\n    return {'beta': 1.0}\n",
    "betta": EDITED + "    config.betta = 0.5\n    return config\n",
    "of_iql": SOURCE.replace("(text,", '("iql",'),
}
MISTAKES = """
# flags
train --num_seed=2 => num_seed | num_seeds
train hopper-medium-v2 => 'hopper-medium-v2' | did you mean --env_name=hopper-medium-v2?
figures --out=a => --out: unknown setting; nearest known: output
# environments
train --env_name=pointmaze-umaz-v0 => 'pointmaze-umaz-v0' | umaze-v0
bare --env_name=Hopper-v5 => Hopper-v5 | xql-train-online | --dataset
# sweeps of hyperparameters
train --sweep=betta=1,2 => --sweep | 'betta' | beta
train --sweep=beta=1,1.0 => --sweep | same value | beta
train --sweep=v_updates=1,2 => --sweep | v_updates
train --sweep=beta=1,,2 => --sweep | 'beta=1,,2'
train --sweep=beta=1,2 --beta=3 => --beta: | --sweep
# a run
train --tuned => --tuned | pointmaze-umaze-v0 | none
train => this run exists | seed42_ | --resume
# configs
train --config={configs}/mojuco_config.py => mojuco_c | mujoco,
train --config=syntax_config.py => syntax_config.py | SyntaxError | line
train --config=dictionary_config.py => no config | configs/
online --config={configs}/pointmaze_config.py => xql-train-offline trains it
train --config=betta_config.py => betta_config.py | Did you mean "beta"
train --config=of_iql_config.py --method=bc => of_iql_config.py | a config of iql | leave out bc
train --method=sac => 'sac' | xql-train-online trains it
train --config={configs}/pointmaze_config.py:iql --method=bc => --method=bc | leave out one
finetune-from --method=iql --checkpoint={run} => --method: the run of --checkpoint has its own
train --config={configs}/pointmaze_config.py:xql+forward => xql has no policy 'forward' | forward_kl
train --env_name=kitchen-mixed-v0 --config={configs}/mujoco_config.py => /kitchen_config.py
train --method=iql --beta=1 => --beta: no hyperparameter of iql, but of | xsac | awr_temperature
train --lr=1 => --lr: unknown setting | value_lr or actor_lr or critic_lr
train --config.num_critics=1.5 => --num_critics=1.5: must be a whole number
# online
online --env_name=cheetah-runs => 'cheetah-runs' | cheetah-run
online --config.buffer_size=4 => buffer_size=4 | batch_size=8
online --num_environments=3 => --max_steps=200 | multiple of --num_environments=3
online --num_environments=50 --max_policy_lag=1 => --max_policy_lag=1 | --num_environments=50
online --environment_timeout=5 => --environment_timeout | --processes
# fine-tuning
finetune-from --checkpoint={run} --config.beta=1 => the run of --checkpoint has its own | --online=beta=VALUE
finetune-from --checkpoint={run} --hidden_dims=4 => --hidden_dims: the run of --checkpoint | leave this out
finetune-from --checkpoint={run} --member=3 => --member=3 | members 0 to 0
finetune --member=0 => --member chooses among those of --checkpoint
finetune --replay_buffer_size=100 --batch_size=8 => --replay_buffer_size=100: smaller than the data
finetune --config={configs}/pointmaze_config.py:dt => dt cannot be fine-tuned
# data
bare --dataset=nowhere/a.hdf5 => nowhere/a.hdf5 | no such file
train --dataset=good.hdf5 --dataset=nan.hdf5 => nan.hdf5 | row 77
# runs
evaluate results => config.json | runs below it | seed42
evaluate {run} --env_name=kitchen-mixed-v0 => kitchen-mixed-v0 | 60
evaluate {run} --member=1 => --member=1 | 0 to 0
export {run} --formats= => --formats= | jax, onnx, npz
# collection
collect --policy=random --episodes=1 --output=x.hdf5 => --policy needs --env_name
collect-random --episodes=1 --policy={run} => does not fit the run
collect-random --episodes=1 --output=good.hdf5 => exists already
collect --replay={run} --output=x.hdf5 => no run of xql-train-online
# reports and figures
figures --figure=13 => --figure=13: must be one of 2, 4, | all
# outputs
evaluate {run} --output=results => --output=results | a directory
# sweeps and tables
sweep --partition=gpu => --partition: unknown setting | slurm_options
sweep --beta=1 => --beta: a hyperparameter | --methods=METHOD:beta=
sweep --executor=ray --ray_address=127.0.0.1:9 => --ray_address=127.0.0.1:9: no cluster there
sweep --num_pretraining_steps=2 => --num_pretraining_steps: only used in fine-tuning: add --finetune
sweep unknown.yaml => --method: unknown | methods
sweep twice.yaml => twice.yaml | num_seeds is given twice | line 3
sweep nested.yaml => nested.yaml | beta is given twice | line 2, column 19
sweep latin.yaml => latin.yaml | UTF-8
sweep config.yaml => --num_seeds is given twice
reproduce --methods=xql,bc --datasets=hopper-medium-v2 => nothing can be trained
"""


FILES = {
    **{f"{name}_config.py": source for name, source in CONFIGS.items()},
    "unknown.yaml": "method: [xql]",
    "twice.yaml": "num_seeds: 1\nseed: 0\nnum_seeds: 2",
    "nested.yaml": "slurm_options:\n  mem: [{beta: 1, beta: 2}]",
    "latin.yaml": "# caf\xe9",
    "config.yaml": "num_seeds: 1\nconfig.num_seeds: 2",
}


@pytest.fixture(scope="module")
def furnished(place):
    """The place with what the commands name."""
    for name, text in FILES.items():
        (place.folder / name).write_bytes(text.encode("latin-1"))
    observations = np.zeros((120, 4), np.float32)
    observations[77, 2] = np.nan
    write_dataset(place.folder / "nan.hdf5", observations=observations)
    return place


@pytest.mark.parametrize(("command", "words"), mistakes(MISTAKES), ids=lambda value: str(value)[:60])
def test_a_mistake_ends_with_one_line(furnished, command, words):
    before = contents(furnished.folder)
    assert_told(furnished.outcome(command), words)
    assert contents(furnished.folder) == before


@pytest.mark.slow
def test_the_interrupted_exit_code(tmp_path):
    """Ctrl-C outside of a training: one word, and the exit code of a SIGINT."""
    (tmp_path / "interrupted_config.py").write_text("raise KeyboardInterrupt\n")
    outcome = run_process([f"--config={tmp_path / 'interrupted_config.py'}"])
    assert (outcome.code, outcome.err) == (130, "interrupted\n")


def test_a_mistake_does_not_spoil_a_resumption(furnished):
    before = contents(furnished.run)
    assert_told(furnished.train("--resume", "--dataset=nan.hdf5"), ["nan.hdf5"])
    assert_told(furnished.train("--resume", "--config.beta=0"), ["beta"])
    assert contents(furnished.run) == before
    outcome = furnished.train("--resume")  # it has ended: its results are told again, no byte changes
    assert (outcome.code, outcome.err) == (0, "")
    assert "last score" in outcome.out
    assert contents(furnished.run) == before


def test_another_process_is_at_the_run(place, tmp_path):
    shutil.copytree(place.results, tmp_path / "results")
    run = tmp_path / "results" / place.run.relative_to(place.results)
    (run / "summary.json").unlink()  # as if it had not ended
    before = contents(run)
    with (run / ".lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        outcome = place.train("--resume", f"--save_dir={tmp_path / 'results'}")
    assert_told(outcome, ["another process is at this run", run.name])
    assert contents(run) == before
