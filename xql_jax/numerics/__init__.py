"""JAX while this package computes: its settings, and pytrees."""
