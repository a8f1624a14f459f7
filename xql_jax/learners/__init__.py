"""Learners: one method per file, each a frozen pytree dataclass with init, update and act."""
