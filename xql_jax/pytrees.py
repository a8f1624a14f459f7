"""Pytree dataclasses that JAX tells apart."""

import inspect
from typing import Any

import flax.struct


class Distinct:
    """The base of a pytree dataclass whose class is part of its structure, as JAX means it to be.

    jaxlib 0.10 compares the fields of dataclasses but not their classes. So of two learners with equally many
    numbers and the same static fields, one is now and then given the program that was compiled for the other
    (`tests/test_pytrees.py` shows it). Here every class adds a static field with itself as the value.
    """

    def __init_subclass__(cls, **options: Any) -> None:
        cls.__annotations__ = inspect.get_annotations(cls) | {"pytree_class": type}
        field = flax.struct.field(default=cls, pytree_node=False, repr=False, kw_only=True)
        cls.pytree_class = field  # type: ignore[attr-defined]
        super().__init_subclass__(**options)
