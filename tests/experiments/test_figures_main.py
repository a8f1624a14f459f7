"""The figures at the command line: what is written where, and how it tells of mistakes."""

import time

import pytest
from main_runs import FIGURES, contents, run_process
from written_runs import write_run


@pytest.mark.slow
def test_all_figures_are_drawn_in_a_minute(tmp_path):
    start = time.perf_counter()
    outcome = run_process(["--out=new/pictures"], tmp_path, main=FIGURES, timeout=300)
    assert (outcome.code, outcome.err) == (0, "")
    assert time.perf_counter() - start < 120  # 20 s on two cores with nothing else to do
    pictures = sorted((tmp_path / "new" / "pictures").glob("*.png"))
    assert [path.stem for path in pictures] == [
        "figure_2",
        "figure_4",
        "figure_B1",
        "figure_B2",
        "figure_GEM",
    ]
    for path in (tmp_path / "new" / "pictures").iterdir():
        assert f"  new/pictures/{path.name}\n" in outcome.out
    assert len(list((tmp_path / "new" / "pictures").glob("*.csv"))) == 14


def test_figures_of_runs_are_drawn_from_them_alone(server, tmp_path):
    write_run(tmp_path / "runs", "walker-run", "sac", {0: [2.5]}, scale=10.0)
    outcome = server.run(["--figure=3", "--runs=runs", "--out=new"], tmp_path, main=FIGURES)
    assert (outcome.code, outcome.err) == (0, "")
    names = [
        "figure_3.png",
        "figure_3.svg",
        "figure_3_curves.csv",
        "figure_3_restarts.csv",
        "figure_3_seeds.csv",
    ]
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == names
    assert "  last on walker-run, mean over seeds:\n     1. sac     25.0 (1 seed)\n" in outcome.out
    assert (tmp_path / "new" / names[4]).read_text().endswith("walker-run,sac,0,1000,25,False\n")


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        (
            "--figure=13",
            "--figure=13: must be one of 2, 4, B1, B2, GEM, 1, 3, 5, 6, 7, 8, 9, 10, 11, 12, all",
        ),
        ("--figure=3", "--runs=results: no such folder"),
        (
            ["--figure=7", "--runs=."],
            "--runs=.: needs a finished run of train_offline.py; there are: none",
        ),
        ("--out=file", "--out=file: cannot be made: File exists"),
        ("--out=file/folder", "--out=file/folder: cannot be made: Not a directory"),
        ("--out=run/checkpoints", "--out=run/checkpoints: that is of the run in "),
        ("--seed=-1", "--seed=-1: must be a whole number, at least 0"),
        ("B1", "unexpected argument 'B1'"),
    ],
)
def test_mistakes_are_told_in_one_line(server, tmp_path, argument, message):
    (tmp_path / "file").write_text("mine")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_text("{}")
    arguments = [argument] if isinstance(argument, str) else argument
    outcome = server.run(arguments, tmp_path, main=FIGURES)
    assert outcome.code == 2
    assert outcome.err.startswith(f"error: {message}")
    assert outcome.err.count("\n") == 1
    assert sorted(contents(tmp_path)) == ["file", "run", "run/config.json"]
