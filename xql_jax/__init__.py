"""Extreme Q-Learning (Garg et al., ICLR 2023) in JAX."""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from xql_jax.errors import UserError
    from xql_jax.interface import train, train_finetune, train_online
    from xql_jax.policy import Policy, load_policy

__version__ = "2.0.0"
__all__ = ["Policy", "UserError", "load_policy", "train", "train_finetune", "train_online"]
_HOMES = {
    "Policy": "policy",
    "UserError": "errors",
    "load_policy": "policy",
    "train": "interface",
    "train_finetune": "interface",
    "train_online": "interface",
}


if not TYPE_CHECKING:  # mypy takes any name for an attribute of a module with this function

    def __getattr__(name: str) -> object:
        """Imports the package's functions on first use: loading JAX takes seconds, `import xql_jax` none."""
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
