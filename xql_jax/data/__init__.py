"""Data, from a source to a minibatch, in the order in which `runs/run_data.py` takes them there.

loading.py          a source to a `Dataset`, by readers.py (a file) or episodes.py (a folder, Minari)
arrays.py           arrays under any known name (names.py) to transitions; rows become them by D4RL's rule
dataset.py          `Dataset`: transitions, and where trajectories end; checks, units, best trajectories
suspicions.py       warnings of data alone, by action_units.py, conventions.py (several sources), steps.py
comparison.py       warnings of data beside an environment: observations by starts.py, first rewards
preprocessing.py    what is done to rewards, actions and observations
views.py            the batches of a learner
sampling.py         minibatches of a dataset; replay.py: of a replay buffer; memory.py: how much room there is
online_rewards.py   warns in fine-tuning if the first online rewards are in another unit than the data's
rows.py             files that this project makes; pointmaze.py: its embedded datasets
"""
