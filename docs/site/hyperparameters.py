"""Writes docs/hyperparameters.md: every hyperparameter by method and config file, its default and its source.

  python docs/site/hyperparameters.py

A test compares the page with what this would write.
"""

import functools
import importlib
import inspect
import runpy
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from xql_jax.configuration import OnlineFields
from xql_jax.learners.fields import FinetuneDefaults, RunDefaults, traced_names
from xql_jax.learners.registry import OFFLINE, ONLINE, FieldDescription, describe_fields, make_learner

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "hyperparameters.md"
BLANK = "\n\n"  # ends the first paragraph of a docstring
INTRODUCTION = """\
# Hyperparameters

`python docs/site/hyperparameters.py` writes this page from the code.

- `--method=METHOD` selects a method with the values of the task's file below, `--config=FILE:METHOD` with
  another file's. `--NAME=VALUE` changes one, and `--hidden_dims='(256, 256)'` the widths of all networks.
- [Settings of the run](#settings-of-the-run) have flags. Only `scale_rewards` (learn from locomotion's scaled
  rewards) is fixed by the method and has no flag.
- In the tables of the methods, an empty cell means the default. A value in *italics* is what the method's own
  file gives for that kind of task; the other values are the config file's. Sources, and differences from the
  authors' code, are in the config files ([below](#config-files)) and at the head of each method's file.
"""


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
        traced = traced_names(make_learner(name))
        for field in describe_fields(name):
            row = rows.setdefault((field.name, field.meaning), (field, field.name in traced, []))
            row[2].append(name)
    for field in describe_fields(OnlineFields()):
        rows.setdefault((field.name, field.meaning), (field, False, list(ONLINE)))
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
        suites = space["get_config"]().about.get("suites", ("online",))
        rows.append((f"`configs/{file}_config.py`", ", ".join(suites), prose(space["__doc__"])))
    yield from table(("file", "suites", "what it says"), rows)


def tuned() -> Iterator[str]:
    yield "## Values by dataset and by task\n"
    yield "With `--tuned`, XQL has these values of the paper's Table 4, in parentheses there.\n"
    by_dataset = {
        dataset: row
        for space in files().values()
        for dataset, row in space["get_config"]().about.get("tuned", {}).items()
    }
    columns = next(iter(by_dataset.values())).keys()
    rows = ((f"`{dataset}`", *(shown(row[name]) for name in columns)) for dataset, row in by_dataset.items())
    yield from table(("dataset", *(f"`{name}`" for name in columns)), rows)
    yield "`configs/ogbench_config.py` changes these values where a task's name begins so.\n"
    by_start: dict[str, dict[str, str]] = {}
    for method in OFFLINE:
        about = files()["ogbench"]["get_config"](method).about
        for start, values in about.by_environment.items():
            for name, value in values.items():
                by_start.setdefault(start, {})[f"`{name}`"] = shown(value)
    rows = [(f"`{start}`", *values) for start, each in by_start.items() for values in each.items()]
    yield from table(("task", "hyperparameter", "value"), rows)
    yield "Online, a config's values are changed for these tasks.\n"
    yield from table(
        ("file", "task", "values"),
        (
            (f"`configs/{file}_config.py`", f"`{task}`", assignments(values))
            for file, space in files().items()
            for task, values in space["get_config"]().about.get("by_task", {}).items()
        ),
    )


def of_runs() -> Iterator[str]:
    yield "## Settings of the run\n"
    yield "What offline methods do unless flags say otherwise: the first row, but for what the others say.\n"
    usual = vars(RunDefaults())
    own = {name: vars(method.run) for name, method in sorted(OFFLINE.items())}
    others = [(f"`{name}`", assignments(differing(run, usual))) for name, run in own.items() if run != usual]
    yield from table(("method", "values"), [("all", assignments(usual)), *others])


def finetuning() -> Iterator[str]:
    yield "## Fine-tuning\n"
    yield "What fine-tuning does unless flags say otherwise: the first row, but for what the others say.\n"
    usual = vars(FinetuneDefaults())
    rows = [("all", "", assignments(usual))]
    for method, recipe in sorted(OFFLINE.items()):
        own = vars(recipe.finetune)
        if own != usual:
            rows.append((f"`{method}`", "", assignments(differing(own, usual))))
        for file, get_config in offline_files().items():
            values = get_config(method).about.finetune.to_dict()
            if values != own:
                rows.append(
                    (f"`{method}`", f"`configs/{file}_config.py`", assignments(differing(values, usual)))
                )
    yield from table(("method", "file", "values"), rows)


def differing(values: Mapping[str, Any], usual: Mapping[str, Any]) -> dict[str, Any]:
    return {name: values[name] for name in usual if values[name] != usual[name]}


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
    rows = []
    for field in describe_fields(name):
        cells = []
        for config in configs.values():
            value = config[field.name]
            own = OFFLINE[name].by_suite.get(config.about.suites[0], {})
            text = "" if value == field.default else shown(value)
            cells.append(f"*{text}*" if text and own.get(field.name) == value else text)
        rows.append((f"`{field.name}`", shown(field.default), *cells, field.source))
    return table(("name", "default", *configs, "source of the default"), rows)


def online_table(name: str) -> list[str]:
    file = name.removesuffix("_dq")
    config = files()[file]["get_config"](name)
    small = config.about.small
    rows = []
    for field in (*describe_fields(name), *describe_fields(OnlineFields())):
        value = config[field.name]
        rows.append(
            (
                f"`{field.name}`",
                shown(field.default),
                "" if value == field.default else shown(value),
                shown(small[field.name]) if field.name in small else "",
                field.source,
            )
        )
    return table(("name", "default", file, "with `--network=small`", "source of the default"), rows)


@functools.cache
def files() -> dict[str, dict[str, Any]]:
    """What each config file defines, by its name less the common end."""
    paths = sorted((ROOT / "configs").glob("*_config.py"))
    return {path.stem.removesuffix("_config"): runpy.run_path(str(path)) for path in paths}


def offline_files() -> dict[str, Callable[[str], ConfigDict]]:
    functions = {file: space["get_config"] for file, space in files().items()}
    return {file: function for file, function in functions.items() if "suites" in function().about}


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
    PAGE.write_text(page(), "utf-8")
