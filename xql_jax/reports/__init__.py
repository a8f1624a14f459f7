"""Reports: summaries and pictures made from a run's files and its learners."""
