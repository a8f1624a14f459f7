"""What the tests share that break runs of the mains: short runs, and how to compare two."""

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
from driver import FINETUNE, MAIN, ONLINE, ROOT, latest, rows, run_folder, write_dataset
from mistakes import ONLINE_ARGUMENTS, TD3

MAX_STEPS = 600
OFFLINE = (
    "--env_name=pointmaze-umaze-v0", "--config.hidden_dims=(16,16)", "--batch_size=32", "--num_seeds=2",
    f"--max_steps={MAX_STEPS}", "--log_interval=50", "--eval_interval=200", "--checkpoint_interval=100",
    "--eval_episodes=2", "--notqdm", "--dataset={folder}/data.npz",
)  # fmt: skip
HANDOVER, ONLINE_STEPS = 200, 200
TUNED = (f"--num_pretraining_steps={HANDOVER}", f"--max_steps={ONLINE_STEPS}", "--replay_buffer_size=1000",
         "--checkpoint_interval=50", "--eval_interval=100")  # fmt: skip
# By kind of training: the main and its arguments.
KINDS = {
    "offline": (MAIN, *OFFLINE),
    "online": (ONLINE, TD3, *ONLINE_ARGUMENTS),
    "compiled": (
        ONLINE, TD3, *ONLINE_ARGUMENTS, "--env_name=jax_point_mass:PointMass", "--num_environments=5",
        "--config.warmup_steps=100", "--max_steps=1000",
    ),
    "finetuned": (FINETUNE, *OFFLINE, *TUNED),
    "chunked": (FINETUNE, *OFFLINE, *TUNED, "--action_chunk=3"),
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Bench:
    """One dataset and compilation cache for all runs: with it a restart costs three seconds, not nine."""

    folder: Path

    @classmethod
    def make(cls, folder):
        write_dataset(folder / "data.npz")
        return cls(folder)

    def start(self, save_dir, *arguments, kind="offline", prefix=(), log=None, **options):
        """The run's process; what it says goes to the bench's log, or where `log` says."""
        environment = {
            "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests' / 'envs'}",
            "JAX_COMPILATION_CACHE_DIR": str(self.folder / "cache"),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
        }
        given = [str(argument).format(folder=self.folder) for argument in KINDS[kind]]
        given = latest([*given, f"--save_dir={save_dir}", "--resume", *arguments])
        with (self.folder / "log").open("a") as file:
            return subprocess.Popen(
                [*prefix, sys.executable, *given],
                cwd=self.folder, env={**os.environ, **environment}, stdout=log or file, stderr=log or file,
                **options,
            )  # fmt: skip

    def finish(self, process, timeout=300):
        try:
            return process.wait(timeout)
        finally:
            process.kill()

    def run(self, save_dir, *arguments, **options):
        """The folder of a run that is let alone."""
        assert self.finish(self.start(save_dir, *arguments, **options)) == 0, self.log()
        return run_folder(save_dir)

    def log(self):
        return (self.folder / "log").read_text()


def checkpoint_steps(run):
    return sorted(int(path.name) for path in (run / "checkpoints").iterdir() if path.name.isdigit())


def arrays(run):
    """The last checkpoint's step, and its arrays by name, of all members."""
    step = checkpoint_steps(run)[-1]
    with np.load(run / "checkpoints" / str(step) / "states.npz") as file:
        return step, dict(file)


def assert_same_run(run, expected):
    (step, states), (expected_step, expected_states) = arrays(run), arrays(expected)
    assert step == expected_step
    assert states.keys() == expected_states.keys()
    assert len(states) > 20  # networks, targets, moments
    for name, array in states.items():
        assert array.tobytes() == expected_states[name].tobytes(), name
    for file in ("metrics.csv", "evaluations.csv", "episodes.csv"):
        assert rows(run / file) == rows(expected / file)
    summaries = [json.loads((path / "summary.json").read_text()) for path in (run, expected)]
    for key in ("status", "step", "results", "diverged"):
        assert summaries[0][key] == summaries[1][key]
    assert (run / "learning_curve.png").stat().st_size > 0
