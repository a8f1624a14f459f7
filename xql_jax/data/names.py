"""The names of arrays, and what they mean: one table for files, folders and Python."""

import re
from collections.abc import Collection
from typing import Any

from xql_jax.errors import UserError
from xql_jax.settings import SEVERAL, recorded

# Our name of each array, and the names that other programs give it. docs/data.md has the same table.
NAMES = {
    "observations": "obs observation",
    "actions": "acts action",
    "rewards": "rews reward",
    "next_observations": "next_obs next_observation new_obs",
    "terminals": "terminal terminated terminateds terminations",  # the state after the step is final
    "masks": "",  # 1 - terminals
    "timeouts": "timeout truncated truncateds truncation truncations",  # the recording stopped after it
    "ends": "episode_terminals dones_float",  # an episode ends with it, in whichever way
}
OUR_NAMES = {name: ours for ours, names in NAMES.items() for name in (ours, *names.split())}

# Most other names for ends, order and next states mean one thing to one program and another to the next, so
# none is read. The rule is that of docs/data.md: a stem is in the name, or a word of it is one of `_WORD`; or
# all its words are of rows; or it is an observation with a sign for the next one.
_STEM = re.compile("done|termina|trunc|time_?out|reset|padd|mask|absorb|bootstrap|boundar|discount|successor")
_WORD = re.compile(
    "next|nxt|nobs|succ|new|last|final|end(s|ed|ing)?|over|eos|dw|pads?|terms?|dead|death|alive|cont(inu(e|es|ing))?"
    "|stop(s|ped)?|crash(ed)?|abort(ed)?|cut(s|off)?|remaining|until|after|post|future|subsequent|following"
    "|order|perm|permutation|shuffled?|splits?|offsets?"
    "|(ep|episode|traj|seq)?len(s|gths?)?|ids?|idxs?|index|indices|nums?|numbers?|counts?|counter|ptr"
)
_OF_ROWS = re.compile(
    "(ep|episode|traj|trajector(y|ie)|path|demo|rollout|run|seq|sequence|segment|unroll|chunk|window|env"
    "|environment|worker|agent|actor|game|row|step|timestep|timestamp|stamp|frame|time|timed|[tdn]|is|in|of|out|max"
    "|type|flag|first|start(ed)?|begin|beginning|limit|elapsed|left|horizon|reached|real|rank|size|(in)?valid|fail(ed|ure)?|finish(ed)?"
    "|completed?|gamma)s?"
)
_FOLLOWING = re.compile(r"(^[so]|(^|_)(obs|observation|state)s?)(_?(tp1|t_plus_1|2|prime|plus)|_[np]?)$")
_IN_WORDS = "ends of episodes, the order of rows or next states"
RECIPES = "docs/data.md, Layouts of other programs"
SHOWN = 10  # of names, in a message


def unused_arrays() -> Any:
    """Declares the setting of every command that reads data."""
    return recorded(
        (),
        SEVERAL,
        "Arrays of the data that are not read, by their names: NAME,NAME. So a name is read past that sounds "
        f"like {_IN_WORDS}.",
        neutral=(),
        by_commas=True,
    )


def tells_rows(name: str) -> bool:
    """Whether a name that is not in the table may tell ends, the order of rows or next states."""
    if name.startswith("metadata/"):
        return False
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|\W", "_", name).lower().replace("end_effector", "effector")
    words = re.findall("[a-z]+", spaced)
    own = re.sub(r"\W", "_", name.rpartition("/")[2]).lower()
    of_rows = [*map(_OF_ROWS.fullmatch, re.findall("[a-z]+", own))]
    is_said = _STEM.search(spaced) or any(map(_WORD.fullmatch, words))
    return bool(is_said or (of_rows and all(of_rows)) or _FOLLOWING.search(own))


def by_meaning(names: Collection[str], required: Collection[str], source: str) -> dict[str, list[str]]:
    """Returns by our name all names that mean it.

    UserError if a required one is missing, or an unknown one may concern ends, the order or next states.
    """
    meanings = {ours: theirs for ours in NAMES if (theirs := [n for n in names if OUR_NAMES.get(n) == ours])}
    missing = {*required} - meanings.keys() - ({"terminals"} if "masks" in meanings else set())
    unsure = [name for name in names if name not in OUR_NAMES and tells_rows(name)]
    if unsure and missing <= {"terminals"}:  # else the layout is another
        raise UserError(
            f"{source}: {unsure[0]} sounds like {_IN_WORDS}: give what it says as terminals (1 where the "
            "state after the step is final), masks (0 there), timeouts (1 where the recording stopped), ends "
            f"(1 at last steps) or next_observations; --unused_arrays={','.join(unsure)} reads past it"
        )
    if missing:
        raise missing_arrays([name for name in required if name in missing], names, source)
    return meanings


def missing_arrays(missing: Collection[str], names: Collection[str], source: str) -> UserError:
    """Returns the error for arrays that are not among the names, with what the names say of the layout."""
    groups = [
        name.rpartition("/")[0] for name in names if OUR_NAMES.get(name.rpartition("/")[2]) == "actions"
    ]
    parts = [name for name in names if OUR_NAMES.get(re.split("[/.]", name)[0]) == "observations"]
    text = f"{source}: no array {', '.join(missing)}"
    if any(groups):
        of_minari = any(name.endswith("/terminations") for name in names)
        return UserError(
            f"{text}: each episode is a group of its own ({shown(groups)}), as robomimic writes them: the "
            f"lines in {RECIPES!r} make a folder of episodes of such a file"
            + ("; if it is Minari's, give minari:FOLDER" if of_minari else "")
        )
    if any(name.startswith("next.") for name in names):
        return UserError(
            f"{text}: these are LeRobot's names ({shown(names)}): {RECIPES!r} has lines that read them"
        )
    if "observations" in missing and parts:
        return UserError(
            f"{text}; there are {shown(parts)}, parts of it: join them as one array observations [N, O], in "
            f"the order in which a policy will see them, as in {RECIPES!r}"
        )
    return UserError(f"{text}; there are {shown(names) or 'none'}")


def shown(names: Collection[str]) -> str:
    """Returns the first names, whole, and how many more there are."""
    more = f" and {len(names) - SHOWN:,} more" if len(names) > SHOWN else ""
    return ", ".join([*names][:SHOWN]) + more
