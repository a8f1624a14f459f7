"""In-sample methods: each file holds a loss, the fit of V to Q with it, and the method made of that fit.

A file's name is the method's, and `METHODS[name]` in it is the `Method`; the registry finds it.
"""
