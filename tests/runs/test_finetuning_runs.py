"""Fine-tuning runs in plain Python: from data or another run, stopped in either phase, and read again."""

import dataclasses
import itertools
import json
import shutil

import jax
import numpy as np
import pytest
from tiny_runs import (
    PRETRAINING,
    SCHEDULE,
    SIX,
    assert_same_bits,
    finetune_settings,
    offline_settings,
    stopped_at,
    untimed,
)

from xql_jax.configuration import suite_config
from xql_jax.data.dataset import Dataset
from xql_jax.data.preprocessing import Preprocessing
from xql_jax.errors import UserError
from xql_jax.runs.evaluation import EvaluationRun
from xql_jax.runs.finetuning import FinetuneRun
from xql_jax.runs.load import SavedRun, load_run
from xql_jax.runs.offline import OfflineRun
from xql_jax.runs.run import EVALUATION_SEED
from xql_jax.runs.tool_settings import EvaluationSettings
from xql_jax.tasks import References
from xql_jax.training.finetuning import FinetuningPopulation
from xql_jax.types import Batch

pytestmark = pytest.mark.slow

O, A = 4, 2


def run_of(settings):
    with FinetuneRun(settings) as run:
        summary = run.run()
    return run, summary


def states_of(run, step):
    return load_run(run.folder.path, step).states


@pytest.fixture(scope="module")
def finetuned(data, tmp_path_factory):
    folder = str(tmp_path_factory.mktemp("finetuned"))
    two = dataclasses.replace(SCHEDULE, keep_checkpoints=2)  # and the hand-over's
    return run_of(finetune_settings(data, schedule=two, save_dir=folder))


@pytest.fixture(scope="module")
def offline(data, tmp_path_factory):
    """A run of six seeds that others go on from."""
    settings = offline_settings(data, save_dir=str(tmp_path_factory.mktemp("offline")), **SIX)
    with OfflineRun(settings) as run:
        return run, run.run()


@pytest.mark.parametrize(
    ("asked", "changes"),
    [
        ({}, "beta=5:2 actor_lr=0.001"),
        ({"online": ""}, ""),
        ({"online": "beta=3"}, "beta=3"),
        ({"given": frozenset({"beta"})}, "actor_lr=0.001"),
        ({"sweep": "actor_lr=0.1,0.2 tau=0.1"}, "beta=5:2"),
        ({"sweep": "tau=0.1;actor_lr=0.1,0.2"}, "beta=5:2"),
    ],
)
def test_what_changes_at_the_hand_over_is_the_configs_but_for_what_the_user_sets(data, asked, changes):
    settings = finetune_settings(data, **asked)
    with settings.config.unlocked():
        settings.config.about.finetune.online = "beta=5:2 actor_lr=0.001"
    run = FinetuneRun(settings)
    run.resolve()
    assert run.identity["online"] == changes
    assert {ramp.name for ramp in run.acting.ramps} == {part.split("=")[0] for part in changes.split()}


def test_one_run_from_offline_to_online(finetuned):
    run, summary = finetuned
    record = load_run(run.folder.path)
    assert summary == record.summary
    assert (summary["status"], summary["step"]) == ("finished", PRETRAINING + 12)
    assert (record.unit, record.handover, record.steps) == ("step", PRETRAINING, [6, 12, 18])
    evaluations, metrics = (record.rows(file) for file in (record.files.evaluations, record.files.metrics))
    assert [row.step for row in evaluations if row.seed == 3] == [6, 12, 18]
    assert [row.step for row in metrics if row.seed == 4] == [2, 6, 10, 14, 18]  # counted from the hand-over
    scores = {(row.seed, row.step): row.results["score"] for row in evaluations}
    (entry,) = summary["finetuning"]
    assert entry["seeds"] == [3, 4]
    assert entry["offline_score_by_seed"] == [scores[seed, 6] for seed in (3, 4)]
    assert entry["online_score_by_seed"] == [scores[seed, 18] for seed in (3, 4)]
    regrets = [1 - (scores[seed, 12] + scores[seed, 18]) / 200 for seed in (3, 4)]
    np.testing.assert_allclose(entry["cumulative_regret_by_seed"], regrets)
    assert entry["cumulative_regret"] == pytest.approx(np.mean(regrets))
    for picture in ("maze.png", "learning_curve.png"):
        assert (run.folder.path / picture).exists()


def test_the_first_phase_is_an_offline_run(data, finetuned, tmp_path):
    """To the bit, with a rate that has decayed by the hand-over."""
    config = finetune_settings(data).config
    schedule = dataclasses.replace(SCHEDULE, max_steps=PRETRAINING)
    changes = {"config": config, "seed": 3, "num_seeds": 2, "top_returns": None, "schedule": schedule}
    with OfflineRun(offline_settings(data, save_dir=str(tmp_path), **changes)) as run:
        run.run()
    assert_same_bits(states_of(run, PRETRAINING), states_of(finetuned[0], PRETRAINING))


@pytest.mark.parametrize("step", [6, 12])
def test_stopped_in_either_phase_it_goes_on(data, tmp_path, step):
    """Until the hand-over bit for bit; after it with networks and buffer, episodes from their starts."""
    unbroken, _ = run_of(finetune_settings(data, save_dir=str(tmp_path / "unbroken")))
    settings = finetune_settings(data, save_dir=str(tmp_path / "broken"))
    with FinetuneRun(settings) as run, stopped_at(run, f"step {step}: score"):
        assert run.run()["status"] == "interrupted"
    again, summary = run_of(dataclasses.replace(settings, resume=True))
    assert summary["status"] == "finished"
    lines = [untimed(run.folder.files.evaluations) for run in (unbroken, again)]
    if step == PRETRAINING:
        assert lines[0] == lines[1]
        assert_same_bits(states_of(unbroken, 18), states_of(again, 18))
    else:
        assert lines[0][:5] == lines[1][:5]  # until the stop
        assert [line.split(",")[:2] for line in lines[0]] == [line.split(",")[:2] for line in lines[1]]


def test_the_hand_over_of_a_checkpoint_keeps_every_bit(data, offline, tmp_path):
    """Parameters, optimisers and preprocessing; its score is the offline run's last."""
    source, _ = offline
    settings = finetune_settings(
        data, "bc", save_dir=str(tmp_path), checkpoint=source.folder.path, dataset=(), env_name=None
    )
    seen = {}
    begin = FinetuningPopulation._begin

    def spy(population):
        online = begin(population)
        for member, rounds in zip(online.members, online._runs, strict=True):
            seen[member.name] = jax.tree.map(np.asarray, rounds.state)
        return online

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FinetuningPopulation, "_begin", spy)
        run, summary = run_of(settings)
    assert_same_bits(seen, states_of(source, 12))
    first, second = (
        Preprocessing.load(each.folder.files.preprocessing, each.folder.run) for each in (source, run)
    )
    assert first == second
    assert first.observation_mean
    assert first.most_rows < np.inf
    assert summary["step"] == 12
    (entry,) = summary["finetuning"]
    assert entry["offline_score_by_seed"] == source_scores(source)
    assert run.config.algorithm == "bc"


def source_scores(source):
    return [row.results["score"] for row in source.evaluations if row.step == 12]


@pytest.mark.parametrize("step", [None, 6])
def test_one_member_of_a_population(data, offline, tmp_path, step):
    source, _ = offline
    place = source.folder.path if step is None else source.folder.path / "checkpoints" / str(step)
    settings = finetune_settings(data, save_dir=str(tmp_path), checkpoint=str(place), member=2, batch_size=4)
    run, summary = run_of(settings)
    assert [member.seed for member in run.members] == [5]
    (entry,) = summary["finetuning"]
    expected = [row.results["score"] for row in source.evaluations if (row.step, row.seed) == (step or 12, 5)]
    assert entry["offline_score_by_seed"] == expected


def test_a_member_of_a_sweep(data, tmp_path):
    settings = offline_settings(data, save_dir=str(tmp_path / "a"), seed=3, sweep="actor_lr=0.001,0.003")
    with OfflineRun(settings) as source:
        source.run()
    run, summary = run_of(
        finetune_settings(data, save_dir=str(tmp_path / "b"), checkpoint=source.folder.path, member=1)
    )
    assert [member.name for member in run.members] == ["seed3_actor_lr=0.003"]
    assert summary["finetuning"][0]["offline_score_by_seed"] == [source_scores(source)[1]]


def test_its_evaluation_is_that_of_its_checkpoint(finetuned):
    """`evaluate.py` on the same starts gives the run's last rows to the digit."""
    run, _ = finetuned
    settings = EvaluationSettings(checkpoint=str(run.folder.path), episodes=2, seed=EVALUATION_SEED)
    with EvaluationRun(settings) as evaluation:
        report = evaluation.run()
    last = [row.results["score"] for row in run.evaluations if row.step == 18]
    np.testing.assert_allclose([entry["score_mean"] for entry in report["members"]], last, rtol=1e-8)


def test_rlpd_needs_no_pretraining(data, tmp_path):
    settings = finetune_settings(
        data, "rlpd", save_dir=str(tmp_path), num_pretraining_steps=None, warmup_steps=4, updates_per_step=2.0
    )
    run, summary = run_of(settings)
    assert (run.handover, run.offline_fraction, summary["step"]) == (0, 0.5, 12)
    state = states_of(run, 12)["seed3"]
    assert int(state.step) == 2 * (12 - 4)


def test_a_part_of_the_data(data, tmp_path):
    """Drawn by chance, the same for every member; who takes more than there is gets all."""
    sizes = {}
    for number in (50, 1000):
        with FinetuneRun(finetune_settings(data, save_dir=str(tmp_path), init_dataset_size=number)) as run:
            sizes[number] = run.dataset.size
    assert sizes == {50: 50, 1000: 117}


def test_a_checkpoint_brings_its_part_of_the_data(data, tmp_path, caplog):
    source, _ = run_of(finetune_settings(data, save_dir=str(tmp_path), init_dataset_size=50))
    handover = source.folder.path / "checkpoints" / str(PRETRAINING)
    fingerprint = load_run(source.folder.path).content["dataset_fingerprint"]
    for member in (0, 1):
        changes = {"checkpoint": handover, "member": member, "save_dir": str(tmp_path / str(member))}
        with FinetuneRun(finetune_settings(data, **changes)) as run:
            assert run.dataset.fingerprint() == fingerprint
    assert not any("not the data" in line for line in caplog.messages)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"env_name": None}, "needs an environment: give --env_name"),
        ({"member": 0}, "--member chooses among those of --checkpoint"),
        ({"replay_buffer_size": 100}, "--replay_buffer_size=100: smaller than the data, 117 transitions"),
        (
            {"replay_buffer_size": 4, "offline_fraction": 0.5},
            "--replay_buffer_size=4: smaller than --batch_size=8",
        ),
        ({"warmup_steps": 12}, "nothing is learned in so few: --warmup_steps=12 are random"),
        ({"online": "beta=-1"}, "--online: beta must be positive"),
        ({"sweep": "beta=1,2", "online": "beta=3"}, "--sweep varies beta"),
    ],
)
def test_mistakes(data, tmp_path, changes, told):
    with pytest.raises(UserError) as raised:
        run_of(finetune_settings(data, save_dir=str(tmp_path), **changes))
    assert told in str(raised.value)
    assert not list(tmp_path.rglob("*.json"))


@pytest.mark.parametrize("method", ["iql", "awac", "cql", "rlpd"])
def test_the_methods_of_table_2_and_rlpd_learn_in_both_phases(data, tmp_path, method):
    """Every network's weights change from checkpoint to checkpoint, and stay finite."""
    settings = finetune_settings(
        data, method, save_dir=str(tmp_path), warmup_steps=0, updates_per_step=1.0, num_seeds=1
    )
    if method == "rlpd":
        settings.config.actor_period = 1
    run, summary = run_of(settings)
    assert (summary["status"], summary["diverged"]) == ("finished", [])
    phases = [jax.tree.leaves_with_path(states_of(run, step)["seed3"]) for step in (6, 12, 18)]
    kernels = [[np.asarray(leaf) for path, leaf in leaves if "kernel" in str(path)] for leaves in phases]
    assert len(kernels[0]) >= 6
    for before, after in itertools.pairwise(kernels):
        for old, new in zip(before, after, strict=True):
            assert np.isfinite(new).all()
            assert (old != new).any()


@pytest.mark.parametrize("method", ["onestep", "rebrac", "dt"])
def test_methods_that_a_replay_buffer_cannot_feed(data, tmp_path, method):
    with pytest.raises(UserError, match=f"{method} cannot be fine-tuned"):
        run_of(finetune_settings(data, method, save_dir=str(tmp_path)))


def test_a_damaged_checkpoint_is_refused(data, offline, tmp_path):
    source, _ = offline
    copy = tmp_path / "runs" / "pointmaze-umaze-v0" / "bc" / source.folder.path.name
    shutil.copytree(source.folder.path, copy)
    victim = max((copy / "checkpoints" / "12").rglob("*"), key=lambda path: path.stat().st_size)
    content = bytearray(victim.read_bytes())
    content[len(content) // 2] ^= 1
    victim.write_bytes(content)
    with pytest.raises(UserError, match="damaged") as raised:
        run_of(finetune_settings(data, save_dir=str(tmp_path / "own"), checkpoint=copy))
    assert "\n" not in str(raised.value)


def test_a_member_that_diverged_is_refused(data, tmp_path):
    settings = offline_settings(data, save_dir=str(tmp_path / "a"), sweep="actor_lr=0.001,1e30")
    with OfflineRun(settings) as source:
        assert source.run()["diverged"]
    with pytest.raises(UserError, match="has diverged: choose another with --member"):
        run_of(finetune_settings(data, save_dir=str(tmp_path / "b"), checkpoint=source.folder.path))
    _, summary = run_of(
        finetune_settings(data, save_dir=str(tmp_path / "b"), checkpoint=source.folder.path, member=0)
    )
    assert summary["status"] == "finished"


def test_another_task_is_not_scored_by_the_references_of_the_first(data, offline, tmp_path, monkeypatch):
    monkeypatch.setattr(SavedRun, "references", References(0.0, 9.0))
    changes = {"checkpoint": offline[0].folder.path, "member": 0, "save_dir": str(tmp_path)}
    given = {}
    for env_name in ("pointmaze-umaze-v0", "Hopper-v5"):
        run = FinetuneRun(finetune_settings(data, env_name=env_name, **changes))
        run.resolve()
        given[env_name] = run.settings.random_return, run.settings.expert_return
    assert given == {"pointmaze-umaze-v0": (0.0, 9.0), "Hopper-v5": (None, None)}


def test_other_data_are_told_of(data, offline, tmp_path, caplog):
    arrays = dict(np.load(data / "data.npz"))
    np.savez(tmp_path / "other.npz", **{**arrays, "rewards": 1 - arrays["rewards"]})
    run_of(
        finetune_settings(
            data,
            save_dir=str(tmp_path),
            checkpoint=offline[0].folder.path,
            dataset=(str(tmp_path / "other.npz"),),
            member=0,
        )
    )
    assert any("not the data that the checkpoint was trained on" in line for line in caplog.messages)


@pytest.mark.parametrize(
    ("env_name", "reward", "counts"),
    [("kitchen-mixed-v0", 1.0, True), ("kitchen-mixed-v0", 0.0, False), ("pointmaze-umaze-v0", 1.0, False)],
)
def test_kitchens_online_rewards_are_those_of_its_data(data, env_name, reward, counts):
    """If these are D4RL's, which has 1 in each step in which the microwave is open."""
    config = suite_config("xql", suites=("kitchen", "pointmaze"), differences={})
    run = FinetuneRun(finetune_settings(data, config=config, env_name=env_name, normalize_observations=False))
    run.resolve()
    rows = np.zeros((5, 60), np.float32)
    rows[:, [22, 30 + 22]] = -0.75
    batch = Batch(rows, rows[:, :9], np.full(5, reward, np.float32), np.ones(5, np.float32), rows)
    preprocessing = run.fit_preprocessing(Dataset(batch, np.ones(5, bool), "file"))
    collected = batch._replace(rewards=np.full(5, 9.0, np.float32))
    assert preprocessing.online(collected).rewards.tolist() == [1.0 if counts else 9.0] * 5
    assert preprocessing.batch(batch).rewards.tolist() == [reward] * 5


def test_a_run_that_has_learned_online_is_no_source(data, finetuned, tmp_path):
    """Its transitions would be lost. Its offline phase is a source like any other."""
    path = finetuned[0].folder.path
    again = finetune_settings(data, save_dir=str(tmp_path), checkpoint=str(path))
    with pytest.raises(UserError, match=f"is after its hand-over.* up to step {PRETRAINING}$"):
        FinetuneRun(again).resolve()
    before = dataclasses.replace(again, checkpoint=str(path / "checkpoints" / str(PRETRAINING)))
    FinetuneRun(before).resolve()


def test_config_json_says_what_it_went_on_from(data, offline, tmp_path):
    run, _ = run_of(
        finetune_settings(data, save_dir=str(tmp_path), checkpoint=offline[0].folder.path, member=0)
    )
    content = json.loads((run.folder.path / "config.json").read_text())
    assert content["checkpoint"] == {"run": offline[0].folder.run, "step": 12}
    assert (content["seeds"], content["num_pretraining_steps"]) == ([3, 3], 0)
