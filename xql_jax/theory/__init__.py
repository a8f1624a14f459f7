"""Exact tabular quantities in float64: the oracle for tests and plots.

Every function checks its arguments with `arguments`: a ValueError names the argument that does not match the
docstring, and its value. Arrays must not be empty, and all numbers must be finite. `Raises` lists other
errors.
"""
