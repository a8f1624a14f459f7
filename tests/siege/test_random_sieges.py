"""Random attacks on the files of runs that were stopped at random moments: the same numbers, or one line.

XQL_JAX_SIEGE=2000 XQL_JAX_SIEGE_SEED=7 python -m pytest tests/siege/test_random_sieges.py: a night's worth.
"""

import collections
import dataclasses
import os
import random
import shutil

import pytest
from attacks import ATTACKS, files_of
from judge import LOGS, judge, logs, numbers
from siege_runs import KINDS, Stage, make_stages, points_in

from xql_jax.errors import UserError

SIEGES = int(os.environ.get("XQL_JAX_SIEGE", "60"))
SEED = int(os.environ.get("XQL_JAX_SIEGE_SEED", "0"))
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", params=sorted(KINDS))
def stages(request, tmp_path_factory):
    """Runs of one kind, stopped at each step at which one can be, ended, and of others."""
    return make_stages(KINDS[request.param], tmp_path_factory.mktemp(request.param))


def attack(run, others, generator):
    """One to three attacks; returns what they were."""
    told = [generator.choice(ATTACKS)(run, others, generator) for _ in range(generator.choice([1, 1, 2, 3]))]
    return [words for words in told if words]


def copied(stage, folder):
    shutil.copytree(stage.run, folder / stage.run.relative_to(stage.save_dir), symlinks=True)
    return dataclasses.replace(stage, save_dir=folder, run=folder / stage.run.relative_to(stage.save_dir))


def test_random_sieges(stages, tmp_path, capsys):
    """Resumed, evaluated or drawn after it; each as a user would, in this process."""
    kinds, bad = collections.Counter(), []
    for number in range(SIEGES // len(KINDS)):
        generator = random.Random(f"{SEED} {stages.kind.name} {number}")
        stage = generator.choice(stages.stages)
        besieged = copied(stage, tmp_path / "siege")
        done = attack(
            besieged.run, [other.run for other in stages.others if other.run != stage.run], generator
        )
        way = generator.choice([resume, resume, evaluate, draw])
        verdict = way(besieged, stages)
        kinds[way.__name__, verdict.kind] += 1
        if not verdict.is_good:
            bad.append(f"{number} ({way.__name__} after {stage.name}; {'; '.join(done)}): {verdict}")
        shutil.rmtree(tmp_path / "siege")
    with capsys.disabled():
        print(
            f"\n{stages.kind.name}: "
            + ", ".join(f"{way} {kind} {n}" for (way, kind), n in sorted(kinds.items()))
        )
    assert not bad, "\n".join(bad[:20])


def resume(stage: Stage, stages):
    ended = []

    def work():
        with stages.kind.run(stage.settings(resume=True)) as run:
            run.run()
            ended.append(run.had_ended)

    def result():  # of a run that had ended only its rows are looked at; who evaluates it sees to the rest
        return logs(stage.run) if ended[0] else numbers(stage.run)

    rows = [{name: end[name] for name in LOGS} for end in stage.may_become]
    return judge(stage.run, work, result, [*stage.may_become, *rows])


def evaluate(stage: Stage, stages):
    found = []

    def work():
        found.append(stages.evaluate(stage.run))

    return judge(stage.run, work, lambda: found[0], stages.evaluations)


def draw(stage: Stage, stages):
    """What figures read of it: the points of its evaluations, or nothing where it is left out."""
    found = []

    def work():
        found.append(points_in(stage.save_dir))

    return judge(stage.run, work, lambda: found[0], [[], stages.points])


def test_the_judge_sees_what_is_wrong(stages, tmp_path):
    """Or the siege could never fail: other numbers, a traceback, no words, a file that is gone."""
    stage = copied(stages.stages[1], tmp_path / "siege")

    def verdict(work):
        return judge(stage.run, work, lambda: numbers(stage.run), stage.may_become).kind

    def fail(error):
        raise error

    assert verdict(lambda: None) == "other numbers"  # it is not finished
    assert verdict(lambda: fail(KeyError("x"))) == "traceback"
    assert verdict(lambda: fail(UserError("damaged"))) == "one line"
    assert verdict(lambda: fail(UserError(" "))) == "no clear line"

    def lose():
        next(path for path in files_of(stage.run) if path.name == "checkpoint.json").unlink()
        raise UserError("damaged")

    assert verdict(lose) == "lost"
