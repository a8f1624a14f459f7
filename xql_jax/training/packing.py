"""Packing of pytrees with many small arrays into one array of bytes, without loss, for checkpoints."""

from typing import Any, TypeVar

import jax
import numpy as np

Tree = TypeVar("Tree")


def pack(tree: Any) -> np.ndarray:
    """Returns the bytes of all leaves, u8[n]; the leaves are arrays or JAX keys."""
    leaves = jax.device_get([_numbers(leaf) for leaf in jax.tree.leaves(tree)])
    return np.frombuffer(b"".join(np.asarray(leaf).tobytes() for leaf in leaves), np.uint8).copy()


def unpack(packed: np.ndarray, like: Tree) -> Tree:
    """Returns the tree that was packed; its arrays do not share NumPy's memory.

    Args:
        packed: u8[n], n as `packed_size(like)`.
        like: a tree of arrays of the same shapes and types as the packed ones.
    """
    leaves, first = [], 0
    for leaf in jax.tree.leaves(like):
        wanted = jax.eval_shape(_numbers, leaf)
        stop = first + wanted.size * wanted.dtype.itemsize
        numbers = np.frombuffer(packed[first:stop].tobytes(), wanted.dtype).reshape(wanted.shape)
        # A copy, because `jnp.asarray` may share NumPy's memory, which must not be donated.
        leaves.append(_as_leaf(jax.numpy.array(numbers, copy=True), leaf))
        first = stop
    return jax.tree.unflatten(jax.tree.structure(like), leaves)


def packed_size(like: Any) -> int:
    """The length of `pack(like)`, from arrays or their `jax.eval_shape`."""
    leaves = (jax.eval_shape(_numbers, leaf) for leaf in jax.tree.leaves(like))
    return sum(leaf.size * leaf.dtype.itemsize for leaf in leaves)


def _is_key(leaf: Any) -> bool:
    return jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _numbers(leaf: Any) -> Any:
    return jax.random.key_data(leaf) if _is_key(leaf) else leaf


def _as_leaf(numbers: Any, like: Any) -> Any:
    return jax.random.wrap_key_data(numbers, impl=jax.random.key_impl(like)) if _is_key(like) else numbers
