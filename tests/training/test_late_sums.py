"""Functions whose sums are computed last: their results, and which sums are moved."""

import jax
import jax.numpy as jnp
import numpy as np

from xql_jax.numerics.late_sums import with_late_sums


def with_many_sums(x, y):
    weights = jax.nn.softmax(x)
    scale = jnp.sum(x * y)
    divergence = jnp.sum(weights * jnp.log(weights / y.mean()))  # waits for a sum
    return {"scale": scale, "step": x * scale}, weights @ y, (y.mean(), divergence, jnp.sum(x > 0), 1.0)


def test_results_stay():
    x, y = jnp.linspace(-1.0, 2.0, 7), jnp.linspace(0.5, 3.0, 7)
    late = with_late_sums(with_many_sums)
    expected, found = with_many_sums(x, y), late(x, y)
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    for leaf, wanted in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(leaf, wanted, rtol=1e-6)
    batched = jax.vmap(late)(jnp.stack([x, y]), jnp.stack([y, x + 2.0]))
    np.testing.assert_allclose(batched[2][0], [y.mean(), x.mean() + 2.0], rtol=1e-6)


def test_sums_of_one_shape_are_one_unless_the_first_entry_needs_them():
    def function(x, y):
        return x * x.sum(), y.sum(), (x * y).sum(), (y - x).sum(), x.max()

    given = jnp.ones(5), jnp.ones(5)
    shapes = [
        [
            str(step.invars[0].aval)
            for step in jax.make_jaxpr(own)(*given).eqns
            if "sum" in step.primitive.name
        ]
        for own in (function, with_late_sums(function))
    ]
    assert shapes == [["float32[5]"] * 4, ["float32[5]", "float32[3,5]"]]
