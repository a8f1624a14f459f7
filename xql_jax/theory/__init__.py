"""Exact tabular quantities in float64: the oracle for tests and plots.

Every function checks its arguments by `arguments`: a ValueError names the one that is not as the docstring
says, and its value. Arrays are never empty, and all numbers are finite. `Raises` lists what else may fail.
"""
