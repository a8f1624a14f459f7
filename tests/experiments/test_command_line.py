"""What command lines take: numbers as people write them, names by commas, configs by their names."""

import pytest
from main_runs import EVALUATE

from xql_jax import config_files
from xql_jax.commands.command_line import GONE, Number, names_among
from xql_jax.errors import UserError
from xql_jax.settings import Setting


@pytest.mark.parametrize(
    ("text", "number"),
    [("100000", 100_000), ("1e5", 100_000), ("100_000", 100_000), ("2.5e3", 2_500), ("-3", -3)],
)
def test_a_whole_number_may_be_written_as_people_write_it(text, number):
    setting = Setting("steps", int, 0, "")
    assert setting.check(Number(setting).parse(text)) == number


@pytest.mark.parametrize("text", ["1.5", "1e-3", "1e400", "nan", "0", "11"])
def test_what_is_no_whole_number_or_beyond_the_bounds_is_refused(text):
    setting = Setting("steps", int, 5, "", least=1, most=10)
    with pytest.raises(UserError, match=r"^steps=.*: must be a whole number, at least 1, at most 10$"):
        setting.check(Number(setting).parse(text))


def test_names_by_commas_in_any_case():
    assert names_among("figure", ["2,4", " b1"], ["2", "4", "B1"]) == ["2", "4", "B1"]
    with pytest.raises(UserError, match="--figure=B3: must be one of 2, B1"):
        names_among("figure", ["2,B3"], ["2", "B1"])


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


def test_a_flag_of_an_earlier_version_names_what_to_use_instead(server):
    for typed in ("--halve_at=5", "--keep 0.5", "--nokeep"):
        outcome = server.run(typed.split(), main=EVALUATE)
        name = typed.removeprefix("--no").removeprefix("--").split("=")[0].split()[0]
        assert (outcome.code, outcome.err) == (2, f"error: --{name} has left: {GONE[name]}\n")
