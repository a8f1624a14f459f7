"""The paper's figures, each computed as tables of numbers and drawn from these alone."""
