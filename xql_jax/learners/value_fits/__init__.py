"""How V is fitted to Q on the data's actions: a file holds a loss, the fit, and the methods made of it.

Each file has METHODS, the methods of the in-sample family by their names; the registry finds it.
"""
