"""Reports: summaries, tables and pictures made from the files of runs."""
