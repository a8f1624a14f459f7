"""Labels in the names of runs' folders, so that runs can be told apart in a list of files."""

import re
from collections.abc import Mapping
from typing import Any

from xql_jax.training.members import fields_given

LONGEST = 60  # characters
OF_RUN = (
    "batch_size",
    "normalize_observations",
    "top_returns",
    "scale_rewards",
)  # settings that a label can contain besides the config's fields


def run_label(config: Mapping[str, Any], identity: Mapping[str, Any]) -> str:
    """Returns the settings that differ from the config file's, such as beta=0.5_tau=0.1.

    Swept settings come first, then the others by name, as many as fit into LONGEST characters. The label
    depends only on the settings, not on how they were typed. Characters that some file systems do not allow
    are left out.

    Args:
        config: resolved, with its entry `about` (the defaults to compare with).
        identity: of the run, see `RunFolder`.
    """
    about = config["about"]
    base, of_run = about.get("base", {}), about.get("run", {})
    swept = dict(fields_given(identity["sweep"]))
    values = {name: identity["config"].get(name) for name in base if name not in swept}
    changed = {name: value for name, value in values.items() if value is not None and value != base[name]}
    changed |= {
        name: identity[name] for name in OF_RUN if name in identity and identity[name] != of_run.get(name)
    }
    told: list[str] = []
    for name, value in [*swept.items(), *((name, _short(value)) for name, value in sorted(changed.items()))]:
        part = f"{name}={value}"
        safe = re.sub(r"[^\w=.,+-]", "", part, flags=re.ASCII)
        if len("_".join([*told, safe])) <= LONGEST:
            told.append(safe)
    return "_".join(told)


def _short(value: Any) -> str:
    if isinstance(value, tuple | list):
        return ",".join(map(str, value))
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)
