"""Two classes with the same fields never share a compiled program."""

import flax.struct
import jax

from xql_jax.learners.method import Part
from xql_jax.numerics.pytrees import Distinct


def one_of_a_new_class(base):
    @flax.struct.dataclass
    class Times(base):
        rate: float = 2.0

    return Times()


def test_every_class_has_a_structure_of_its_own():
    """Where the first comparison fails, jaxlib compares classes, and `Distinct` can go."""
    first, second = one_of_a_new_class(object), one_of_a_new_class(object)
    assert jax.tree.structure(first) == jax.tree.structure(second)
    for base in (Distinct, Part):
        first, second = one_of_a_new_class(base), one_of_a_new_class(base)
        assert jax.tree.structure(first) != jax.tree.structure(second)
