"""Two classes with the same fields never share a compiled program."""

import flax.struct
import jax
import pytest

from xql_jax.learners.fields import Part
from xql_jax.learners.parts import LearnerState
from xql_jax.learners.registry import OFFLINE, ONLINE, make_learner
from xql_jax.pytrees import Distinct


def numbered(base, number):
    @flax.struct.dataclass
    class Times(base):
        rate: float = 2.0

        def of(self, x):
            return number + self.rate * x

    return Times()


@jax.jit
def of(part, x):
    return part.of(x)


@pytest.mark.slow
@pytest.mark.parametrize("base", [Distinct, Part])
def test_every_class_has_its_own_program(base):
    parts = [numbered(base, number) for number in range(60)]
    assert [float(of(part, 1.0)) for part in parts] == [number + 2.0 for number in range(60)]


def test_what_the_test_above_catches():
    """Where this fails, jaxlib compares classes, and `Distinct` can go: of 200 classes 30 were mixed up."""
    assert jax.tree.structure(numbered(object, 0)) == jax.tree.structure(numbered(object, 1))
    assert jax.tree.structure(numbered(Distinct, 0)) != jax.tree.structure(numbered(Distinct, 1))


def test_structures_of_learners_and_of_states_differ():
    learners = [make_learner(name) for name in (*OFFLINE, *ONLINE)]
    structures = [jax.tree.structure(learner) for learner in learners]
    for one, structure in zip(learners, structures, strict=True):
        for other, another in zip(learners, structures, strict=True):
            parts = {type(part) for part in (one, *vars(one).values()) if isinstance(part, Part)}
            others = {type(part) for part in (other, *vars(other).values()) if isinstance(part, Part)}
            assert parts == others or structure != another

    class OneState(LearnerState):
        extra: float = 0.0

    class AnotherState(LearnerState):
        other: float = 0.0

    assert jax.tree.structure(OneState(0, 1)) != jax.tree.structure(AnotherState(0, 1))
    assert jax.tree.structure(OneState(0, 1)) == jax.tree.structure(OneState(2, 3).replace(extra=4.0))
