"""What command lines take: numbers as people write them, names by commas, configs by their names."""

import io
import logging
import sys

import pytest

from xql_jax import config_files
from xql_jax.commands.command_line import hyperparameters_in
from xql_jax.configuration import defaults, with_fields
from xql_jax.errors import UserError
from xql_jax.reports.report import ReportSettings
from xql_jax.runs.acting_settings import FinetuneSettings, OnlineSettings
from xql_jax.runs.run_settings import OfflineSettings
from xql_jax.settings import Setting, settings_of
from xql_jax.sweeps.sweep_settings import ReproductionSettings, SweepSettings
from xql_jax.tools.choose import ChoiceSettings
from xql_jax.tools.collect import CollectionSettings
from xql_jax.tools.evaluate import EvaluationSettings
from xql_jax.tools.export import ExportSettings
from xql_jax.tools.list_runs import ListSettings
from xql_jax.training.progress import print_lines


@pytest.mark.parametrize(
    ("text", "number"),
    [("100000", 100_000), ("1e5", 100_000), ("100_000", 100_000), ("2.5e3", 2_500), ("-3", -3)],
)
def test_a_whole_number_may_be_written_as_people_write_it(text, number):
    setting = Setting("steps", int, 0, "")
    assert setting.check(text) == number


@pytest.mark.parametrize("text", ["1.5", "1e-3", "1e400", "nan", "0", "11"])
def test_what_is_no_whole_number_or_beyond_the_bounds_is_refused(text):
    setting = Setting("steps", int, 5, "", least=1, most=10)
    with pytest.raises(UserError, match=r"^steps=.*: must be a whole number, at least 1, at most 10$"):
        setting.check(text)


def test_a_users_own_config_comes_before_those_of_the_package(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shipped = config_files.shipped("configs") / "kitchen_config.py"
    names = ("configs/kitchen_config.py", "kitchen_config.py", "kitchen_config", "kitchen")
    assert [config_files.find_config(name) for name in names] == [shipped] * 4
    own = tmp_path / "configs" / "kitchen_config.py"
    own.parent.mkdir()
    own.touch()
    assert [config_files.find_config(name).resolve() for name in names] == [own] * 4
    (tmp_path / "kitchen_config.py").touch()
    assert config_files.find_config("kitchen_config.py").resolve() == tmp_path / "kitchen_config.py"
    with pytest.raises(UserError, match=r"no file 'elsewhere/kitchen\.py'"):
        config_files.find_config("elsewhere/kitchen.py")


KINDS = (
    *(OfflineSettings, OnlineSettings, FinetuneSettings, SweepSettings, ReproductionSettings),
    *(ChoiceSettings, CollectionSettings, EvaluationSettings, ExportSettings, ListSettings, ReportSettings),
)


@pytest.mark.parametrize("kind", KINDS)
def test_every_setting_is_explained_takes_its_default_and_refuses_what_is_beyond_its_bounds(kind):
    for name, one in settings_of(kind).items():
        assert one.meaning or one.positional
        assert one.default is None or one.check(one.default) == one.default
        wrong = {int: [1.5, "many", True], float: ["many", float("inf")], bool: [1, "yes"], str: [3]}
        bounds = [bound + step for bound, step in ((one.least, -1), (one.most, 1)) if bound is not None]
        for value in wrong.get(one.kind, []) + bounds + (["moon"] if one.choices else []):
            with pytest.raises(UserError, match=f"^{name}=.*: must be "):
                one.check(value)


@pytest.mark.parametrize(
    ("typed", "rest", "fields"),
    [
        (["--beta=2", "--"], [], {"beta": "2"}),
        (["--shift", "-1.5", "RUN"], ["RUN"], {"shift": "-1.5"}),
        (["--layer_norm", "--beta", "2"], [], {"layer_norm": "true", "beta": "2"}),
        (["RUN", "--nolayer_norm", "--normalize_q"], ["RUN"], {"layer_norm": "false", "normalize_q": "true"}),
        (
            ["--beta=2", "--nolayer_norm", "--tau", "-1"],
            [],
            {"beta": "2", "layer_norm": "false", "tau": "-1"},
        ),
        (["--beta=2", "--beta=3"], [], {"beta": "3"}),
    ],
)
def test_hyperparameters_are_taken_out_of_the_arguments(typed, rest, fields):
    assert hyperparameters_in(typed, ("layer_norm", "normalize_q")) == (rest, fields)


def test_fields_are_parsed_to_the_type_of_their_default():
    config = defaults("xql", "pointmaze")
    typed = {"beta": "1e-1", "num_critics": "1e0", "layer_norm": "true", "actor_hidden_dims": "(8,)"}
    changed = with_fields(config, {**typed, "hidden_dims": "256/64", "loss": "plain"})
    assert (changed.beta, changed.num_critics, changed.layer_norm) == (0.1, 1, True)
    assert (changed.actor_hidden_dims, changed.value_hidden_dims, changed.loss) == ((8,), (256, 64), "plain")
    assert config.loss == "rescaled"  # the config that was passed in stays as it is


def test_a_terminal_that_is_not_utf_8_gets_escapes(monkeypatch):
    stdout, library = io.TextIOWrapper(io.BytesIO(), encoding="ascii"), logging.getLogger("xql_jax")
    for name in ("level", "propagate", "handlers"):
        monkeypatch.setattr(library, name, getattr(library, name))  # put back at the end
    monkeypatch.setattr(sys, "stdout", stdout)
    print_lines()
    library.info("62.5 ± 1.0 for β")
    print("before → after", flush=True)
    assert stdout.buffer.getvalue() == rb"62.5 \xb1 1.0 for \u03b2" b"\n" rb"before \u2192 after" b"\n"
