"""Rewrites a function so that sums which only its side results need are computed last, and together."""

from collections import defaultdict
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr, jaxpr_as_fun

Steps = list[Any]  # JAX's equations


def with_late_sums(function: Callable[..., tuple]) -> Callable[..., tuple]:
    """Returns the function, of arrays; sums that the first entry of its result does not need come at its end.

    These are sums of whole arrays, as metrics are. Those of arrays of one shape are one operation.
    """

    def rewritten(*given: Any) -> tuple:
        closed, shapes = jax.make_jaxpr(function, return_shape=True)(*given)
        jaxpr = closed.jaxpr
        needed = ids(jaxpr.outvars[: len(jax.tree.leaves(shapes[0]))])
        for step in reversed(jaxpr.eqns):
            needed |= ids(step.invars) if needed & ids(step.outvars) else set()
        now, then, late = Steps(), Steps(), set[int]()
        sums: dict[str, Steps] = defaultdict(Steps)  # by the shape and type of what is summed
        for step in jaxpr.eqns:
            waits, is_free = late & ids(step.invars), not needed & ids(step.outvars)
            is_sum = is_free and step.primitive.name == "reduce_sum" and not step.outvars[0].aval.shape
            (then if waits else sums[str(step.invars[0].aval)] if is_sum else now).append(step)
            late |= ids(step.outvars) if waits or is_sum else set()
        known, leaves = [*jaxpr.constvars, *jaxpr.invars], [*closed.consts, *jax.tree.leaves(given)]
        values = dict(zip(known, leaves, strict=True))

        def run(steps: Steps, wanted: list) -> list:
            part = jaxpr.replace(constvars=[], invars=[*values], eqns=steps, outvars=wanted)
            return jaxpr_as_fun(ClosedJaxpr(part, []))(*values.values())

        found = [variable for step in now for variable in step.outvars]
        values |= zip(found, run(now, found), strict=True)
        for steps in sums.values():
            totals = jnp.stack([values[step.invars[0]].ravel() for step in steps]).sum(1)
            values |= zip([step.outvars[0] for step in steps], totals, strict=True)
        return jax.tree.unflatten(jax.tree.structure(shapes), run(then, jaxpr.outvars))

    return rewritten


def ids(variables: list) -> set[int]:
    return {*map(id, variables)}
