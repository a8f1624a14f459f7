"""Exact tabular quantities: the oracle for tests and plots."""
