"""Extreme Q-Learning (Garg et al., ICLR 2023) in JAX."""

__version__ = "0.5.0"
