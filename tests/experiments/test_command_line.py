"""What command lines take: numbers as people write them, names by commas, configs by their names."""

import os
import re
import signal
import subprocess
import sys

import jax.numpy as jnp
import numpy as np
import pytest
from absl import flags
from driver import MAIN, environment_of_processes

from xql_jax.errors import UserError
from xql_jax.runs.kinds import Finetune, Offline, Online
from xql_jax.runs.layers import FILE, USER
from xql_jax.settings import WIDTHS, Setting, settings_of, within
from xql_jax.workshop.commands import command_line
from xql_jax.workshop.sweeps.sweep_settings import Sweep
from xql_jax.workshop.tools.choose import ChoiceSettings
from xql_jax.workshop.tools.collect import CollectionSettings
from xql_jax.workshop.tools.evaluate import EvaluationSettings
from xql_jax.workshop.tools.export import export_policy


def test_a_whole_number_may_be_written_as_people_write_it():
    steps = Setting(5, within(1, 200_000), "", int)
    assert {steps.checked("steps", text) for text in ("100000", "1e5", "100_000", 1e5)} == {100_000}
    for text in ("1.5", "1e400", "nan", "0", "200001"):
        with pytest.raises(
            UserError, match=r"^steps=.*: must be a whole number, at least 1, at most 200,000"
        ):
            steps.checked("steps", text)


def test_widths_are_written_in_several_ways():
    widths = Setting((8,), WIDTHS, "", tuple)
    for text, value in {"256/64": (256, 64), "(8,)": (8,), "[8, 4]": (8, 4), "()": (), "8": (8,)}.items():
        assert widths.checked("hidden_dims", text) == value
    for eight in (8, 8.0, np.int64(8), np.array(8), np.array([8]), jnp.float32(8), [jnp.int32(8)], ("8",)):
        assert widths.checked("hidden_dims", eight) == (8,)
    for text in ("", " ", "8,,4", "0", "wide", True, 8.5, np.ones((2, 2))):
        with pytest.raises(UserError, match=r"^hidden_dims=.*: must be positive whole numbers"):
            widths.checked("hidden_dims", text)


KINDS = (
    *(Offline, Online, Finetune, Sweep),
    *(ChoiceSettings, CollectionSettings, EvaluationSettings, export_policy.settings),
)


@pytest.mark.parametrize("kind", KINDS)
def test_every_setting_is_explained_takes_its_default_and_refuses_what_is_beyond_its_bounds(kind):
    for name, one in settings_of(kind).items():
        assert one.meaning or one.positional
        assert one.checked(name, one.default) == one.default
        wrong = {int: [1.5, "many", True, -1, 2**31], float: ["many", float("inf")], bool: [1, "yes"]}
        bounded = one.domain.text.startswith(("at least", "within", "one of"))
        beyond = {float: [-1.0], str: ["moon"], list: [["moon"]]} if bounded else {}
        for value in wrong.get(one.value_type, [None]) + beyond.get(one.value_type, []):
            if value is None and one.default is None:
                continue
            with pytest.raises(UserError, match=f"^{name}=.*: must be "):
                one.checked(name, value)


@pytest.fixture
def read(monkeypatch):
    """What a command line of xql-train-offline becomes, in absl's flags of its own."""

    def read(*typed):
        monkeypatch.setattr(command_line, "FLAGS", flags.FlagValues())
        return command_line.parse(["main", *typed], Offline)

    return read


def test_a_flag_is_read_by_its_domain(read):
    settings = read(
        *("--config.num_critics=1e0", "--nolayer_norm"),
        *("--actor_hidden_dims=(8,)", "--loss=plain", "--beta", "2e-1", "--max_steps=1e3", "--num_seeds=2"),
        *("--hidden_dims=8", "--noscale_rewards", "--batch_size=32", "--env_name=antmaze-umaze-v0"),
    )
    read = {name: settings.values[name] for name in ("beta", "num_critics", "layer_norm", "loss")}
    assert read == {"beta": 0.2, "num_critics": 1, "layer_norm": False, "loss": "plain"}
    assert (settings.values["actor_hidden_dims"], settings.values["value_hidden_dims"]) == ((8,), (8,))
    assert (settings.max_steps, settings.batch_size, settings.scale_rewards) == (1_000, 32, False)
    assert settings.layers.up_to(FILE)["num_critics"] == 2  # the file's values stay as they are
    assert settings.layers[USER].keys() >= {"beta", "value_hidden_dims", "max_steps"}
    assert "discount" not in settings.layers[USER]


def test_the_ends_of_a_domain_are_in_it(read):
    assert read("--top_returns=1e-6").top_returns == 1e-6


@pytest.mark.parametrize("typed", ["--beta=-1", "--hidden_dims=0", "--batch_size=0", "--sweep=beta=0"])
def test_an_impossible_value_is_told_as_it_was_typed(read, typed):
    with pytest.raises(UserError, match=f"^{re.escape(typed)}: must be |--sweep: beta=0: must be"):
        read(typed).grid  # noqa: B018


@pytest.mark.parametrize(
    "typed",
    [
        *(("--beta=1", "--beta=2"), ("--beta=1", "--beta", "1"), ("--beta=1", "--config.beta=2")),
        *(("--seed=1", "-seed=1"), ("--tqdm", "--notqdm"), ("--layer_norm", "--noconfig.layer_norm")),
        *(("--sweep=beta=1,2", "--sweep=tau=0.1,0.2"), ("--method=iql", "--method=xql")),
        *(
            ("--ramp=beta=2:1@0.5:2", "--ramp=tau=0.1"),
            ("--config=own", "--config=own"),
            ("--version", "--version"),
        ),
    ],
)
def test_what_has_one_value_is_given_once(read, typed):
    name = re.sub(r"^--?(config\.)?|=.*", "", typed[0])
    with pytest.raises(UserError, match=f"^--{name} is given twice"):
        read("--dataset=a.npz", *typed)
    assert read("--dataset=a.npz", "--dataset=b.npz").dataset == ("a.npz", "b.npz")


@pytest.mark.parametrize(
    ("argument", "meant"),
    [
        *(("mine.npz", "did you mean --dataset=mine.npz?"), ("beta=2", "did you mean --beta=2?")),
        ("hopper-medium-v2", "did you mean --env_name=hopper-medium-v2?"),
        ("lr=2", "flags are --name=value, see --help"),
    ],
)
def test_an_argument_without_a_flag_is_told_the_flag_it_may_be_for(
    read, tmp_path, monkeypatch, argument, meant
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.npz").touch()
    with pytest.raises(UserError, match=re.escape(f"unexpected argument '{argument}': {meant}")):
        read(argument)


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize(("arguments", "code"), [(["--help"], 0), (["--print_config"], 128 + signal.SIGPIPE)])
def test_an_output_that_is_not_read_to_its_end_is_no_error(arguments, code, unbuffered):
    """As with `head`, which leaves; the code of an output that is cut is a shell's for that."""
    reader, writer = os.pipe()
    os.close(reader)
    run = subprocess.run(
        [sys.executable, str(MAIN), *arguments],
        stdout=writer,
        stderr=subprocess.PIPE,
        env=environment_of_processes(PYTHONUNBUFFERED=unbuffered),
    )
    os.close(writer)
    assert (run.stderr.decode(), run.returncode) in [("", code), ("", 0)]


@pytest.mark.parametrize(
    ("encoding", "printed"), [("ascii", b"3.0 +- 1.0 -> \\u0416"), ("latin-1", b"3.0 \xb1 1.0 -> \\u0416")]
)
def test_what_an_encoding_lacks_is_spelled(encoding, printed):
    """In the library's lines, and in a command's own."""
    text = "3.0 ± 1.0 → Ж"
    program = f"""
import logging
from xql_jax.settings import Command
from xql_jax.training.progress import print_lines
from xql_jax.workshop.commands import command_line
print_lines()
logging.getLogger("xql_jax").info({text!r})
command_line.run(Command(lambda: print({text!r})))
"""
    run = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        env=environment_of_processes(PYTHONIOENCODING=encoding),
    )
    assert (run.stdout.splitlines(), run.stderr, run.returncode) == ([printed, printed], b"", 0)
