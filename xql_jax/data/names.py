"""The names of arrays, and what they mean: one table for files, folders and Python."""

import re
from collections.abc import Collection

from xql_jax.errors import UserError

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

# All other names that may tell where episodes end, which rows belong together, or what the next state is. Of
# most of them one program means one thing and the next another, so none is read.
_SERIES = "ep|eps|episode|traj|trajector(y|ie)|path|demo|rollout|run|seq|sequence|segment|unroll|env|worker"
_UNSURE = re.compile(
    r"done|termina|trunc|timed?_?out|time_?limit|absorb|mask|game_?over|new_?ep|boundar|bootstrap|continu(e|ing)"
    r"|(next|new|final)_?(obs|state)|^(next|new)_?[so]?$|(^[so]|obs\w*|states?)(_?(next|tp1|2|prime)|_[np])$"
    r"|(^|_)(is_?(first|last|final|start|begin|end|reset)|end_of_\w+|end_?flags?|resets?)(_|$)"
    r"|^((env|first|last|num|elapsed)_)?(time_?)?steps?(_?(type|id|idx|index|num|number|in_\w+))?$"
    r"|^(is_)?(alive|dead|death|fail(ed|ure)?|complete[sd]?|finish(ed)?|valid|discount|gamma|cont|over)s?$"
    r"|^([dt]|(time_?)?stamps?|frame_?(index|id)|index|len|lengths?|sizes?|ptr)$"
    rf"|^(end|ended|start|begin|first|last|final|{_SERIES})s?$|(^|_)({_SERIES}|agent|actor|environment)s?_?"
    r"(end|start|begin|id|idx|index|indices|len|length|num|number|t|time|step|ptr|over|finish\w*)s?(_|$)",
    re.IGNORECASE,
)


def by_meaning(names: Collection[str], required: Collection[str], source: str) -> dict[str, list[str]]:
    """Returns by our name all names that mean it.

    UserError if a required one is missing, or an unknown one may concern ends, the order or next states.
    """
    found = {ours: theirs for ours in NAMES if (theirs := [n for n in names if OUR_NAMES.get(n) == ours])}
    missing = {*required} - found.keys() - ({"terminals"} if "masks" in found else set())
    unsure = [n for n in names if n not in OUR_NAMES and _UNSURE.search(re.sub(r"\W", "_", n.split("/")[-1]))]
    if unsure and missing <= {"terminals"}:  # else the layout is another
        raise UserError(
            f"{source}: {unsure[0]} sounds like ends of episodes, the order of rows or next states: leave it "
            "out, and give what it says as terminals (1 where the state after the step is final), masks "
            "(0 there), timeouts (1 where the recording stopped), ends (1 at last steps) or next_observations"
        )
    if missing:
        raise missing_arrays([name for name in required if name in missing], names, source)
    return found


def missing_arrays(missing: Collection[str], names: Collection[str], source: str) -> UserError:
    """Returns the error for arrays that are not among the names."""
    text = f"no array {', '.join(missing)}; there are {', '.join(names) or 'none'}"
    return UserError(f"{source}: {text[:300]}")
