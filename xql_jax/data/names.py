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
_CONCERNS_ENDS = re.compile(
    r"done|terminal|terminat|trunc|time_?out|time_?limit|absorb|mask|is_?(first|last)|next_?(obs|state)"
    r"|(obs\w*|states?)_?(next|tp1|2|prime)$|game_?over|is_?final|new_?ep|^valids?$|^discounts?$|^step_?type$"
    r"|^(time)?_?steps?$|^frame_?(index|id)$|^env_?(ids?|index|num)$"
    r"|^(ends?|starts?|resets?|ep|episodes?|traj(ectory|ectories)?|demo_?ids?|first|last|lengths?|size|ptr)$"
    r"|(^|_)(ep|eps|episode|traj|trajectory|path)s?_?(end|start|id|idx|index|indices|len|length|num|number)s?(_|$)",
    re.IGNORECASE,
)


def by_meaning(names: Collection[str], required: Collection[str], source: str) -> dict[str, list[str]]:
    """Returns by our name all names that mean it.

    Raises UserError if a required one is missing, or for a name that is not known and concerns the ends of
    episodes or the next states.
    """
    found: dict[str, list[str]] = {}
    for name in names:
        if name in OUR_NAMES:
            found.setdefault(OUR_NAMES[name], []).append(name)
        elif _CONCERNS_ENDS.search(name.rpartition("/")[2]):
            raise UserError(
                f"{source}: {name} sounds like ends of episodes, the order of rows or next states, which no "
                "array of that name tells here: give them as terminals (1 where the state after the step is "
                "final), masks (0 there), timeouts (1 where the recording stopped), ends (1 at every last "
                "step) or next_observations, and leave it out"
            )
    missing = [name for name in required if name not in found]
    if "masks" in found and "terminals" in missing:
        missing.remove("terminals")
    if missing:
        raise missing_arrays(missing, names, source)
    return found


def missing_arrays(missing: Collection[str], names: Collection[str], source: str) -> UserError:
    """Returns the error for arrays that are not among the names."""
    text = f"no array {', '.join(missing)}; there are {', '.join(names) or 'none'}"
    return UserError(f"{source}: {text[:300]}")
