"""Flax networks: values, critics and policies over flat observations."""
