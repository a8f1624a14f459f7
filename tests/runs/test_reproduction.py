"""A table's plan, what it trains, and that what is there is not trained again."""

from pathlib import Path

import pytest
from tiny_runs import write_dataset

from xql_jax.configuration import suite_config
from xql_jax.errors import UserError
from xql_jax.runs import reproduction
from xql_jax.runs.settings import ReproductionSettings

ROOT = Path(__file__).resolve().parents[2]
WIDTHS = {"hidden_dims": (8,)}


@pytest.fixture
def settings(tmp_path, monkeypatch):
    """Two methods on data of one's own, and on a task of Table 1 whose data are not there."""
    monkeypatch.setenv("D4RL_DATASET_DIR", str(tmp_path / "nothing"))
    monkeypatch.setattr(
        reproduction,
        "_config",
        lambda folder, task, method: suite_config(
            method, suites=("pointmaze", "locomotion"), differences={method: WIDTHS}
        ),
    )
    data = write_dataset(tmp_path / "data.npz")
    return ReproductionSettings(
        methods=("bc", "iql"),
        datasets=(f"pointmaze-umaze-v0={data}", "hopper-medium-v2"),
        num_seeds=2,
        max_steps=20,
        eval_episodes=1,
        save_dir=str(tmp_path / "runs"),
    )


def states(settings):
    plan = reproduction.make_plan(settings)
    return {(cell.dataset.split("=")[0], cell.method): cell.state for cell in plan.cells}


def test_a_table_is_planned_trained_resumed_and_written(settings):
    maze, hopper = ("pointmaze-umaze-v0", "hopper-medium-v2")
    without = {(hopper, "bc"): "no data", (hopper, "iql"): "no data"}
    assert states(settings) == {(maze, "bc"): "to do", (maze, "iql"): "to do", **without}
    plan = reproduction.make_plan(settings)
    assert [plan.seconds(cell) for cell in plan.cells] == [None] * 4  # nothing was ever run
    assert [cell.updates for cell in plan.cells] == [40] * 4
    assert plan.cells[2].missing.endswith("nothing/hopper_medium-v2.hdf5")

    trained = reproduction.train(plan)
    cell, run = next(trained)
    assert (cell.method, run.folder.finished_summary()["step"]) == ("bc", 20)
    trained.close()
    assert states(settings) == {(maze, "bc"): "finished", (maze, "iql"): "to do", **without}
    plan = reproduction.make_plan(settings)
    spent = sum(run.folder.finished_summary()["seconds"].values())
    assert plan.seconds(plan.cells[0]) == 0.0
    assert plan.seconds(plan.cells[1]) == pytest.approx(spent, rel=1e-6)  # as that of the only run
    before = {path: path.stat().st_mtime_ns for path in run.folder.path.rglob("*")}

    [(cell, last)] = list(reproduction.train(plan))
    assert cell.method == "iql"
    assert {path: path.stat().st_mtime_ns for path in run.folder.path.rglob("*")} == before

    table = reproduction.table_of(settings)
    assert table.methods == ["bc", "iql"]
    entry = table.entry(settings.datasets[0], "iql")
    assert entry.last == tuple(last.folder.finished_summary()["results"][0]["last_score_by_seed"])
    assert (len(entry.last), entry.updates, entry.paper) == (2, 20, None)
    missing = table.entry(hopper, "iql")
    assert (missing.last, missing.paper, missing.note[:8]) == ((), 66.3, "no data:")


@pytest.mark.parametrize(
    "change", [{"seed": 1}, {"num_seeds": 3}, {"max_steps": 21}, {"eval_episodes": 2}, {"eval_interval": 7}]
)
def test_runs_of_other_settings_are_no_part_of_the_table(settings, change):
    changed = {**vars(settings), "methods": ("bc",), "datasets": settings.datasets[:1]}
    asked = ReproductionSettings(**changed)
    list(reproduction.train(reproduction.make_plan(asked)))
    assert set(states(asked).values()) == {"finished"}
    assert set(states(ReproductionSettings(**{**changed, **change})).values()) == {"to do"}


def test_tuned_xql_is_xql_with_table_4s_values(tmp_path):
    settings = ReproductionSettings(
        methods=("xql", "xql_t"),
        datasets=("kitchen-complete-v0",),
        save_dir=str(tmp_path),
        config_dir=str(ROOT / "configs"),
    )
    own, tuned = (cell.settings for cell in reproduction.make_plan(settings).cells)
    assert (own.tuned, tuned.tuned) == (False, True)
    resolved = []
    for one in (own, tuned):
        run = reproduction.OfflineRun(one)
        run.resolve()
        resolved.append((run.config.beta, run.batch_size))
    assert resolved == [(5.0, 256), (2.0, 1024)]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"methods": ("xqll",)}, "--methods: unknown method 'xqll'; nearest known: xql"),
        ({"methods": ("sac",)}, "--methods: unknown method 'sac'"),
        ({"methods": ("xql+zzz",)}, "xql has no policy 'zzz'"),
        ({"datasets": ("hopper-mediun-v2",)}, "unknown environment 'hopper-mediun-v2'"),
        ({"methods": ("xql_t",), "datasets": ("pen-human-v0",)}, "--tuned has no values for pen-human-v0"),
    ],
)
def test_mistakes_are_told_before_anything_is_trained(tmp_path, change, message):
    settings = {"methods": ("bc",), "datasets": ("kitchen-complete-v0",), "save_dir": str(tmp_path / "runs")}
    with pytest.raises(UserError, match=f"^{message}"):
        reproduction.make_plan(ReproductionSettings(config_dir=str(ROOT / "configs"), **(settings | change)))
    assert not (tmp_path / "runs").exists()


def test_sweeps_and_changed_fields_are_columns_of_their_own(settings):
    methods = ("bc", "iql:critic_loss=huber:tau=0.25")
    changes = {"methods": methods, "sweep": "expectile=0.6,0.9", "datasets": settings.datasets[:1]}
    asked = ReproductionSettings(**{**vars(settings), **changes})
    runs = [run for _, run in reproduction.train(reproduction.make_plan(asked))]
    assert [len(run.members) for run in runs] == [2, 4]  # cloning has no expectile
    assert (runs[1].config.critic_loss, runs[1].config.tau) == ("huber", 0.25)
    with pytest.raises(UserError, match="--sweep: no method asked for has 'betta'"):
        reproduction.make_plan(ReproductionSettings(**{**vars(settings), "sweep": "betta=1,2"}))
    method = "iql:critic_loss=huber:tau=0.25"
    assert reproduction.table_of(asked).methods == [
        "bc",
        f"{method} expectile=0.6",
        f"{method} expectile=0.9",
    ]


@pytest.mark.parametrize(
    ("method", "message"),
    [
        ("iql:expectil=0.5", "--methods: unknown config field 'expectil'; nearest known: expectile"),
        ("iql:expectile=much", "--methods: expectile must be a float, not 'much'"),
        ("iql:layer_norm=yes", "--methods: layer_norm must be a bool, not 'yes'"),
        ("iql:expectile=2", "config.expectile must be within"),
        ("iql:algorithm=bc", "--methods: unknown config field 'algorithm'"),
        ("iql:batch_size=many", "--methods: batch_size must be a int, not 'many'"),
    ],
)
def test_impossible_fields_of_methods(settings, method, message):
    with pytest.raises(UserError, match=f"^{message}"):
        reproduction.make_plan(ReproductionSettings(**{**vars(settings), "methods": (method,)}))


def test_batch_size_and_widths_change_by_method(settings):
    methods = ("iql:batch_size=16:value_hidden_dims=4/4",)
    changed = {**vars(settings), "methods": methods, "datasets": settings.datasets[:1]}
    [(_, run)] = reproduction.train(reproduction.make_plan(ReproductionSettings(**changed)))
    assert (run.batch_size, run.config.value_hidden_dims) == (16, (4, 4))


def test_a_run_on_what_the_file_held_before_is_not_taken_for_one_on_what_it_holds(settings):
    asked = ReproductionSettings(**{**vars(settings), "methods": ("bc",), "datasets": settings.datasets[:1]})
    list(reproduction.train(reproduction.make_plan(asked)))
    data = Path(settings.datasets[0].split("=")[1])
    data.touch()
    assert set(states(asked).values()) == {"finished"}  # the same data, written later
    write_dataset(data, size=160)
    assert set(states(asked).values()) == {"to do"}
