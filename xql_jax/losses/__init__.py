"""Losses: pure maths on arrays, per example, without networks, keys or reduction over the batch."""
