"""Which value wins: settings and hyperparameters lie in layers, and the last layer with a name wins.

From the bottom: the fields' defaults; the method's values (`Method`); the suite's rows, which stand beside
its tasks in suites/; the values that a user gives. The suite's layer has parts with names of their own: a
config file's changes of its rows, and Table 4's values (`--tuned`). In fine-tuning the run of `--checkpoint`
lies below the user. `layers_of` makes the layers below the user; `settings_from` (resolve.py) lays the user's
values over them.
"""

import dataclasses
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, Self

from xql_jax.errors import UserError, nearest
from xql_jax.learners.registry import IN_SAMPLE, make_learner, method_named, method_of
from xql_jax.runs.varied import fields_of, joined
from xql_jax.settings import WIDTHS, Checked, Setting, declared, settings_of, values_of, with_values
from xql_jax.suites import Values
from xql_jax.types import Json

# The layers, from the bottom; `--print_config` shows the name of a value's layer as its source.
DEFAULT, METHOD, SUITE, FILE, TABLE_4 = "default", "method", "suite", "config file", "Table 4 (--tuned)"
CHECKPOINT, CALLER, USER, OFF = "run of --checkpoint", "caller", "flag", "off"
ORDER = (
    DEFAULT,
    METHOD,
    SUITE,
    FILE,
    TABLE_4,
    CHECKPOINT,
    CALLER,  # what a program sets for a user, such as a sweep the seeds; it is not the user's choice
    USER,  # a flag, an argument in Python, or a field in --methods of a sweep
    OFF,  # `beta_nats` where the user chose `beta`, and the like; see `switched_off` in resolve.py
)
EVERY_WIDTH = Setting(None, WIDTHS, "Widths of the hidden layers of all networks.", tuple)
DONE = ("finetune", "small")  # tags that say what is done


def is_above(layer: str, other: str) -> bool:
    """Whether a layer's values win over another layer's."""
    return ORDER.index(layer) > ORDER.index(other)


@dataclasses.dataclass(frozen=True)
class Layers:
    """Values by name, in layers. A layer below the user's has only the values that it changes."""

    tables: Mapping[str, Json] = dataclasses.field(default_factory=dict)  # by the names in `ORDER`

    def __getitem__(self, layer: str) -> Json:
        """The values that a layer has, {} if none."""
        return self.tables.get(layer, {})

    def layer(self, name: str) -> str:
        """Returns the layer that a value is from."""
        return next((layer for layer in reversed(ORDER) if name in self[layer]), DEFAULT)

    def up_to(self, layer: str) -> Json:
        """Returns the values that win without the layers above this layer."""
        return {
            name: value for table in ORDER[: ORDER.index(layer) + 1] for name, value in self[table].items()
        }

    def recording(self, layer: str, values: Json) -> Self:
        """Returns the layers with these values in one of them, besides the values that it has."""
        return dataclasses.replace(self, tables={**self.tables, layer: {**self[layer], **values}})

    def with_changes(self, layer: str, values: Json) -> Self:
        """The same, but without values that win already, from a layer below."""
        below = self.up_to(layer)
        return self.recording(
            layer, {name: value for name, value in values.items() if value != below.get(name)}
        )

    def without(self, layer: str, name: str) -> Self:
        """Returns the layers without a value of one layer, so that a layer below gives it."""
        others = {other: value for other, value in self[layer].items() if other != name}
        return dataclasses.replace(self, tables={**self.tables, layer: others})


def layers_of(kind: Callable[..., Checked], name: str, tags: Sequence[str], values: Values) -> Layers:
    """Returns the layers of METHOD[+POLICY] below the user's: the defaults, the method's, the suite's.

    Args:
        kind: the class of training, such as `Offline` of kinds.py.
        tags: the task, its suite, and what is done: `finetune`, `tuned` (Table 4), `small` networks.
        values: the suite's.
    Raises:
        UserError: if there is no such method, or no values for --tuned.
    """
    recipe, learner = method_named(method_of(name)), make_learner(name)
    of_run = {field: setting for field, setting in settings_of(kind).items() if setting.by_config}
    known = settings_of(learner) | of_run
    of_method = {field: value for field, value in recipe.settings.items() if field in known}
    # The learner has the method's defaults already. They lie over it again, to be the method's.
    own = [field for field in (*recipe.defaults, *recipe.settings) if field in known]
    layers = Layers({DEFAULT: values_of(kind()) | values_of(learner)})
    every = all_values(kind, learner, of_method)
    layers = layers.recording(METHOD, {field: every[field] for field in own})
    redeclared = {field for owner, field, _ in declared(learner) if _redeclared(owner, field)}
    row = _row(name, tags, values, known, {*own, *redeclared})
    layers = layers.with_changes(SUITE, all_values(kind, learner, of_method | row))
    if "tuned" in tags:
        row |= _tuned_row(name, tags[0], values)
        layers = layers.with_changes(TABLE_4, all_values(kind, learner, of_method | row))
    return layers


def all_values(kind: Callable[..., Checked], learner: Checked, values: Json) -> Json:
    """Returns all settings and hyperparameters by name, with these values, which are checked here."""
    of_learner = {name: value for name, value in values.items() if name in settings_of(learner)}
    # A hyperparameter may have the name of a setting, which no config chooses: `exploration_noise`.
    settings = kind(**{name: value for name, value in values.items() if name not in of_learner})
    return values_of(settings) | values_of(with_values(learner, of_learner))


def _row(
    name: str, tags: Sequence[str], values: Values, known: Mapping[str, Setting], own: Collection[str]
) -> Json:
    """Returns what a suite's rows say for METHOD[+POLICY], of the names that are known.

    A row for several methods leaves alone what a method declares itself, its `own`.
    """
    method, like = method_of(name), method_named(method_of(name)).like
    is_users = ":" in method
    tables = values.rows, *(rows for start, rows in values.when.items() if _is_met(start, tags))
    made: Json = {}
    for who, row in ((who, row) for table in tables for who, row in table.items()):
        names = {*who.split()}
        is_in_sample = who == "in_sample" and (method in IN_SAMPLE or is_users)
        if not (is_in_sample or who == "all" or names & {method, name, like}):
            continue
        is_for_others = who == "in_sample" or (is_users and not names & {method, name})
        laid = {
            field: value
            for field, value in with_every_width(row, known).items()
            if field in known and not (is_for_others and field in own)
        }
        if "online" in laid:  # a row may be for methods with other hyperparameters, too
            laid["online"] = joined(pair for pair in fields_of(laid["online"]) if pair[0] in known)
        # As between layers (`switched_off`): a chosen `beta` ends an earlier row's `beta_nats`.
        made = {field: value for field, value in made.items() if known[field].finds not in laid} | laid
    return made


def _is_met(start: str, tags: Sequence[str]) -> bool:
    """Whether a tag is what is done, `start`, or has a name that begins so."""
    return start in tags if start in DONE else any(tag.startswith(start) for tag in tags)


def _redeclared(owner: Checked, name: str) -> bool:
    """Whether a user's own part has another value than the class of the package that it is derived from."""
    ours = next(base for base in type(owner).__mro__ if base.__module__.startswith("xql_jax."))
    return bool(getattr(ours, name, value := getattr(owner, name)) != value)


def _tuned_row(name: str, task: str, values: Values) -> Mapping[str, Any]:
    """Returns XQL's values for a task in Table 4; UserError if there are none, or the method is another."""
    start = task.split("-")[0]
    alike = [other for other in values.tuned if method_of(name) == "xql" and other.split("-")[0] == start]
    if task not in alike:
        has = nearest(task, alike) if alike else "none for this task or method"
        raise UserError(f"--tuned has no values for {task} with {name}; it has: {has}")
    return values.tuned[task]


def with_every_width(values: Mapping[str, Any], known: Iterable[str]) -> dict[str, Any]:
    """Returns the values with `hidden_dims`, if there, replaced by the widths of every network."""
    others = {name: value for name, value in values.items() if name != "hidden_dims"}
    if "hidden_dims" not in values:
        return others
    widths = EVERY_WIDTH.checked("hidden_dims", values["hidden_dims"])
    return {name: widths for name in known if name.endswith("_hidden_dims")} | others
