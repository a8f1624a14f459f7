"""Sweeps at the real command line: flags, the file that may give them, and mistakes."""

import functools
import json
from pathlib import Path

import pytest
from main_runs import ROOT, Run, contents
from mistakes import assert_told

SWEEP = ROOT / "experiments" / "sweep.py"
REPRODUCE = ROOT / "experiments" / "reproduce.py"
TINY = ":hidden_dims=8:batch_size=8"
ARGUMENTS = (
    "--datasets=pointmaze-umaze-v0=good.hdf5", f"--methods=bc{TINY}", "--num_seeds=2", "--max_steps=4",
    "--eval_interval=2", "--eval_episodes=1",
)  # fmt: skip


def run_sweep(place, *arguments, main=SWEEP, **environment):
    return place.server.run_all([Run(arguments, main, place.folder, environment)])[0]


@pytest.fixture
def file(tmp_path):
    def write(text, name="sweep.yaml"):
        (tmp_path / name).write_text(text)
        return str(tmp_path / name)

    return write


@pytest.fixture
def place_to_write(place, tmp_path):
    """Flags that have all that is written in a folder of the test's own."""
    return f"--save_dir={tmp_path / 'runs'}", f"--out={tmp_path / 'tables'}"


@pytest.mark.slow
def test_a_file_gives_flags_and_the_command_line_wins(place, file, place_to_write, tmp_path):
    yaml = file(
        "datasets: [pointmaze-umaze-v0=good.hdf5]\n"
        f"methods: [bc{TINY}, iql{TINY}]\n"
        "sweep: {expectile: [0.7, 0.9], critic_loss: [mse, huber]}\n"
        "num_seeds: 5\nmax_steps: 4\neval_interval: 2\neval_episodes: 1\n"
    )
    python = file(
        "from ml_collections import ConfigDict\n\n"
        "def get_config():\n"
        "    return ConfigDict(dict(datasets=['pointmaze-umaze-v0=good.hdf5'],\n"
        f"        methods=['bc{TINY}', 'iql{TINY}'],\n"
        "        sweep=dict(expectile=[0.7, 0.9], critic_loss=['mse', 'huber']), num_seeds=5, max_steps=4,\n"
        "        eval_interval=2, eval_episodes=1))\n",
        "sweep.py",
    )
    typed = ("--num_seeds=2", *place_to_write)
    short = file(Path(yaml).read_text().replace("num_seeds", "seeds"), "short.yaml")
    planned = [run_sweep(place, name, *typed, "--dry_run") for name in (yaml, python, short)]
    assert planned[0].out == planned[1].out == planned[2].out
    assert "3 to do:" in planned[0].out
    assert "critic_loss=huber expectile=0.7,0.9 seeds 0 to 1: to do, 16 updates" in planned[0].out
    assert not (tmp_path / "runs").exists()
    assert not (tmp_path / "tables").exists()

    outcome = run_sweep(place, yaml, *typed)
    assert (outcome.code, outcome.err) == (0, "")
    assert sorted(path.name for path in (tmp_path / "tables").iterdir()) == [
        f"sweep.{suffix}" for suffix in ("csv", "md", "tex", "txt")
    ]
    summaries = [json.loads(path.read_text()) for path in (tmp_path / "runs").rglob("summary.json")]
    assert [summary["status"] for summary in summaries] == ["finished"] * 3
    before = contents(Path(tmp_path / "runs"))
    again = run_sweep(place, yaml, *typed)
    assert "3 finished:" in again.out
    assert contents(Path(tmp_path / "runs")) == before


@pytest.mark.slow
def test_what_fails_is_told_at_the_end_and_the_rest_is_trained(place, place_to_write, tmp_path):
    methods = f"--methods=bc{TINY},iql{TINY}"
    first = run_sweep(place, *ARGUMENTS, *place_to_write)
    assert first.code == 0
    [run] = (tmp_path / "runs").rglob("summary.json")
    run.unlink()
    for manifest in run.parent.rglob("checkpoint.json"):
        manifest.write_text("{}")
    outcome = run_sweep(place, *ARGUMENTS, methods, *place_to_write)
    assert_told(outcome, ["1 of 2 failed", "the first: pointmaze-umaze-v0=good.hdf5 bc", "damaged"])
    assert "iql:hidden_dims=8:batch_size=8 seeds 0 to 1:" in outcome.out
    assert "last score" in outcome.out


MISTAKES = {
    "no methods": (("--datasets=pointmaze-umaze-v0",), "--methods: give at least one"),
    "no datasets": (("--methods=xql",), "--datasets: give at least one"),
    "unknown field": ((*ARGUMENTS, "--sweep=bata=1"), "--sweep: no method asked for has 'bata'"),
    "unknown executor": ((*ARGUMENTS, "--executor=rya"), "--executor=rya: must be one of in_process"),
    "no cluster": ((*ARGUMENTS, "--executor=ray", "--ray_address=127.0.0.1:9"), "no cluster there"),
    "no SLURM": ((*ARGUMENTS, "--executor=slurm"), "--executor=slurm: no sbatch here"),
    "sbatch's option": (
        (*ARGUMENTS, "--executor=slurm", "--slurm_options=partion=gpu"), "'partion'; nearest: partition"
    ),
    "sbatch's option without a value": (
        (*ARGUMENTS, "--executor=slurm", "--slurm_options=partition"),
        "--slurm_options=partition: each must be NAME=VALUE, as partition=gpu",
    ),
    "a dictionary of sbatch's options": (
        (*ARGUMENTS, "--executor=slurm", "--slurm_options=additional_parameters=x"),
        "--slurm_options=additional_parameters=x: give them as options of their own",
    ),
    "no such file": (("nowhere.yaml",), "nowhere.yaml: No such file"),
    "no such data": (
        ("--datasets=pointmaze-umaze-v0=god.hdf5", "--methods=bc"), "=god.hdf5: no such file"
    ),
    "pretraining of no fine-tuning": (
        (*ARGUMENTS, "--num_pretraining_steps=2"),
        "--num_pretraining_steps: only used in fine-tuning: add --finetune",
    ),
    "Ray's address for SLURM": (
        (*ARGUMENTS, "--executor=slurm", "--ray_address=here:1"),
        "--ray_address: only used with --executor=ray, not with --executor=slurm",
    ),
    "SLURM's hours for Ray": ((*ARGUMENTS, "--executor=ray", "--task_hours=1"), "--task_hours: only used"),
}  # fmt: skip
OF_CLUSTERS = (
    "task_cpus=1", "task_gpus=0", "task_memory_gb=1", "task_hours=24", "retries=3", "ray_address=here:1",
    "slurm_cluster=local", "parallel=2", "slurm_options=partition=gpu",
)  # fmt: skip


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes(place, place_to_write, name, tmp_path):
    arguments, words = MISTAKES[name]
    outcome = run_sweep(place, *arguments, *place_to_write)
    assert_told(outcome, [words])
    assert not list((tmp_path / "runs").rglob("config.json"))


@pytest.mark.parametrize("flag", OF_CLUSTERS)
def test_training_here_takes_no_flags_of_clusters(place, place_to_write, flag):
    name = flag.partition("=")[0]
    outcome = run_sweep(place, *ARGUMENTS, *place_to_write, f"--{flag}")
    assert_told(outcome, [f"--{name}: only used with --executor=", "not with --executor=in_process"])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            ("--table=1", "--num_pretraining_steps=5"),
            "--num_pretraining_steps: only used in fine-tuning: add --table=2",
        ),
        (
            ("--table=1", "--methods=xql,bc", "--datasets=hopper-medium-v2"),
            "nothing can be trained: {d4rl}/hopper_medium-v2.hdf5 is missing, and so are the data of 1 more: "
            "--download fetches D4RL's",
        ),
    ],
)
def test_mistakes_in_tables(place, place_to_write, arguments, words, tmp_path):
    d4rl = str(tmp_path / "d4rl")
    outcome = run_sweep(place, *arguments, *place_to_write, main=REPRODUCE, D4RL_DATASET_DIR=d4rl)
    assert_told(outcome, [words.format(d4rl=d4rl)])


@pytest.mark.slow
def test_a_table_at_the_command_line(place, place_to_write, tmp_path):
    """It is written beside the paper's scores, where there are some; the second time nothing is trained."""
    data = "--datasets=pointmaze-umaze-v0=good.hdf5,hopper-medium-v2"
    table = data, f"--methods=bc,iql{TINY}", "--seeds=2", *ARGUMENTS[3:], *place_to_write, "--table=1"
    run = functools.partial(run_sweep, main=REPRODUCE, D4RL_DATASET_DIR=str(tmp_path / "d4rl"))
    planned = run(place, *table, "--dry_run")
    assert (planned.code, planned.err) == (0, "")
    assert "2 to do, 2 no data:" in planned.out
    assert "to do, 8 updates of 2 members" in planned.out
    assert "how long it takes will be known when the first run has finished" in planned.out
    assert not (tmp_path / "runs").exists()

    outcome = run(place, *table)
    assert (outcome.code, outcome.err) == (0, "")
    written = {path.name: path.read_text() for path in (tmp_path / "tables").iterdir()}
    assert sorted(written) == [f"table_1.{suffix}" for suffix in ("csv", "md", "tex", "txt")]
    assert written["table_1.txt"] in outcome.out
    assert "52.9" in written["table_1.md"]  # the paper's score of BC on hopper-medium-v2
    before = contents(tmp_path / "runs")
    again = run(place, *table)
    assert "2 finished, 2 no data:" in again.out
    assert contents(tmp_path / "runs") == before


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("method: [xql]", "unknown flag 'method'; nearest: methods"),
        ("methods: [xql", "not YAML"),
        ("xql", "it must give flags by their names"),
        ("num_seeds: many", "num_seeds"),
        ("num_seeds: 0", "num_seeds"),
        ("name: ''", "sweep.yaml: --name='': must be text, not empty"),
        ("methods: [bc]\ndatasets: [pointmaze-umaze-v0]\nretries: 2", "--retries: only used with"),
    ],
)
def test_mistakes_in_files(place, file, place_to_write, text, words):
    assert_told(run_sweep(place, file(text), *place_to_write), [words])


def test_sbatchs_options_have_the_types_that_submitit_wants(place, place_to_write):
    options = "setup=module load cuda,srun_args=--mpi=none --quiet,exclusive=true,nodes=2"
    arguments = (*ARGUMENTS, *place_to_write, "--executor=slurm", f"--slurm_options={options}", "--dry_run")
    script = run_sweep(place, *arguments).out
    for line in ("#SBATCH --exclusive", "#SBATCH --nodes=2", "module load cuda"):
        assert f"\n{line}\n" in script
    assert " --mpi=none --quiet python " in script
