"""An environment fails in the midst of a training: what was trained until then is saved, and gone on with."""

import pytest
from driver import Driver, failing, rows
from online_fakes import Counting, make_trainer, same, save, transitions
from training_runs import ARRAYS

import xql_jax
from xql_jax.errors import EnvironmentFailure
from xql_jax.training.members import Member

MEMBERS = [Member(3, {"rate": 1.0}), Member(4, {"rate": 5.0})]
# The last step of both members' third episodes, in the round of two steps from 20 on.
BREAKS_AT = 21
ACTING = {
    "env_name": "driver:Drift-v0", "method": "td3", "hidden_dims": (4,), "batch_size": 4,
    "buffer_size": 64, "warmup_steps": 6, "max_steps": 40, "log_interval": 4, "eval_episodes": 0,
}  # fmt: skip


class Breaking(Counting):
    steps = 0

    def step(self, action):
        self.steps += 1
        if self.steps == BREAKS_AT:
            raise EnvironmentFailure("it stands still")
        return super().step(action)


def trainer_of(folder, *environments):
    """The trainer of members that have one each."""
    left = iter(environments)
    return make_trainer(folder, MEMBERS, lambda: next(left)())


def test_all_members_are_at_the_last_round_that_all_acted(tmp_path):
    failed = trainer_of(tmp_path / "failed", Counting, Breaking)
    whole = trainer_of(tmp_path / "whole", Counting, Counting)
    with pytest.raises(EnvironmentFailure, match="seed 4, rate=5: environment 0 failed: it stands still"):
        failed.advance(40)
    whole.advance(20)
    assert failed.step == whole.step == 20
    saved, expected = save(failed), save(whole)
    same(saved[0], expected[0])
    assert saved[1].members == expected[1].members
    assert [member["episodes"] for member in saved[1].members.values()] == [[2], [2]]
    for index in range(2):
        same(transitions(failed, index), transitions(whole, index))
    failed.close()


def test_a_run_saves_before_it_raises_and_goes_on(tmp_path):
    settings = ACTING | {"checkpoint_interval": 16}
    run = Driver(xql_jax.train_online, tmp_path, settings)
    with failing(22, 23), pytest.raises(EnvironmentFailure, match="it stands still"):
        run.resume()
    assert run.steps == [16, 20]  # at the last round that was whole
    assert rows(run.path / "metrics.csv")[-1]["step"] == "20"
    run.resume()
    assert [int(row["step"]) for row in rows(run.path / "metrics.csv")] == list(range(8, 41, 4))


def test_an_evaluation_that_fails_again_is_left_out_but_for_the_last(tmp_path):
    """From the same starts it may fail for ever, and training would never go on."""
    settings = {
        "env_name": "driver:Drift-v0", "dataset": ARRAYS, "method": "training_runs:Growth", "batch_size": 4,
        "max_steps": 40, "log_interval": 10, "eval_interval": 10, "eval_episodes": 1,
    }  # fmt: skip
    run = Driver(xql_jax.train, tmp_path, settings)
    for step in (10, 20, 30, 40, 40):  # a run without its last score is not finished
        with failing(6 + 32), pytest.raises(EnvironmentFailure, match="it stands still"):
            run.resume()
        assert run.steps[-1] == step
    run.resume()
    assert [row["step"] for row in rows(run.path / "evaluations.csv")] == ["40"]


def test_a_damaged_replay_file_sends_a_run_that_acts_back_to_the_checkpoint_before(tmp_path):
    """Twice: the environments and the learner's thread must be open for the second attempt."""
    settings = ACTING | {"checkpoint_interval": 8}
    whole, run = (Driver(xql_jax.train_online, tmp_path / name, settings) for name in ("whole", "damaged"))
    whole.resume()
    run.resume(lambda step, numbers: step == 24)
    before = run.steps
    last = max((run.path / "replay").rglob("*.npz"), key=lambda file: file.stat().st_mtime_ns)
    last.write_bytes(b"damaged")
    run.resume()
    assert before[-1] == 24
    metrics = [rows(each.path / "metrics.csv") for each in (whole, run)]
    assert [row["step"] for row in metrics[0]] == [row["step"] for row in metrics[1]]


def test_a_step_that_the_comparison_tries_ends_no_training(tmp_path, caplog):
    settings = {
        "env_name": "driver:Drift-v0", "dataset": ARRAYS, "method": "training_runs:Growth", "batch_size": 4,
        "max_steps": 10, "log_interval": 10, "eval_interval": 10, "eval_episodes": 1,
    }  # fmt: skip
    run = Driver(xql_jax.train, tmp_path, settings)
    with failing(6, 7):  # the first of them
        run.resume()
    assert [row["step"] for row in rows(run.path / "evaluations.csv")] == ["10"]
    assert "so how its episodes begin is not compared with the data" in caplog.text
