"""Value fits: each file holds a loss, the fit of V to Q with it, and the methods made of that fit.

Each file defines METHODS, which maps names to in-sample methods; the registry finds it.
"""
