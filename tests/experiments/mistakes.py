"""What the tests of mistakes share: a run that has ended, good commands with a mistake added, the check.

A line of a table of mistakes has a command and, after =>, the words that its message must hold, between
bars. The command's first word is a main (`train` and `online` with a good run's arguments), or `bare`:
train_offline.py without them. {run} is the run's folder, {configs} that of the configs.
"""

import dataclasses
import shlex
from pathlib import Path

from driver import EXPERIMENTS, MAIN, ROOT, Outcome, run_folder, run_main, succeed, write_dataset

MAINS = {
    **{path.stem: path for path in EXPERIMENTS.glob("*.py")},
    "train": MAIN, "bare": MAIN, "online": EXPERIMENTS / "train_online.py",
    "finetune": EXPERIMENTS / "train_finetune.py", "finetune-from": EXPERIMENTS / "train_finetune.py",
    "inspect": EXPERIMENTS / "inspect_dataset.py", "collect-random": EXPERIMENTS / "collect.py",
}  # fmt: skip
TD3 = f"--config={ROOT / 'configs' / 'online_config.py'}:td3"
ONLINE_ARGUMENTS = (  # of a good online run
    "--env_name=pendulum-swingup", "--config.network=small", "--config.hidden_dims=(8,)",
    "--config.warmup_steps=20", "--config.batch_size=8", "--config.buffer_size=150", "--max_steps=200",
    "--log_interval=50", "--eval_interval=100", "--checkpoint_interval=50", "--eval_episodes=1",
    "--bellman_error_interval=100", "--notqdm",
)  # fmt: skip
SWEEP_ARGUMENTS = (
    "--datasets=pointmaze-umaze-v0=good.hdf5", "--methods=bc:hidden_dims=8:batch_size=8", "--num_seeds=2",
    "--max_steps=4", "--eval_interval=2", "--eval_episodes=1",
)  # fmt: skip


def mistakes(table):
    """Pairs (command, words) of a table."""
    lines = (line.strip() for line in table.strip().splitlines())
    pairs = [line.split(" => ") for line in lines if line and not line.startswith("#")]
    return [(command, tuple(words.split(" | "))) for command, words in pairs]


@dataclasses.dataclass(frozen=True)
class Place:
    folder: Path  # datasets and config files; where the mains run
    results: Path  # --save_dir
    run: Path  # of a run that has ended
    arguments: tuple[str, ...]  # what made it

    def with_own(self, *arguments):
        """The run's own arguments with others added. Data and widths that others replace are left out."""
        replaced = ["--dataset="] if any(one.startswith("--dataset=") for one in arguments) else []
        if any(one.startswith("--config") for one in arguments):
            replaced.append("--config.h")
        return *(own for own in self.arguments if not own.startswith(tuple(replaced))), *arguments

    def train(self, *arguments):
        return run_main(self.with_own(*arguments), self.folder)

    def outcome(self, command) -> Outcome:
        """What the command of a table ends with."""
        main, *words = shlex.split(command)
        added = [
            word.replace("{run}", str(self.run)).replace("{configs}", str(ROOT / "configs")) for word in words
        ]
        save_dir = f"--save_dir={self.results}"
        arguments = {
            "train": self.with_own(*added),
            "bare": (*added, save_dir),
            "online": (TD3, *ONLINE_ARGUMENTS, *added, save_dir),
            "finetune": self.with_own(*added),
            "finetune-from": (*added, save_dir, "--max_steps=4", "--eval_interval=4"),
            "evaluate": (*added, "--episodes=1", "--notqdm"),
            "collect": (*added, "--notqdm"),
            "collect-random": ("--env_name=InvertedPendulum-v5", "--policy=random", *added, "--notqdm"),
            "sweep": (*SWEEP_ARGUMENTS, f"--save_dir={self.folder}/swept", *added),
        }
        places = {"D4RL_DATASET_DIR": f"{self.folder}-d4rl", "MINARI_DATASETS_PATH": f"{self.folder}-minari"}
        return run_main(arguments.get(main, added), self.folder, MAINS[main], **places)


def make_place(folder):
    good = write_dataset(folder / "good.hdf5")
    results = folder / "results"
    arguments = (
        f"--dataset={good}", "--env_name=pointmaze-umaze-v0", f"--save_dir={results}",
        "--config.hidden_dims=(8,)", "--max_steps=4", "--log_interval=2", "--eval_interval=4",
        "--eval_episodes=1", "--notqdm",
    )  # fmt: skip
    succeed(arguments, folder)
    return Place(folder, results, run_folder(results), arguments)


def assert_told(outcome, words):
    """The mistake's message is one line with these words."""
    assert outcome.code == 2, outcome
    assert "Traceback" not in outcome.out
    [line] = outcome.err.splitlines()
    assert line.startswith("error: ")
    for word in words:
        assert word in line, (word, line)
