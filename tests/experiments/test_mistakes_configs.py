"""Configs that do not load, lack what they must have, or give fields what they cannot be."""

import re

import pytest
from main_runs import ROOT, Run, contents, run_process
from mistakes import BY_CHILD, assert_told

from xql_jax.errors import UserError
from xql_jax.learners.fields import check_value, hyperparameters
from xql_jax.learners.registry import OFFLINE, make_learner

SOURCE = (ROOT / "configs" / "pointmaze_config.py").read_text()
CONFIG = "{configs}/pointmaze_config.py"
FILES = {  # by name of the file, what is in it
    "syntax": SOURCE.replace("def get_config(", "def get_config(("),
    "indent": SOURCE.replace("    return suite_config", "  return\n    suite_config"),
    "binary": b"\x80\x81\x00",
    "empty": "",
    "raises": "def get_config(algorithm='xql'):\n    return 1 / 0\n",
    "raises_early": "raise RuntimeError('not today')\n",
    "exits": "def get_config(algorithm='xql'):\n    raise SystemExit(0)\n",
    "exits_early": "import sys\nsys.exit('so there')\n",
    "imports": "import no_such_module\n",
    "recursive": "def get_config(algorithm='xql'):\n    return get_config(algorithm)\n",
    "asserts": "def get_config(algorithm='xql'):\n    assert algorithm == 'iql'\n",
    "arguments": "def get_config(algorithm, suite):\n    return None\n",
    "constant": "get_config = 3\n",
    "dictionary": "def get_config():\n    return {'beta': 1.0}\n",
    "none": "def get_config():\n    pass\n",
    "learner": "from xql_jax.learners.bc import BC\n\n\ndef get_config():\n    return BC()\n",
    "betta": re.sub(r'"beta": [\d.]+', '"betta": 0.5', SOURCE),
    "negative": re.sub(r'"beta": [\d.]+', '"beta": -0.5', SOURCE),
    "text": re.sub(r'"beta": [\d.]+', '"beta": "high"', SOURCE),
    "nothing": re.sub(r'"beta": [\d.]+', '"value_hidden_dims": None', SOURCE),
    "negative_width": re.sub(r'"hidden_dims": \(128, 128\)', '"hidden_dims": (8, -1)', SOURCE),
    "loss": re.sub(r'"beta": [\d.]+', '"loss": "gumbel"', SOURCE),
    "bare": "from ml_collections import ConfigDict\n\n\ndef get_config():\n    return ConfigDict()\n",
}
OWN_FIELDS = ("algorithm", "about", "about.suites", "about.tuned", "decay_actor_lr", "hidden_dims")
for field in OWN_FIELDS:
    *outer, name = field.split(".")
    entry = "".join(f"['{part}']" for part in (*outer, name))
    for what, change in (("without", f"del values{entry}"), ("odd", f"values{entry} = 3.5")):
        body = f"    values = config.to_dict()\n    {change}\n    return type(config)(values)\n"
        FILES[f"{what}_{name}"] = SOURCE.replace("return suite_config", "config = suite_config") + body

MISTAKES = {
    "hidden layers that a method does not have": (
        f"train --config={CONFIG}:dt --config.hidden_dims=(8,)", "config.hidden_dims", "dt has no"
    ),
    "heads that do not divide the width": (
        f"train --config={CONFIG}:dt --config.num_heads=3", "config.num_heads", "embed_dim, 64"
    ),
    # files
    "unknown config file": ("train --config={configs}/mojuco_config.py", "mojuco_c", "/mujoco_config.py"),
    "config nowhere": ("train --config=nowhere/a.py", "nowhere/a.py", "configs/"),
    "config without a value": ("bare --config", "--config"),
    "config of no name": ("train --config=", "--config", "configs/"),
    "a directory for a config": ("train --config={configs}", "configs", "no file"),
    "a config's name that is too long": ("train --config={long}.py", "--config", "too long"),
    "syntax error": ("train --config=syntax_config.py", "syntax_config.py", "SyntaxError", "line "),
    "indentation": ("train --config=indent_config.py", "indent_config.py", "IndentationError", "line "),
    "no text": ("train --config=binary_config.py", "binary_config.py"),
    "data for a config": ("train --config=good.hdf5", "good.hdf5"),
    "no get_config": ("train --config=empty_config.py", "empty_config.py", "get_config"),
    "get_config that raises": ("train --config=raises_config.py", "raises_config.py", "ZeroDivisionError"),
    "module that raises": ("train --config=raises_early_config.py", "RuntimeError", "not today"),
    "get_config that exits": ("train --config=exits_config.py", "exits_config.py", "SystemExit"),
    "module that exits": ("train --config=exits_early_config.py", "SystemExit", "so there"),
    "module that imports what is not there": ("train --config=imports_config.py", "no_such_module"),
    "get_config without an end": ("train --config=recursive_config.py", "RecursionError"),
    "get_config that asserts": ("train --config=asserts_config.py", "AssertionError"),
    "get_config of other arguments": ("train --config=arguments_config.py", "TypeError", "get_config"),
    "get_config that is no function": ("train --config=constant_config.py", "TypeError", "constant"),
    "a dict for a config": ("train --config=dictionary_config.py", "dict", "ConfigDict"),
    "None for a config": ("train --config=none_config.py", "NoneType", "ConfigDict"),
    "a learner for a config": ("train --config=learner_config.py", "returns Cloning", "ConfigDict"),
    "an empty config": (
        "train --config=bare_config.py", "bare_config.py must give algorithm as a str", "suite_config"
    ),
    "a config without an algorithm": (
        "train --config=without_algorithm_config.py", "algorithm as a str, not None", "suite_config"
    ),
    "a number for the algorithm": (
        "train --config=odd_algorithm_config.py", "algorithm as a str, not 3.5", "suite_config"
    ),
    "a config without a learner's field": (
        "train --config=without_decay_actor_lr_config.py", "the config has no decay_actor_lr", "xql"
    ),
    "a number for a switch in the file": (
        "train --config=odd_decay_actor_lr_config.py", "config.decay_actor_lr must be bool, not 3.5"
    ),
    "a number for the widths in the file": (
        "train --config=odd_hidden_dims_config.py", "config.hidden_dims must be positive whole", "3.5"
    ),
    **{f"config without {field}": (f"train --config=without_{field}_config.py", "suite_config")
       for field in ("about", "suites", "tuned")},
    **{f"a number for {field}": (f"train --config=odd_{field}_config.py", *words, "suite_config")
       for field, words in (("about", ()), ("suites", ("suites as a tuple, not 3.5",)),
                            ("tuned", ("tuned as a ConfigDict, not 3.5",)))},
    "an online config": (
        "train --config={configs}/sac_config.py", "/sac_config.py: that is for experiments/train_online.py"
    ),
    "unknown field in the file": (
        "train --config=betta_config.py", "unknown config field 'betta' for xql", "beta"
    ),
    "impossible value in the file": ("train --config=negative_config.py", "beta", "positive", "-0.5"),
    "text for a number in the file": ("train --config=text_config.py", "beta", "high"),
    "None for widths in the file": ("train --config=nothing_config.py", "value_hidden_dims", "None"),
    "negative width in the file": ("train --config=negative_width_config.py", "hidden_dims", "(8, -1)"),
    "unknown loss in the file": ("train --config=loss_config.py", "loss", "'gumbel'", "rescaled"),
    # algorithms and suites
    "unknown algorithm": (f"train --config={CONFIG}:xqll", "'xqll'", "iql, "),
    "empty algorithm": (f"train --config={CONFIG}:", "''", "iql, "),
    "an online algorithm": (f"train --config={CONFIG}:sac", "'sac'", "train_online.py", "iql, "),
    "unknown policy": (f"train --config={CONFIG}:xql+forward", "xql has no policy 'forward'", "forward_kl"),
    "empty policy": (f"train --config={CONFIG}:xql+", "xql has no policy ''", "forward_kl, gaussian"),
    "a policy without a method": (f"train --config={CONFIG}:+forward_kl", "algorithm ''", "iql, "),
    "policy that needs values": (f"train --config={CONFIG}:bc+forward_kl", "bc has no policy 'forward_kl'"),
    "the algorithm as a field": ("train --config.algorithm=iql", "algorithm", ":ALGORITHM"),
    "config for another suite": (
        "train --env_name=kitchen-mixed-v0 --config={configs}/mujoco_config.py",
        "kitchen-mixed", "/kitchen_config.py",
    ),
    "config for another suite, maze2d's": (
        "train --env_name=maze2d-umaze-v1 --config={configs}/kitchen_config.py",
        "maze2d-umaze-v1", "configs/pointmaze_config.py",
    ),
    "tuned values of another algorithm": (
        "train --env_name=hopper-medium-v2 --config={configs}/mujoco_config.py:iql --tuned",
        "--tuned", "iql", "none",
    ),
    # fields on the command line
    "unknown field": ("train --config.betta=1", "'betta'", "beta"),
    "unknown field like none": ("train --config.zzz=1", "'zzz'", "beta", "hidden_dims"),
    "field of another algorithm": ("train --config.expectile=0.8", "'expectile'", "beta"),
    "negated unknown field": ("train --noconfig.layer_nor", "'layer_nor'", "layer_norm"),
    "what a config is for": ("train --config.about.suites=kitchen", "'about.suites'"),
    "all that a config is for": ("train --config.about=kitchen", "'about'"),
    "a field of a field": ("train --config.beta.gamma=1", "'beta.gamma'", "beta"),
    "a part of a field": ("train --config.hidden_dims[0]=8", "hidden_dims"),
    "no field": ("train --config.=8", "config field ''"),
    "the file after a field": ("bare --config.beta=1 --config {configs}/mujoco_config.py", "--config before"),
    "a field without a value": ("train --config.beta", "config.beta"),
    "a flag for a value": ("train --config.beta --tuned", "config.beta", "is its value missing"),
    "text for widths": ("train --config.hidden_dims=wide", "hidden_dims", "wide"),
    "no widths": ("train --config.hidden_dims=", "hidden_dims", "empty"),
    "widths given twice": (
        "train --config.hidden_dims=(8,) --config.hidden_dims=(9,)", "hidden_dims", "2 times", "once"
    ),
    "a network's widths given twice": (
        "train --config.value_hidden_dims=(8,) --config.value_hidden_dims=(9,)", "2 times", "once"
    ),
    "width 0": ("train --config.hidden_dims=(8,0)", "config.hidden_dims", "positive whole numbers", "(8, 0)"),
    "width 0 of a network": ("train --config.value_hidden_dims=(8,0)", "value_hidden_dims", "(8, 0)"),
    "a fraction of a width": ("train --config.hidden_dims=(8.5,)", "config.hidden_dims", "8.5"),
    "neither true nor false": ("train --config.layer_norm=maybe", "layer_norm", "maybe", "true or false"),
    "a fraction for a whole number": ("train --config.num_critics=1.5", "num_critics", "1.5", "whole number"),
}  # fmt: skip


@pytest.fixture(scope="module")
def outcomes(place):
    for name, source in FILES.items():
        assert source != SOURCE, name
        path = place.folder / f"{name}_config.py"
        path.write_bytes(source if isinstance(source, bytes) else source.encode())
    return place.outcomes(MISTAKES)


@pytest.mark.parametrize("name", MISTAKES)
def test_mistake_ends_with_one_line(outcomes, name):
    assert_told(outcomes[name], MISTAKES[name][1:])


def test_alone_they_end_alike(place, outcomes):
    place.assert_same_alone(MISTAKES, outcomes)


def impossible_values(learner):
    """(field, text, words of the message), by the field's own check; switches and widths are left out."""
    for field, default in hyperparameters(learner).items():
        if isinstance(default, bool | tuple):
            continue
        if isinstance(default, str):
            yield field, "gumbel", [told_of(learner, field, "gumbel")]
            continue
        yield field, "many", ["many", "number"]
        yield field, "", ["empty"]
        for value in ("-1", "0", "1", "2", "nan", "inf", "-inf", "1e60", "-1e-60"):
            if isinstance(default, int) and not re.fullmatch("-?[0-9]+", value):
                yield field, value, [value, "whole number"]
            elif message := told_of(learner, field, type(default)(value)):
                yield field, value, [message]


def told_of(learner, field, value):
    """What the field's own check says of the value; None if the value is possible."""
    try:
        check_value(learner, f"config.{field}", field, value)
    except UserError as error:
        return str(error)


@pytest.mark.parametrize("algorithm", OFFLINE)
def test_impossible_values_of_every_field(place, algorithm):
    """Generated: a new field is covered without a line here."""
    learner = make_learner(algorithm)
    values = list(impossible_values(learner))
    assert {field for field, *_ in values} == {
        field for field, default in hyperparameters(learner).items() if not isinstance(default, bool | tuple)
    }
    path = ROOT / "configs" / "pointmaze_config.py"
    runs = [
        Run(place.command(f"--config={path}:{algorithm}", f"--config.{field}={text}"), cwd=place.folder)
        for field, text, _ in values
    ]
    before = contents(place.folder)
    outcomes = place.server.run_all(runs, BY_CHILD)
    for (field, _, words), outcome in zip(values, outcomes, strict=True):
        assert_told(outcome, [f"config.{field}", *words])
    assert contents(place.folder) == before


@pytest.mark.slow
def test_mistake_in_a_process_of_its_own(place):
    command, *words = MISTAKES["unknown field"]
    run = place.run_of(command)
    before = contents(place.results)
    assert_told(run_process(run.arguments, place.folder), words)
    assert contents(place.results) == before
