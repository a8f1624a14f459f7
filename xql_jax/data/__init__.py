"""Data, from a file to a minibatch.

loading.py          a source to a `Dataset`, by readers.py (a file) or episodes.py (a folder, Minari)
arrays.py           arrays under any known name (names.py) to transitions; rows become them by D4RL's rule
dataset.py          `Dataset`: transitions, and where trajectories end; suspicions.py warns of odd ones
preprocessing.py    what is done to rewards, actions and observations; views.py: the batches of a learner
sampling.py         minibatches of a dataset; replay.py: of a replay buffer; memory.py: how much room there is
rows.py             files that this project makes; pointmaze.py: its embedded datasets
"""
