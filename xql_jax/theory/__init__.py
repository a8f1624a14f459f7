"""Exact tabular quantities in float64: the oracle for tests and plots.

Functions check what would otherwise give a plausible wrong number: scales that are not positive, weights that
are no distribution, samples that are not finite. NumPy's own errors tell of shapes that do not fit.
"""
