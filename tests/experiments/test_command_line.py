"""What command lines take: numbers as people write them, names by commas, configs by their names."""

import pytest

from xql_jax import config_files
from xql_jax.commands.command_line import hyperparameters_in
from xql_jax.config_files import config_of
from xql_jax.configuration import with_fields
from xql_jax.errors import UserError
from xql_jax.reports.report import ReportSettings
from xql_jax.runs.acting_settings import FinetuneSettings, OnlineSettings
from xql_jax.runs.run_settings import OfflineSettings
from xql_jax.settings import Setting, settings_of, within
from xql_jax.sweeps.sweep_settings import ReproductionSettings, SweepSettings
from xql_jax.tools.choose import ChoiceSettings
from xql_jax.tools.collect import CollectionSettings
from xql_jax.tools.evaluate import EvaluationSettings
from xql_jax.tools.export import ExportSettings
from xql_jax.tools.list_runs import ListSettings


def test_a_whole_number_may_be_written_as_people_write_it():
    steps = Setting(5, within(1, 200_000), "", int)
    assert {steps.checked("steps", text) for text in ("100000", "1e5", "100_000", 1e5)} == {100_000}
    for text in ("1.5", "1e400", "nan", "0", "200001"):
        with pytest.raises(
            UserError, match=r"^steps=.*: must be a whole number, at least 1, at most 200,000"
        ):
            steps.checked("steps", text)


def test_a_users_own_config_comes_before_those_of_the_package(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shipped = config_files.shipped("configs") / "kitchen_config.py"
    assert config_files.find_config("configs/kitchen_config.py") == shipped
    assert config_files.find_config("kitchen") == shipped
    own = tmp_path / "configs" / "kitchen_config.py"
    own.parent.mkdir()
    own.touch()
    assert config_files.find_config("kitchen").resolve() == own
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
        assert one.checked(name, one.default) == one.default
        wrong = {int: [1.5, "many", True, -1, 2**31], float: ["many", float("inf")], bool: [1, "yes"]}
        bounded = one.domain.text.startswith(("at least", "within", "one of"))
        beyond = {float: [-1.0], str: ["moon"], list: [["moon"]]} if bounded else {}
        for value in wrong.get(one.kind, [None]) + beyond.get(one.kind, []):
            if value is None and one.default is None:
                continue
            with pytest.raises(UserError, match=f"^{name}=.*: must be "):
                one.checked(name, value)


@pytest.mark.parametrize(
    ("typed", "rest", "fields"),
    [
        (["--shift", "-1.5", "RUN"], ["RUN"], {"shift": "-1.5"}),
        (["--layer_norm", "--beta=2", "--beta=3", "--"], [], {"layer_norm": "true", "beta": "3"}),
        (["RUN", "--nolayer_norm", "--normalize_q"], ["RUN"], {"layer_norm": "false", "normalize_q": "true"}),
    ],
)
def test_hyperparameters_are_taken_out_of_the_arguments(typed, rest, fields):
    assert hyperparameters_in(typed, ("layer_norm", "normalize_q")) == (rest, fields)


def test_fields_are_parsed_to_the_type_of_their_default():
    config = config_of("xql", "pointmaze")
    typed = {"beta": "1e-1", "num_critics": "1e0", "layer_norm": "true", "actor_hidden_dims": "(8,)"}
    changed = with_fields(config, {**typed, "hidden_dims": "256/64", "loss": "plain"})
    assert (changed.beta, changed.num_critics, changed.layer_norm) == (0.1, 1, True)
    assert (changed.actor_hidden_dims, changed.value_hidden_dims, changed.loss) == ((8,), (256, 64), "plain")
    assert config.loss == "rescaled"  # the config that was passed in stays as it is
