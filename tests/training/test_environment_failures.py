"""An environment fails in the midst of a training: what was trained until then is saved, and gone on with."""

import json

import pytest
from online_fakes import Counting, make_population, same, save, transitions
from training_runs import TASK, OneStep, train

from xql_jax.errors import EnvironmentFailure
from xql_jax.training.checkpoints import TrainingFiles
from xql_jax.training.loop import TrainingLoop
from xql_jax.training.members import Member
from xql_jax.training.schedule import Schedule

MEMBERS = [Member(3, {"rate": 1.0}), Member(4, {"rate": 5.0})]
# The last step of both members' third episodes, in the round of two steps from 20 on.
BREAKS_AT = 21


class Breaking(Counting):
    steps = 0

    def step(self, action):
        self.steps += 1
        if self.steps == BREAKS_AT:
            raise EnvironmentFailure("it stands still")
        return super().step(action)


def population_of(folder, *environments):
    """A population whose members have one each."""
    left = iter(environments)
    return make_population(folder, MEMBERS, lambda: next(left)())


def test_all_members_are_at_the_last_round_that_all_acted(tmp_path):
    failed = population_of(tmp_path / "failed", Counting, Breaking)
    whole = population_of(tmp_path / "whole", Counting, Counting)
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
    failed.kind.close()


def make_loop(folder, *environments, evaluator=None):
    files = TrainingFiles(folder)
    population = population_of(files.replay, *environments)
    schedule = Schedule(40, log_interval=4, eval_interval=10, checkpoint_interval=16)
    return TrainingLoop(population, evaluator, TASK, schedule, files), files


def checkpoint(files, step):
    return json.loads((files.checkpoints / str(step) / "checkpoint.json").read_text())["progress"]


def test_the_loop_saves_before_it_raises(tmp_path):
    loop, files = make_loop(tmp_path, Counting, Breaking)
    with loop, pytest.raises(EnvironmentFailure, match="stands still"):
        train(loop, steps_per_call=8)
    assert sorted(path.name for path in files.checkpoints.iterdir()) == ["16", "20"]
    progress = checkpoint(files, 20)
    assert progress["step"] == 20
    assert progress["update_seconds"] > 0
    assert files.metrics.read_text().splitlines()[-1].startswith("20,4,")
    resumed, _ = make_loop(tmp_path, Counting, Counting)
    with resumed:
        assert resumed.progress.step == 20
        train(resumed, steps_per_call=8)
    steps = [line.split(",")[:2] for line in files.metrics.read_text().splitlines()[1:]]
    assert steps == [[str(step), seed] for step in range(8, 41, 4) for seed in "34"]


class Failing(OneStep):
    """An evaluator whose environment fails twice."""

    failures = 2

    def __init__(self):
        super().__init__(2)
        self._observations = self._observations[..., :2]

    def run(self, act):
        if self.failures:
            self.failures -= 1
            raise EnvironmentFailure("the simulation failed")
        return super().run(act)


def test_an_evaluation_that_fails_again_is_left_out_but_for_the_last(tmp_path):
    """From the same starts it may fail for ever, and training would never go on."""
    for step in (10, 20, 30, 40, 40):  # a run without its last score is not finished
        evaluator = Failing()
        loop, files = make_loop(tmp_path, Counting, Counting, evaluator=evaluator)
        with loop, pytest.raises(EnvironmentFailure, match="the simulation failed"):
            train(loop)
        assert checkpoint(files, step)["step"] == step
        assert not loop.finished
    rows = loop._files.evaluations.read_text().splitlines()
    assert rows == []  # none of the evaluations was over
