"""The second roof: what works on runs and data. What trains, the rooms beside it, knows nothing of it."""
