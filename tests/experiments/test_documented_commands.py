"""Every command that README and the guides print is one that the programs take, to its last flag."""

import itertools
import re
import shlex

import pytest
from driver import EXPERIMENTS, run_main
from guides import PAGES, ROOT, blocks

EXTRA = "NOT-A-FLAG"  # arguments more than any main takes: it parses its flags, refuses these, and ends
SETUP = (ROOT / "setup.py").read_text("utf-8")
INSTALLED = dict(re.findall(r'"(xql-[\w-]+)": "(\w+)"', SETUP))  # commands, and the mains that they run
OTHER_PROGRAMS = {"cd", "git", "python", "ray", "source"}  # of which only the shell's grammar is tried


def commands():
    """(place, words) of each command in the pages, without variables."""
    found = []
    for page in PAGES:
        for block in blocks(page, "sh", "console"):
            code = block.code.replace("\\\n", " ")
            if block.language == "console":  # "$ command", and below it what it prints
                code = "\n".join(line[2:] for line in code.splitlines() if line.startswith("$ "))
            for line in [] if block.reason else code.splitlines():
                lexer = shlex.shlex(line, posix=True, punctuation_chars=";&|<>")
                lexer.whitespace_split = True
                words = [[]]
                for word in lexer:
                    words.append([]) if set(word) <= set(";&|<>") else words[-1].append(word)
                for command in words:  # NAME=VALUE before a command is the shell's
                    own = list(itertools.dropwhile(re.compile(r"\w+=").match, command))
                    found += [(f"{page}:{block.line}", own)] if own else []
    return found


COMMANDS = commands()
OF_MAINS = [(place, words) for place, words in COMMANDS if words[0] in INSTALLED]
OTHERS = [(place, words) for place, words in COMMANDS if words[0] not in INSTALLED]


def test_there_are_as_many_as_one_sees():
    assert len(OF_MAINS) > 40
    assert "README.md" in {place.split(":")[0] for place, _ in OF_MAINS}
    assert {words[0] for _, words in OF_MAINS} == INSTALLED.keys()
    assert {*INSTALLED.values()} == {path.stem for path in EXPERIMENTS.glob("*.py")}


@pytest.fixture
def outcome_of(tmp_path):
    """Runs a command in a folder that has the sweep's file of the guide."""
    (tmp_path / "sweep.yaml").write_text(blocks("docs/sweeps.md", "yaml")[0].code)
    return lambda words, *others: run_main(
        [*words[1:], *others], tmp_path, EXPERIMENTS / f"{INSTALLED[words[0]]}.py"
    )


@pytest.mark.parametrize(("place", "words"), OF_MAINS, ids=[place for place, _ in OF_MAINS])
def test_the_main_takes_the_flags(outcome_of, place, words):
    outcome = outcome_of(words, *[EXTRA] * 3)
    # The report takes any folders; a checkpoint is opened first, because its run has the method.
    refused = rf"error: (unexpected argument '{EXTRA}'|\S+: no such folder|\S+: not the folder of a run)"
    assert outcome.code == 2, outcome.out
    assert re.match(refused, outcome.err), f"{' '.join(words)}: {outcome.err}"


# What `--print_config` tells of every training command that changes settings, without a run at hand. Module
# `reach` is a page's own, and tests/test_robot_page.py types its commands.
OF_CONFIGS = {
    tuple(word for word in words if not word.startswith(("--resume", "--checkpoint=")))
    for _, words in OF_MAINS
    if words[0].startswith("xql-train-") and not any("=reach:" in word for word in words)
}


@pytest.mark.parametrize("words", sorted(OF_CONFIGS), ids=" ".join)
def test_the_methods_and_hyperparameters_of_documented_configs_are_there(outcome_of, words):
    outcome = outcome_of(words, "--print_config")
    assert (outcome.code, outcome.err) == (0, "")


@pytest.mark.parametrize(("place", "words"), OTHERS, ids=[f"{place} {words[0]}" for place, words in OTHERS])
def test_the_other_commands_are_there(place, words):
    program, *arguments = words
    if program == "make":
        targets = re.findall(r"^([\w-]+(?: [\w-]+)*):", (ROOT / "Makefile").read_text(), re.M)
        assert set(arguments) <= {name for line in targets for name in line.split()}
    elif program == "python" and not arguments[0].startswith("-"):
        for flag in arguments:
            assert not flag.startswith("-") or flag.split("=")[0] in (ROOT / arguments[0]).read_text()
    elif program == "pip":
        extras = re.findall(r'^ +"(\w+)": ', SETUP, re.M)
        asked = re.findall(r"(?:xql_jax|\.)\[([\w,]+)\]", " ".join(arguments))
        assert {extra for names in asked for extra in names.split(",")} <= set(extras)
    else:
        assert program in OTHER_PROGRAMS, "nothing tries this: say why in <!-- not run: ... --> above"
