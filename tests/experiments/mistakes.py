"""What the tests of mistakes share: a run that has ended, good commands with a mistake added, the check.

A table of mistakes gives by name a command and the words that its message must hold. The command's first word
is a main (`train` and `online` with a good run's arguments), or `bare`: train_offline.py without them.
"""

import dataclasses
import re
from pathlib import Path

from main_runs import (
    CHOOSE,
    COLLECT,
    EVALUATE,
    EXPORT,
    FIGURES,
    FINETUNE,
    INSPECT,
    MAIN,
    ONLINE,
    REPORT,
    ROOT,
    RUNS,
    ForkServer,
    Run,
    contents,
    write_dataset,
)

MAINS = {
    "train": MAIN, "bare": MAIN, "online": ONLINE, "evaluate": EVALUATE, "inspect": INSPECT,
    "figures": FIGURES, "collect": COLLECT, "finetune": FINETUNE,
    "finetune-from": FINETUNE, "export": EXPORT, "choose": CHOOSE, "report": REPORT,
    "runs": RUNS,
}  # fmt: skip
TD3 = f"--config={ROOT / 'configs' / 'td3_config.py'}"
ONLINE_ARGUMENTS = (  # of a good online run
    "--env_name=pendulum-swingup", "--config.network=small", "--config.hidden_dims=(8,)",
    "--config.warmup_steps=20", "--config.batch_size=8", "--config.buffer_size=150", "--max_steps=200",
    "--log_interval=50", "--eval_interval=100", "--checkpoint_interval=50", "--eval_episodes=1",
    "--bellman_error_interval=100", "--notqdm",
)  # fmt: skip
LONGEST_LINE = 1000  # characters, of a message without its paths
BY_CHILD = 25  # mistakes that end before they change anything


@dataclasses.dataclass(frozen=True)
class Place:
    folder: Path  # datasets and config files; where the mains run
    results: Path  # --save_dir
    run: Path  # of a run that has ended
    arguments: tuple[str, ...]  # what made it
    server: ForkServer

    def command(self, *arguments):
        """The run's own arguments with others added: later flags win, but a config file must come first.

        Of what would be joined or come before a new config, the data and the widths, only the others stay.
        """
        first, last = config_first(arguments)
        replaced = [
            own
            for own, others in (("--dataset=", ("--dataset=",)), ("--config.h", ("--config=", "--config.h")))
            if any(argument.startswith(others) for argument in arguments)
        ]
        return *first, *(own for own in self.arguments if not own.startswith(tuple(replaced))), *last

    def main(self, *arguments):
        return self.server.run(self.command(*arguments), self.folder)

    def run_of(self, text, **names):
        """The run of a table's command; `{run}` and the like in it stand for paths."""
        main, *words = text.split()
        long = "x" * 300
        names = {"run": self.run, "configs": ROOT / "configs", "folder": self.folder, "long": long, **names}
        added = [word.format(**names) for word in words]
        first, last = config_first(added)
        arguments = {
            "train": lambda: self.command(*added),
            "bare": lambda: (*added, f"--save_dir={self.results}"),
            "online": lambda: (*(first or [TD3]), *ONLINE_ARGUMENTS, *last, f"--save_dir={self.results}"),
            "finetune": lambda: self.command(*added),
            "finetune-from": lambda: (
                *added,
                f"--save_dir={self.results}",
                "--max_steps=4",
                "--eval_interval=4",
            ),
            "evaluate": lambda: (*added, "--episodes=1", "--notqdm"),
            "export": lambda: added,
            "report": lambda: added,
            "runs": lambda: added,
            "choose": lambda: (*added, "--max_steps=2", "--notqdm"),
            "inspect": lambda: added,
            "collect": lambda: (*added, "--notqdm"),
        }
        return Run(
            arguments[main](),
            MAINS[main],
            self.folder,
            {
                "D4RL_DATASET_DIR": str(self.folder / "cache"),
                "MINARI_DATASETS_PATH": str(self.folder / "minari"),
            },
        )

    def outcomes(self, mistakes, **names):
        """The outcomes of a table, by name; not one of its commands may touch a file, but for the cache."""
        before = contents(self.folder)
        outcomes = self.server.run_all(
            [self.run_of(text, **names) for text, *_ in mistakes.values()], BY_CHILD
        )
        after = contents(self.folder)
        changed = [name for name in {**before, **after} if before.get(name, "") != after.get(name, "")]
        changed = [
            name for name in changed if name != "cache" and not f"{name}/".startswith("cache/columns/")
        ]
        assert not changed, changed
        return dict(zip(mistakes, outcomes, strict=True))

    def assert_same_alone(self, mistakes, outcomes):
        """Some of the commands in children of their own: that others came before has changed nothing."""
        names = list(mistakes)[:: len(mistakes) // 8]
        alone = self.server.run_all([self.run_of(mistakes[name][0]) for name in names])
        for name, outcome in zip(names, alone, strict=True):
            assert outcome.code == outcomes[name].code
            assert without_numbers(outcome.err) == without_numbers(outcomes[name].err)


def config_first(arguments):
    """The argument that names a config file, if one does, and the others: it must come before its fields."""
    first = [argument for argument in arguments if argument.startswith("--config=")]
    return first, [argument for argument in arguments if argument not in first]


def without_numbers(text):
    """Numbers of GiB that are free differ."""
    return re.sub("[0-9.]+", "", text)


def make_place(folder, server):
    good = write_dataset(folder / "good.hdf5")
    results = folder / "results"
    arguments = (
        f"--dataset={good}", "--env_name=pointmaze-umaze-v0", f"--save_dir={results}",
        "--config.hidden_dims=(8,)", "--max_steps=4", "--log_interval=2", "--eval_interval=4",
        "--eval_episodes=1", "--notqdm",
    )  # fmt: skip
    outcome = server.run(arguments, folder)
    assert (outcome.code, outcome.err) == (0, ""), outcome
    (config,) = results.rglob("config.json")
    assert (config.parent / "checkpoints" / "4").is_dir()
    return Place(folder, results, config.parent, arguments, server)


def assert_told(outcome, words):
    assert outcome.code == 2, outcome
    assert "Traceback" not in outcome.out + outcome.err
    lines = outcome.err.splitlines()
    assert len(lines) == 1, outcome.err
    assert lines[0].startswith("error: ")
    assert len(lines[0]) < LONGEST_LINE
    for word in words:
        assert word in lines[0], (word, lines[0])
    for jargon in ("Error(", "invalid literal", "object at 0x"):
        assert jargon not in lines[0], lines[0]
