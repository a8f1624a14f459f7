"""train_finetune.py and export.py at the command line: from data to a policy elsewhere, and mistakes."""

import json

import numpy as np
import pytest
from main_runs import EXPORT, FINETUNE, MAIN, ROOT, run_process
from mistakes import assert_told

# By name: what is added to a good command, and what the message must say.
MISTAKES = {
    "a field of the checkpoint's": (
        "finetune-from --checkpoint={run} --config.beta=3",
        "--config.beta: the run of --checkpoint has its own", "--online",
    ),
    "no such run": ("finetune-from --checkpoint={folder}/nowhere", "nowhere", "not the folder of a run"),
    "no such checkpoint": (
        "finetune-from --checkpoint={run}/checkpoints/999", "no checkpoint 999", "there are: 4"
    ),
    "no such member": ("finetune-from --checkpoint={run} --member=3", "--member=3", "members 0 to 0"),
    "a member of nothing": ("finetune --member=0", "--member", "--checkpoint, which is not given"),
    "a method of windows": ("finetune --config={configs}/pointmaze_config.py:dt", "dt cannot be fine-tuned"),
    "a method of next actions": (
        "finetune --config={configs}/pointmaze_config.py:rebrac", "rebrac cannot be fine-tuned", "SarsaBatch"
    ),
    "an online method": ("finetune --config={configs}/pointmaze_config.py:sac", "'sac'", "train_online.py"),
    "a share above 1": ("finetune --offline_fraction=1.5", "--offline_fraction=1.5", "from 0.0 to 1.0"),
    "a buffer below the data": (
        "finetune --batch_size=4 --replay_buffer_size=10", "--replay_buffer_size=10", "transitions"
    ),
    "a buffer below a batch": (
        "finetune --replay_buffer_size=3", "--replay_buffer_size=3", "--batch_size=256"
    ),
    "unknown field online": ("finetune --online=betta=1", "'betta'", "beta"),
    "impossible value online": ("finetune --online=beta=0", "--online: beta must be positive"),
    "a ramp of three": ("finetune --online=beta=1:2:3", "FIELD=NUMBER:NUMBER"),
    "nothing but random steps": ("finetune --warmup_steps=4", "--warmup_steps=4", "--max_steps=4"),
    "intervals between steps": ("finetune --num_environments=3", "multiple of --num_environments=3"),
    "one reference": ("finetune --random_return=1", "--random_return and --expert_return: give both or none"),
    "references of a task that has some": (
        "finetune --random_return=1 --expert_return=2", "pointmaze-umaze-v0 has references of its own"
    ),
    "references in the wrong order": (
        "finetune --random_return=3 --expert_return=2", "must be above the random policy's"
    ),
    "own environment without a module": (
        "finetune --env_name=nowhere:My-v0", "'nowhere' does not import here"
    ),
    "export of nothing": ("export", "name a run's folder"),
    "export of no run": ("export {folder}", "not the folder of a run"),
    "unknown format": ("export {run} --formats=torch", "--formats=torch", "jax, onnx, npz"),
    "export to a file": ("export {run} --output={run}/config.json", "--output="),
    "export among a run's own": ("export {run} --output={run}/checkpoints/x", "that is of the run"),
}  # fmt: skip
ARGUMENTS = (
    "--config.hidden_dims=(8,)", "--batch_size=8", "--log_interval=50", "--eval_interval=50",
    "--checkpoint_interval=50", "--eval_episodes=2", "--notqdm",
)  # fmt: skip


@pytest.fixture(scope="module")
def outcomes(place):
    return place.outcomes(MISTAKES)


@pytest.mark.parametrize("name", MISTAKES)
def test_mistake_ends_with_one_line(outcomes, name):
    assert_told(outcomes[name], MISTAKES[name][1:])


@pytest.mark.slow
def test_from_an_environment_of_ones_own_to_a_policy_elsewhere(tmp_path):
    """Data of it are learned from, then the environment itself; the files' policies score as the run's."""
    (tmp_path / "own_maze.py").write_text((ROOT / "tests" / "envs" / "own_maze.py").read_text())
    rows = np.random.default_rng(0)
    np.savez(
        tmp_path / "data.npz",
        observations=np.stack([rows.uniform(-1, 1, 300), np.ones(300)], axis=1).astype(np.float32),
        actions=rows.uniform(-1, 1, (300, 1)).astype(np.float32),
        rewards=rows.normal(size=300).astype(np.float32),
        terminals=np.zeros(300, bool),
        timeouts=np.arange(300) % 30 == 29,
    )
    own = ("--env_name=own_maze:Line-v0", "--random_return=-60", "--expert_return=-5")
    offline = run_process(
        [*own, *ARGUMENTS, "--dataset=data.npz", "--max_steps=50", "--num_seeds=2"], tmp_path, main=MAIN
    )
    assert (offline.code, offline.err) == (0, ""), offline
    (run,) = (path.parent for path in (tmp_path / "results").rglob("summary.json"))
    arguments = [argument for argument in ARGUMENTS if "config" not in argument]
    tuned = run_process(
        [f"--checkpoint={run}", "--member=1", "--max_steps=100", *arguments, "--save_dir=tuned"],
        tmp_path,
        main=FINETUNE,
    )
    assert (tuned.code, tuned.err) == (0, ""), tuned
    assert tuned.out.startswith(f"{run}: 100 steps\n")
    (file,) = (tmp_path / "tuned").rglob("summary.json")
    (entry,) = json.loads(file.read_text())["finetuning"]
    last = json.loads((run / "summary.json").read_text())["results"][0]["last_score_by_seed"]
    assert entry["offline_score_by_seed"] == [last[1]]
    assert (
        f"before → after: {entry['offline_score']:.1f} → {entry['online_score']:.1f}; cumulative" in tuned.out
    )
    exported = run_process([str(file.parent), "--output=policy", "--episodes=3"], tmp_path, main=EXPORT)
    assert (exported.code, exported.err) == (0, ""), exported
    scores = [line.split("score ")[1] for line in exported.out.splitlines() if ": score " in line]
    assert len(scores) == 4
    assert len(set(scores)) == 1  # the run's own, and of the three files
    assert sorted(path.name for path in (tmp_path / "policy").iterdir()) == [
        "act.py", "policy.jax", "policy.json", "policy.npz", "policy.onnx",
    ]  # fmt: skip
