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
    "terminals": "terminal terminated terminateds terminations is_terminal",  # the state after it is final
    "masks": "",  # 1 - terminals
    "timeouts": "timeout truncated truncateds truncation truncations",  # the recording stopped after it
    "ends": "is_last episode_terminals dones_float",  # an episode ends with it, in whichever way
    "starts": "is_first episode_starts",  # an episode begins with it
    # The number of the episode, or of the environment that ran it.
    "episodes": "episode_id episode_ids episode_index traj_id trajectory_id eps_id env_id env_ids",
    "steps": "step timestep timesteps frame_index",  # its number in the episode
}
OUR_NAMES = {name: ours for ours, names in NAMES.items() for name in (ours, *names.split())}

# Names that mean one thing in one program and another in the next. Such an array is compared with arrays
# whose meaning is certain.
DONES = ("done", "dones")
AMBIGUOUS = (*DONES, "not_done", "not_dones", "nonterminals", "mask", "discount", "discounts", "step_type")
# All other names that sound like the ends of episodes or the next states.
_CONCERNS_ENDS = re.compile(
    r"done|terminal|terminat|trunc|time_?out|time_?limit|absorb|mask|is_?(first|last)|next_?(obs|state)"
    r"|(obs\w*|states?)_?(next|tp1|2|prime)$|game_?over|is_?final|new_?ep|^valids?$"
    r"|^(ends?|starts?|resets?|ep|episodes?|traj(ectory|ectories)?|demo_?ids?|first|last|lengths?|size|ptr)$"
    r"|(^|_)(ep|eps|episode|traj|trajectory|path)s?_?(end|start|id|idx|index|indices|len|length|num|number)s?(_|$)",
    re.IGNORECASE,
)


def is_known(name: str) -> bool:
    """Whether an array of that name is read."""
    return name in OUR_NAMES or name in AMBIGUOUS


def by_meaning(names: Collection[str], required: Collection[str], source: str) -> dict[str, list[str]]:
    """Returns by our name all names that mean it, without those that are `AMBIGUOUS`.

    Raises UserError if a required one is missing, or if the meaning of a name that concerns the ends of
    episodes or the next states is not certain.
    """
    found: dict[str, list[str]] = {}
    for name in names:
        if name in OUR_NAMES:
            found.setdefault(OUR_NAMES[name], []).append(name)
    missing = [name for name in required if name not in found]
    if "masks" in found and "terminals" in missing:
        missing.remove("terminals")
    if missing:
        raise missing_arrays(missing, names, source)
    for name in names:
        if not is_known(name) and _CONCERNS_ENDS.search(name.rpartition("/")[2]):
            raise UserError(
                f"{source}: {name} sounds like ends of episodes or next states, and its name is not known: "
                f"rename it to one of {', '.join(list(NAMES)[3:])} if it means that, else leave it out"
            )
    return found


def missing_arrays(missing: Collection[str], names: Collection[str], source: str) -> UserError:
    """Returns the error for arrays that are not among the names; it says what to do if that is known."""
    parts = [f"no array {', '.join(missing)}; there are {', '.join(names) or 'none'}"[:300]]
    parts += [ambiguous(name) for name in names if name in AMBIGUOUS]
    return UserError(f"{source}: {'; '.join(parts)}")


def ambiguous(name: str) -> str:
    """Returns what to do about an array with an ambiguous name."""
    return (
        f"rename {name} to terminals if it marks final states alone (to masks if it is 0 there), to ends, "
        "with terminals beside it, if it marks all ends: docs/data.md#what-is-read-under-which-name"
    )
