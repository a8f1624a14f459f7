"""The site's page of hyperparameters: every one by method and suite, its default and its source.

  python docs/site/hyperparameters.py

prints it, and `make docs` puts it on the site.
"""

import functools
import importlib
import inspect
import runpy
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from xql_jax.learners.method import Method
from xql_jax.learners.registry import OFFLINE, ONLINE, make_learner, method_named, method_of
from xql_jax.runs.kinds import OF_OFFLINE, OF_ONLINE, Offline, Online
from xql_jax.settings import declared, settings_of, values_of
from xql_jax.suites.tasks import SUITES, TASKS
from xql_jax.types import Batch, CalibratedBatch

ROOT = Path(__file__).resolve().parents[2]
BLANK = "\n\n"  # ends the first paragraph of a docstring
INTRODUCTION = """\
# Hyperparameters

- `--method=METHOD` selects a method with the values of the task's suite, `--config=FILE:METHOD` with those of
  a file below, or of your own. `--NAME=VALUE` changes one, and `--hidden_dims='(256, 256)'` the widths of all
  networks.
- The defaults come in three layers, of which later ones win: the field's own, the method's, the suite's (its
  rows by method; with `--tuned` Table 4's). Then comes what you give. `--print_config` names the source of
  each value.
- In the tables of the methods, an empty cell means the default. Sources, and differences from the authors'
  code, are beside the suites' values and at the head of each method's file.
"""


class FieldDescription(NamedTuple):
    """A hyperparameter of a method."""

    name: str  # flat, as in `--NAME`
    default: object  # as a config has it: functions by their names
    domain: str  # the values that it may have, in words
    meaning: str  # empty for a field that has none, such as one of your own method
    source: str  # which class or method has the default


def describe_fields(name: str) -> list[FieldDescription]:
    """Describes the hyperparameters of METHOD or METHOD+POLICY, in the order of its config."""
    learner, method = make_learner(name), method_of(name)
    own, values = method_named(method).defaults, values_of(learner)
    found, known = {}, settings_of(learner)
    for owner, name, _ in declared(learner):
        source = f"method {method}" if name in own else type(owner).__name__
        found[name] = FieldDescription(name, values[name], known[name].valid, known[name].meaning, source)
    return list(found.values())


def page() -> str:
    """The whole page as Markdown."""
    return "\n".join(
        [INTRODUCTION, *meanings(), *config_files(), *tuned(), *of_runs(), *finetuning(), *methods()]
    )


def meanings() -> Iterator[str]:
    yield "## What each means\n"
    yield "A *traced* one can be swept: its values share one compiled program.\n"
    rows: dict[tuple[str, str], tuple[FieldDescription, bool, list[str]]] = {}
    for name in (*OFFLINE, *ONLINE):
        traced = [one for one, known in settings_of(make_learner(name)).items() if known.traced]
        for field in describe_fields(name):
            row = rows.setdefault((field.name, field.meaning), (field, field.name in traced, []))
            row[2].append(name)
    for name, one in (OF_OFFLINE | OF_ONLINE).items():
        field = FieldDescription(name, one.default, one.valid, one.meaning, "")
        rows.setdefault((name, one.meaning), (field, False, []))
    names = [name for name, _ in rows]
    yield from table(
        ("name", "meaning", "values", "traced"),
        (
            (
                f"`{field.name}`" + (f" of {', '.join(of)}" if names.count(field.name) > 1 else ""),
                field.meaning,
                field.domain,
                "yes" if traced else "",
            )
            for _, (field, traced, of) in sorted(rows.items())
        ),
    )


def config_files() -> Iterator[str]:
    yield "## Config files\n"
    rows = []
    for file, space in files().items():
        suite = space["get_config"]().suite
        rows.append((f"`configs/{file}_config.py`", suite, prose(space["__doc__"])))
    yield from table(("file", "suite", "what it says"), rows)


def tuned() -> Iterator[str]:
    yield "## Values by dataset and by task\n"
    yield "With `--tuned`, XQL has these values of the paper's Table 4, in parentheses there.\n"
    rows = {}
    for suite in SUITES.values():
        rows |= suite.values.tuned
    names = [f"`{name}`" for name in next(iter(rows.values()))]
    yield from table(
        ("dataset", *names), [(f"`{task}`", *map(shown, row.values())) for task, row in rows.items()]
    )
    yield "OGBench's suite changes these values where a task's name begins so.\n"
    starts = {name.partition("-singletask")[0].rpartition("-")[0] for name in TASKS if "-singletask" in name}
    yield from table(("task", "value", "methods"), changed_by_task("ogbench", [*OFFLINE], sorted(starts)))
    yield "Online, values are changed for these tasks.\n"
    tasks = [task.name for task in SUITES["dm_control"].tasks()]
    yield from table(("task", "value", "methods"), changed_by_task("online", [*ONLINE], tasks))


def changed_by_task(
    file: str, methods: Sequence[str], tasks: Iterable[str]
) -> Iterator[tuple[str, str, str]]:
    """Rows of a task, a value that the file gives for it alone, and the methods that have it."""
    get_config = files()[file]["get_config"]
    for task in tasks:
        having: dict[str, list[str]] = {}
        for method in methods:
            usual, config = get_config(method), get_config(f"{method}@{task}")
            for name in config:
                if config[name] != usual[name]:
                    having.setdefault(assignments({name: config[name]}), []).append(method)
        for value, names in having.items():
            yield f"`{task}`", value, "all that have it" if "cql" in names else ", ".join(names)


def of_runs() -> Iterator[str]:
    yield "## Settings of the run\n"
    yield "The first row has the defaults of offline methods. The other rows have what a method changes.\n"
    usual = {name: one.default for name, one in settings_of(Offline).items() if one.by_config}
    own = {name: of_method(method, usual) for name, method in sorted(OFFLINE.items())}
    others = [(f"`{name}`", assignments(values)) for name, values in own.items() if values]
    yield from table(("method", "values"), [("all", assignments(usual)), *others])


def of_method(method: Method, usual: Mapping[str, Any]) -> dict[str, Any]:
    """The settings, of these, that the method itself gives."""
    return {name: method.settings[name] for name in usual if name in method.settings}


def finetuning() -> Iterator[str]:
    yield "## Fine-tuning\n"
    yield "The first row has the defaults of fine-tuning. The other rows have what a method changes.\n"
    names = OF_OFFLINE.keys() - settings_of(Offline).keys()
    usual = {name: one.default for name, one in OF_OFFLINE.items() if name in names}
    rows = [("all", "", assignments(usual))]
    for method, recipe in sorted(OFFLINE.items()):
        if recipe().batch_type not in (Batch, CalibratedBatch):  # it cannot be fine-tuned
            continue
        own = of_method(recipe, usual)
        if own:
            rows.append((f"`{method}`", "", assignments(own)))
        for file, get_config in offline_files().items():
            config = get_config(f"{method}@finetune")
            values = {name: config[name] for name in usual if config[name] != (usual | own)[name]}
            if values:
                rows.append((f"`{method}`", f"`configs/{file}_config.py`", assignments(values)))
    yield from table(("method", "file", "values"), rows)


def methods() -> Iterator[str]:
    for title, known in (("Offline methods", OFFLINE), ("Online methods", ONLINE)):
        yield f"## {title}\n"
        for name, place in sorted(known.places.items()):
            module = importlib.import_module(f"xql_jax.learners.{place}")
            place = module.__name__.replace(".", "/") + ".py"
            yield f"### {name}\n"
            yield f"[`{place}`](../{place}): {prose((module.__doc__ or '').partition(BLANK)[0])}\n"
            yield from (offline_table if known is OFFLINE else online_table)(name)


def offline_table(name: str) -> list[str]:
    configs = {file: get_config(name) for file, get_config in offline_files().items()}
    changing = {suite.config for suite in SUITES.values() if "finetune" in suite.values.when}
    for file, get_config in offline_files().items():
        if file in changing:
            configs[f"{file}, fine-tuning"] = get_config(f"{name}@finetune")
    rows = []
    for field in describe_fields(name):
        values = [config[field.name] for config in configs.values()]
        cells = ["" if value == field.default else shown(value) for value in values]
        rows.append((f"`{field.name}`", shown(field.default), *cells, field.source))
    return table(("name", "default", *configs, "source of the default"), rows)


def online_table(name: str) -> list[str]:
    get_config = files()["online"]["get_config"]
    config, small = get_config(name), get_config(f"{name}@small")
    settings = [
        FieldDescription(name, one.default, one.valid, one.meaning, Online.__name__)
        for name, one in OF_ONLINE.items()
    ]
    rows = []
    for field in (*describe_fields(name), *settings):
        value, of_small = config[field.name], small[field.name]
        rows.append(
            (
                f"`{field.name}`",
                shown(field.default),
                "" if value == field.default else shown(value),
                "" if of_small == value else shown(of_small),
                field.source,
            )
        )
    return table(("name", "default", "online", "with `--network=small`", "source of the default"), rows)


@functools.cache
def files() -> dict[str, dict[str, Any]]:
    """What each config file defines, by its name less the common end."""
    paths = sorted((ROOT / "configs").glob("*_config.py"))
    return {path.stem.removesuffix("_config"): runpy.run_path(str(path)) for path in paths}


def offline_files() -> dict[str, Callable[[str], ConfigDict]]:
    functions = {file: space["get_config"] for file, space in files().items()}
    return {file: function for file, function in functions.items() if file != "online"}


def prose(docstring: str | None) -> str:
    """A docstring in one line, as a cell of a table needs it."""
    return " ".join(inspect.cleandoc(docstring or "").split())


def assignments(values: Any) -> str:
    texts = {name: f"'{value}'" if isinstance(value, str) else shown(value) for name, value in values.items()}
    return ", ".join(f"`{name}={text}`" for name, text in texts.items())


def shown(value: Any) -> str:
    """A value as the command line takes it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return f"({', '.join(map(str, value))})"
    return f"{value:g}" if isinstance(value, float) else str(value)


def table(head: Sequence[str], rows: Any) -> list[str]:
    """Lines of a table in Markdown, and an empty one."""
    lines = [head, ["---"] * len(head), *rows]
    return [f"| {' | '.join(cell.replace('|', '/') for cell in line)} |" for line in lines] + [""]


if __name__ == "__main__":
    print(page())
