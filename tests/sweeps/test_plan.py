"""What shares a program is one run, all else a run of its own; mistakes are refused before any training."""

import dataclasses
import re
import shutil

import numpy as np
import pytest
from driver import write_dataset
from tiny_runs import stopped_at
from tiny_sweeps import TINY, states, sweep_settings, train_all

from xql_jax.errors import UserError
from xql_jax.runs.resolve import resolved
from xql_jax.runs.train import train_run
from xql_jax.workshop.reports.scores import method_scores, read_runs
from xql_jax.workshop.sweeps.plan import make_plan


def cells(settings):
    return [(c.method, c.settings.sweep, list(c.settings.seeds), c.members) for c in make_plan(settings)]


def test_numbers_share_a_program_and_what_changes_it_does_not(tmp_path):
    swept = "beta=0.5,1 loss=plain,rescaled expectile=0.7,0.9"
    settings = sweep_settings(tmp_path, methods=("xql", "iql", "bc"), sweep=swept, num_seeds=3)
    assert cells(settings) == [
        ("xql:loss=plain", "beta=0.5,1", [0, 1, 2], 6),
        ("xql:loss=rescaled", "beta=0.5,1", [0, 1, 2], 6),
        ("iql", "expectile=0.7,0.9", [0, 1, 2], 6),
        ("bc", "", [0, 1, 2], 3),
    ]


def test_settings_of_runs_can_be_swept_and_seeds_be_split(tmp_path):
    changes = {"sweep": "batch_size=8,16", "seed": 4, "num_seeds": 5, "seeds_per_run": 2}
    settings = sweep_settings(tmp_path, methods=("bc",), **changes)
    seeds = [[4, 5], [6, 7], [8]]
    assert [(method, own) for method, _, own, _ in cells(settings)] == [
        (f"bc:batch_size={size}", own) for size in (8, 16) for own in seeds
    ]
    assert [cell.identity["batch_size"] for cell in make_plan(settings)] == [8] * 3 + [16] * 3


def test_a_sweep_of_discounts_over_several_steps_names_what_trains_them(tmp_path):
    settings = sweep_settings(tmp_path, methods=("xql:n_step=3",), sweep="discount=0.9,0.99")
    with pytest.raises(UserError, match="discount: --n_step sums") as refused:
        make_plan(settings)
    named = re.search(r"--methods=(\S+)", str(refused.value))[1].split(",")
    methods = [one.replace("VALUE", value) for one, value in zip(named, ("0.9", "0.99"), strict=True)]
    planned = make_plan(dataclasses.replace(settings, methods=methods, sweep=""))
    found = [(cell.identity["n_step"], cell.identity["config"]["discount"]) for cell in planned]
    assert found == [(3, 0.9), (3, 0.99)]


def test_online_methods_have_their_own_configs(tmp_path):
    tasks, methods = ("cartpole-swingup", "cheetah-run"), ("xsac:network=small", "xtd3_dq")
    changes = {"methods": methods, "datasets": tasks, "sweep": "beta=1,2", "max_steps": 100_000}
    planned = make_plan(sweep_settings(tmp_path, **changes))
    assert [(cell.settings.method, cell.settings.env_name, cell.members) for cell in planned] == [
        (method, task, 4) for task in tasks for method in ("xsac", "xtd3_dq")
    ]
    assert planned[0].identity["config"]["actor_hidden_dims"] == [256, 256]  # the paper's is 1024


def test_tuned_xql_is_xql_with_table_4s_values(tmp_path):
    settings = sweep_settings(tmp_path, methods=("xql", "xql_t"), datasets=("kitchen-complete-v0",))
    found = [resolved(cell.settings) for cell in make_plan(settings)]
    assert [(one.values["beta"], one.batch_size) for one in found] == [(5.0, 256), (2.0, 1024)]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"methods": ("xqll",)}, "--methods: unknown method 'xqll'; nearest known: xql"),
        ({"sweep": "betta=1"}, "--sweep: no method asked for has 'betta'; nearest known: beta"),
        ({"sweep": "lr=1"}, "--sweep: no method asked for has 'lr'; give value_lr or actor_lr or critic_lr"),
        ({"methods": ("xql_t",), "datasets": ("pen-human-v0",)}, "--tuned has no values for pen-human-v0"),
        ({"methods": ("iql:expectil=0.5",)}, "--methods: expectil: unknown setting; nearest known: expecti"),
        ({"methods": ("bc:seed=5",)}, "--methods=bc:seed=5: seed is the sweep's own, for all methods"),
        ({"sweep": "loss=plain,plain"}, "--sweep gives loss the same value twice: 'loss=plain,plain'"),
        ({"sweep": "loss=plain loss=rescaled"}, "--methods=xql:loss=plain:loss=rescaled: gives a field twi"),
        ({"methods": ("xql:beta=2",), "sweep": "beta=1,3"}, "--beta: --sweep varies beta, too"),
        ({"methods": ("xsac",)}, "--datasets=pointmaze-umaze-v0=.*: xsac learns online, from no file"),
        ({"datasets": ("antmaze-umaze-v2=no/where",)}, "--datasets=antmaze-umaze-v2=no/where: no such file$"),
        ({"datasets": ("cheetah-run",)}, "--env_name=cheetah-run: an online task, which has no dataset"),
    ],
)
def test_mistakes_are_refused_before_anything_is_trained(tmp_path, change, message):
    settings = sweep_settings(tmp_path, **{"methods": ("xql",), **change})
    with pytest.raises(UserError, match=f"^{message}"):
        make_plan(settings)
    assert not (tmp_path / "runs").exists()


def test_a_finished_run_does_not_need_its_data_file(tmp_path):
    settings = sweep_settings(tmp_path, methods=(f"bc{TINY}",))
    train_all(settings)
    (tmp_path / "data.npz").unlink()
    assert states(settings) == ["finished"]
    with pytest.raises(UserError, match=r"data\.npz: no such file$"):
        make_plan(dataclasses.replace(settings, seed=7))


def test_of_a_run_and_its_copy_the_furthest_counts(tmp_path):
    """Somebody copies a run that was stopped, and then the sweep goes on."""
    settings = sweep_settings(tmp_path, methods=(f"bc{TINY}",), checkpoint_interval=5)
    [cell] = make_plan(settings)
    with stopped_at("update 10:") as stop:
        train_run(cell.settings, stop)
    assert states(settings) == ["begun"]
    shutil.copytree(tmp_path / "runs", tmp_path / "runs" / "a copy")
    assert len(train_all(settings)) == 1
    assert states(settings) == ["finished"]


def test_a_sweep_and_a_report_tell_files_apart_that_look_alike_to_a_learner(tmp_path):
    random = np.random.default_rng(1)
    seen = random.integers(1, 7, (120, 4)).astype(np.float32) / 2
    for folder, factor in (("a", 1), ("b", 4)):
        (tmp_path / folder).mkdir()
        write_dataset(tmp_path / folder / "data.npz", observations=seen * np.float32(factor))
    files = [f"pointmaze-umaze-v0={tmp_path / folder / 'data.npz'}" for folder in "ab"]
    method = (f"bc{TINY}:normalize_observations=true",)
    first, second = (sweep_settings(tmp_path, methods=method, datasets=(file,)) for file in files)
    train_all(first)
    [cell] = make_plan(second)
    assert (cell.state, cell.run) == ("to do", None)
    train_all(second)
    assert len(method_scores(read_runs([str(tmp_path / "runs")]).members)) == 2
