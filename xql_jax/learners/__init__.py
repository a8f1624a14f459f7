"""Learners: one algorithm a file, each a frozen pytree dataclass with init, update and act."""
