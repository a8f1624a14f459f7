"""A flag that is not given means what the field of the settings means that is not given in Python."""

import dataclasses
import json

import pytest
from main_runs import CHOOSE, COLLECT, EVALUATE, EXPORT, FINETUNE, MAIN, ONLINE, REPORT, ROOT, RUNS

from xql_jax.runs.settings import (
    ChoiceSettings,
    CollectionSettings,
    EvaluationSettings,
    ExportSettings,
    FinetuneSettings,
    ListSettings,
    OfflineSettings,
    OnlineSettings,
    RecipeSettings,
    ReportSettings,
    ReproductionSettings,
    SweepSettings,
)

# Flags that a main turns into another value: a list of numbers, a folder that it knows.
CONVERTED = {"config_dir"}


@pytest.mark.parametrize(
    ("main", "settings"),
    [
        (MAIN, OfflineSettings),
        (ONLINE, OnlineSettings),
        (FINETUNE, FinetuneSettings),
        (EVALUATE, EvaluationSettings),
        (RUNS, ListSettings),
        (EXPORT, ExportSettings),
        (CHOOSE, ChoiceSettings),
        (REPORT, ReportSettings),
        (ROOT / "experiments" / "sweep.py", SweepSettings),
        (ROOT / "experiments" / "reproduce.py", ReproductionSettings),
        (COLLECT, CollectionSettings),
        (COLLECT, RecipeSettings),
    ],
    ids=lambda value: getattr(value, "stem", getattr(value, "__name__", None)),
)
def test_flags_and_settings_have_the_same_defaults(server, main, settings):
    flags = server.flags(main)
    there = {
        field.name: field.default
        for field in dataclasses.fields(settings)
        if field.name in flags and field.default is not dataclasses.MISSING and field.name not in CONVERTED
    }
    assert len(there) >= 2
    as_json = {name: json.loads(json.dumps(default, default=str)) for name, default in there.items()}
    assert {name: flags[name]["default"] for name in there} == as_json
