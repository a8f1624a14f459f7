"""Fine-tuning runs in plain Python: from data or another run, stopped in either phase, and read again."""

import dataclasses
import json

import numpy as np
import pytest
from tiny_runs import (
    PRETRAINING,
    SIX,
    assert_same_bits,
    evaluations_of,
    finetune_settings,
    offline_settings,
    small,
    states_of,
    stopped_at,
    write_dataset,
)

from xql_jax.data.dataset import Dataset
from xql_jax.data.preprocessing import Preprocessing
from xql_jax.errors import UserError
from xql_jax.runs import run_data
from xql_jax.runs.config_files import choose_config, config_in, config_of, find_config
from xql_jax.runs.folder import identity_of, run_label
from xql_jax.runs.kinds import Finetune
from xql_jax.runs.layers import USER
from xql_jax.runs.load import load_run
from xql_jax.runs.resolve import resolved, settings_from
from xql_jax.runs.run_data import load_data
from xql_jax.runs.train import train_run as run_finetuning
from xql_jax.runs.train import train_run as run_offline
from xql_jax.types import Batch
from xql_jax.workshop.commands.messages import sources_of
from xql_jax.workshop.tools.choose import ChoiceSettings, choose

pytestmark = pytest.mark.slow
MAZE = "pointmaze-umaze-v0"


@pytest.fixture(scope="module")
def finetuned(data, tmp_path_factory):
    folder = str(tmp_path_factory.mktemp("finetuned"))
    return run_finetuning(finetune_settings(data, keep_checkpoints=2, save_dir=folder))


@pytest.fixture(scope="module")
def source(data, tmp_path_factory):
    """A run of six seeds that others go on from."""
    return run_offline(offline_settings(data, save_dir=str(tmp_path_factory.mktemp("offline")), **SIX))


def scores_of(summary, step, seed=None):
    rows = evaluations_of(summary)
    return [row.results["score"] for row in rows if row.step == step and seed in (None, row.seed)]


def test_the_row_of_the_start_is_kept_though_no_interval_ends_there(data, tmp_path):
    """Intervals count from the hand-over, here after five updates."""
    intervals = {"num_pretraining_steps": 5, "eval_interval": 3, "eval_at_start": True, "warmup_steps": 0}
    settings = finetune_settings(data, "bc", resume=True, save_dir=str(tmp_path), **intervals)
    with stopped_at("step 2: ") as stop:
        assert run_finetuning(settings, stop).summary["step"] == 2
    rows = evaluations_of(run_finetuning(settings))
    assert [row.step for row in rows if row.seed == 3] == [0, 2, 5, 8, 11, 14, 17]


@pytest.mark.parametrize(("method", "told"), [("bc", True), ("bc+mixture", True), ("iql", False)])
def test_it_is_said_of_a_clone_that_rewards_do_nothing(data, tmp_path, method, told, caplog):
    run_finetuning(finetune_settings(data, method, save_dir=str(tmp_path), max_steps=2))
    said = [one.getMessage() for one in caplog.records if "rewards do nothing" in one.getMessage()]
    assert [one.startswith(f"{method} clones") for one in said] == [True] * told


@pytest.mark.parametrize(("beta", "changes"), [(None, " beta=5:2"), (1.5, ""), (0.5, "")])
def test_a_value_that_the_checkpoints_run_was_given_stays(data, tmp_path, beta, changes, caplog):
    """Its usual value changes as the config of the task says; 0.5 is fine-tuning's own first phase's."""
    config = config_in(find_config("pointmaze"), "xql", MAZE)
    if beta:
        config.beta = beta
    changed = offline_settings(data, config=config)
    given = {"save_dir": str(tmp_path), "normalize_observations": False, "max_steps": 2, "seed": 7}
    run = run_offline(dataclasses.replace(changed, **given))
    usual = choose_config(Finetune, "xql", env_name=MAZE, dataset=True)
    assert usual.values["online"] == "beta=5:2 actor_lr=0.0003:0.00003"
    settings = settings_from(usual, {"checkpoint": str(run.path), "max_steps": 12}, set())
    with caplog.at_level("INFO", "xql_jax"):
        made = resolved(settings)
    assert identity_of(made)["online"] == f"actor_lr=0.0003:3e-05{changes}"
    assert "online" not in run_label(made)  # it is the suite's
    assert ("beta stays after the hand-over: --online=beta=5:2 was the suite's" in caplog.text) == bool(beta)
    assert identity_of(made)["config"]["beta"] == (beta or 0.2)
    where = sources_of(made)
    assert where["beta"] == where["seed"] == where["dataset"] == "run of --checkpoint"
    assert where["online"] == "suite"


def test_one_run_from_offline_to_online(finetuned):
    run = load_run(finetuned.path)
    assert finetuned.summary == run.summary
    assert (run.summary["status"], run.summary["step"]) == ("finished", PRETRAINING + 12)
    assert (run.handover, run.steps) == (PRETRAINING, [6, 12, 18])  # the hand-over's is kept
    evaluations, metrics = run.rows(run.files.evaluations), run.rows(run.files.metrics)
    assert [row.step for row in metrics if row.seed == 4] == [2, 6, 10, 14, 18]  # counted from the hand-over
    scores = {(row.seed, row.step): row.results["score"] for row in evaluations}
    (entry,) = run.summary["finetuning"]
    assert entry["offline_score_by_seed"] == [scores[seed, 6] for seed in (3, 4)]
    assert entry["online_score_by_seed"] == [scores[seed, 18] for seed in (3, 4)]
    regrets = [1 - (scores[seed, 12] + scores[seed, 18]) / 200 for seed in (3, 4)]
    np.testing.assert_allclose(entry["cumulative_regret_by_seed"], regrets)


def test_the_first_phase_is_an_offline_run(data, finetuned, tmp_path):
    """To the bit, with a rate that has decayed by the hand-over."""
    steps = {"max_steps": PRETRAINING}
    changes = {"config": small("xql"), "seed": 3, "num_seeds": 2, "top_returns": 1.0, **steps}
    run = run_offline(offline_settings(data, save_dir=str(tmp_path), **changes))
    assert_same_bits(states_of(run, PRETRAINING), states_of(finetuned, PRETRAINING))


def test_a_checkpoint_is_where_the_online_phase_begins(data, source, tmp_path):
    """With its states and preprocessing: the first evaluation is the offline run's last."""
    changes = {"save_dir": str(tmp_path), "checkpoint": str(source.path), "dataset": (), "env_name": None}
    summary = run_finetuning(finetune_settings(data, "bc", warmup_steps=8, **changes))
    first, second = load_run(source.path).preprocessing, load_run(summary.path).preprocessing
    assert first == second
    assert first.observation_mean
    (entry,) = summary.summary["finetuning"]
    assert entry["offline_score_by_seed"] == scores_of(source, 12)
    content = json.loads((summary.path / "config.json").read_text())
    assert content["checkpoint"] == {"run": load_run(source.path).run_id, "step": 12}
    assert (content["seeds"], content["num_pretraining_steps"]) == ([3, 8], 0)


def test_checkpoints_that_differ_in_the_seed_alone_are_one_setting(data, tmp_path):
    """So reports put their fine-tuned seeds together, but not those of another pretraining."""
    settings = []
    for name, changes in (("a", {}), ("b", {"seed": 9}), ("c", {"top_returns": 1.0})):
        run = run_offline(offline_settings(data, save_dir=str(tmp_path / name), **changes))
        of_source = {"checkpoint": str(run.path), "dataset": (), "env_name": None, "warmup_steps": 8}
        finetuned = run_finetuning(finetune_settings(data, "bc", save_dir=str(tmp_path / name), **of_source))
        settings.append(load_run(finetuned.path).settings_text)
    assert settings[0] == settings[1]
    assert settings[0]["checkpoint"] != settings[2]["checkpoint"]


def test_one_member_of_a_population(data, source, tmp_path):
    changes = {"checkpoint": str(source.path / "checkpoints" / "6"), "member": 2, "save_dir": str(tmp_path)}
    summary = run_finetuning(finetune_settings(data, **changes))
    assert [member.seed for member in load_run(summary.path).members] == [5]
    (entry,) = summary.summary["finetuning"]
    assert entry["offline_score_by_seed"] == scores_of(source, 6, seed=5)


def test_a_member_of_a_sweep_if_it_has_not_diverged(data, tmp_path):
    sweep = {"save_dir": str(tmp_path / "a"), "seed": 3, "sweep": "actor_lr=0.003,3e38"}
    source = run_offline(offline_settings(data, **sweep))
    assert source.summary["diverged"]
    changes = {"save_dir": str(tmp_path / "b"), "checkpoint": str(source.path)}
    with pytest.raises(UserError, match="has diverged: choose another --member"):
        run_finetuning(finetune_settings(data, **changes))
    summary = run_finetuning(finetune_settings(data, member=0, **changes))
    assert [member.name for member in load_run(summary.path).members] == ["seed3_actor_lr=0.003"]
    assert summary.summary["finetuning"][0]["offline_score_by_seed"] == scores_of(source, 12)[:1]


def test_rlpd_needs_no_pretraining(data, tmp_path):
    changes = {"num_pretraining_steps": None, "warmup_steps": 4, "updates_per_step": 2.0}
    summary = run_finetuning(finetune_settings(data, "rlpd", save_dir=str(tmp_path), **changes))
    run = load_run(summary.path)
    assert (run.handover, run.record["offline_fraction"], run.step) == (0, 0.5, 12)
    assert int(run.states["seed3"].step) == 2 * (12 - 4)


@pytest.mark.parametrize(
    ("method", "given", "noises"),
    [("td3_bc", 0.3, (0.3, 0.0)), ("td3_bc", None, (0.1, 0.0)), ("xql", 0.3, (None, 0.3))],
)
def test_a_learner_with_noise_of_its_own_gets_no_other(data, method, given, noises):
    changes = {} if given is None else {"exploration_noise": given, "given": frozenset({"exploration_noise"})}
    changes.setdefault("given", frozenset())  # the temperature is the suite's
    made = resolved(finetune_settings(data, method, acting_temperature=0.5, **changes))
    own = getattr(made.learner, "exploration_noise", None)
    assert (own, made.acting.exploration_noise) == pytest.approx(noises)
    # The temperature scales the policy's spread, not the noise.
    assert made.acting.acting_temperature == (0.5 if own is None else 1.0)
    if own is not None:
        chosen = made.layers.recording(USER, {"acting_temperature": 0.5})
        with pytest.raises(UserError, match="--acting_temperature: td3_bc has no spread of its own"):
            resolved(dataclasses.replace(made, layers=chosen))


@pytest.mark.parametrize(
    ("fraction", "told"), [(0.99, "that is 8"), (0.01, "that is 0"), (0.9, ""), (1.0, "")]
)
def test_a_share_of_the_data_that_rounds_to_none_or_all_is_refused(data, fraction, told):
    settings = finetune_settings(data, offline_fraction=fraction, batch_size=8)
    if not told:
        assert resolved(settings).offline_fraction == fraction
        return
    with pytest.raises(UserError, match=f"--offline_fraction={fraction}: of --batch_size=8 {told}"):
        resolved(settings)


@pytest.mark.parametrize(("changes", "noise"), [({}, 0.2), ({"exploration_noise": 0.3}, 0.3)])
def test_a_checkpoint_keeps_the_noise_that_its_learner_has(data, tmp_path, changes, noise):
    source = run_offline(
        offline_settings(data, config=small("td3_bc", exploration_noise=0.2), save_dir=str(tmp_path))
    )
    of_source = {"checkpoint": str(source.path), "dataset": (), "env_name": None, "given": {*changes}}
    made = resolved(finetune_settings(data, "td3_bc", **of_source, **changes))
    assert (made.learner.exploration_noise, made.acting.exploration_noise) == (pytest.approx(noise), 0.0)


def test_a_part_of_the_data_is_drawn_for_all_members_and_kept(data, tmp_path, caplog):
    settings = finetune_settings(data, save_dir=str(tmp_path), init_dataset_size=50)
    whole = load_data(resolved(dataclasses.replace(settings, init_dataset_size=1000)), None)
    assert whole.dataset.size == 117  # there are no more
    source = run_finetuning(settings)
    handover = source.path / "checkpoints" / str(PRETRAINING)
    for member in (0, 1):
        made = resolved(finetune_settings(data, checkpoint=str(handover), member=member))
        part = load_data(made, None).dataset
        assert part.size == 50
        assert part.fingerprint() == load_run(source.path).record["dataset_fingerprint"]
    last = run_finetuning(dataclasses.replace(made, save_dir=str(tmp_path / "last"), max_steps=2))
    choose(ChoiceSettings(checkpoint=str(last.path), max_steps=1))  # by the same rows
    assert not any("not the data" in line for line in caplog.messages)


@pytest.mark.parametrize(
    ("env_name", "reward", "counts"),
    [("kitchen-mixed-v0", 1.0, True), ("kitchen-mixed-v0", 0.0, False), ("pointmaze-umaze-v0", 1.0, False)],
)
def test_kitchens_online_rewards_are_those_of_its_data(data, monkeypatch, env_name, reward, counts):
    """If these are D4RL's, which has 1 in each step in which the microwave is open."""
    config = config_of("xql", env_name.split("-")[0])
    settings = finetune_settings(data, config=config, env_name=env_name, normalize_observations=False)
    rows = np.zeros((5, 60), np.float32)
    rows[:, [22, 30 + 22]] = -0.75
    batch = Batch(rows, rows[:, :9], np.full(5, reward, np.float32), np.ones(5, np.float32), rows)
    monkeypatch.setattr(run_data, "load_dataset", lambda *_: Dataset(batch, np.ones(5, bool), "file"))
    preprocessing: Preprocessing = load_data(resolved(settings), None).preprocessing
    collected = batch._replace(rewards=np.full(5, 9.0, np.float32))
    assert preprocessing.of_environment(collected).rewards.tolist() == [1.0 if counts else 9.0] * 5
    assert preprocessing.batch(batch).rewards.tolist() == [reward] * 5


def test_a_task_of_dm_control_is_scored_by_references_in_the_data_alone(data, tmp_path):
    """They are no flags of a user, which such a task refuses."""
    file = write_dataset(
        tmp_path / "pendulum.hdf5",
        **{"metadata/random_return": 0.0, "metadata/expert_return": 500.0},
    )
    changes = {"env_name": "pendulum-swingup", "dataset": (str(file),), "eval_episodes": 0}
    config = config_of("xql", "own")
    source = run_offline(offline_settings(data, config=config, save_dir=str(tmp_path), **changes))
    assert load_run(source.path).references == (0.0, 500.0)
    again = finetune_settings(data, config=config, checkpoint=str(source.path), **changes)
    task = load_data(resolved(again), None).task
    assert (task.min_return, task.max_return) == (0.0, 500.0)


@pytest.mark.parametrize(
    ("env_name", "instead"),
    [
        ("playground:CartpoleSwingup", "cartpole-swingup, the same task"),
        ("jax_point_mass:PointMass", "one of Gymnasium's registry"),
    ],
)
def test_a_compiled_environment_is_refused_with_one_that_is_not(data, env_name, instead):
    settings = finetune_settings(data, config=config_of("xql", "own"), env_name=env_name)
    with pytest.raises(UserError, match=f"^--env_name={env_name}: is compiled: fine-tune in {instead}$"):
        resolved(settings)


def test_a_run_that_has_learned_online_is_no_source(data, finetuned, tmp_path):
    """Its transitions would be lost. Its offline phase is a source like any other."""
    again = finetune_settings(data, save_dir=str(tmp_path), checkpoint=str(finetuned.path))
    with pytest.raises(UserError, match=f"is after its hand-over.* up to step {PRETRAINING}$"):
        resolved(again)
    handover = finetuned.path / "checkpoints" / str(PRETRAINING)
    resolved(dataclasses.replace(again, checkpoint=str(handover)))
