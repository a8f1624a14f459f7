"""The trainers of runs that act: online, and in fine-tuning after the hand-over."""

import functools
import logging
import math

import jax

from xql_jax.data.online_rewards import REWARDS, FirstRewards
from xql_jax.data.replay import PriorData
from xql_jax.envs import environment_maker
from xql_jax.envs.compiled import compiled_environment
from xql_jax.runs.kinds import Acting, Finetune, Online
from xql_jax.runs.run_data import RunData
from xql_jax.training.acting import HostTrainer
from xql_jax.training.checkpoints import TrainingFiles
from xql_jax.training.compiled_acting import CompiledTrainer
from xql_jax.training.loop import Trainers
from xql_jax.training.population import Population
from xql_jax.training.replay_files import ReplayFiles
from xql_jax.training.row_warnings import watch_values
from xql_jax.training.trainer import OfflineTrainer, Trainer, resident

LOG = logging.getLogger(__name__)


def online_trainers(settings: Online, data: RunData, files: TrainingFiles) -> Trainers:
    """Makes the trainer of members that have their own environments and buffers."""
    learner, members, task, schedule = settings.learner, settings.members, settings.task, settings.acting
    assert task is not None
    replay = ReplayFiles(files.replay, files.run_id)
    if task.suite.is_compiled:
        return Trainers(CompiledTrainer(learner, members, compiled_environment(task), schedule, replay))
    make = functools.partial(environment_maker(task).make, task)
    _log_rounds(settings)
    return Trainers(HostTrainer(learner, members, make, schedule, replay, data.preprocessing))


def finetuning_trainers(settings: Finetune, data: RunData, files: TrainingFiles) -> Trainers:
    """Makes the trainer of members that learn from the data, and then the one of those that learn online.

    Observations and rewards of the environments pass through the preprocessing of the data. The optimisers'
    states are kept. Learning rates do not decay in the online phase.
    """
    learner, members, handover = settings.learner, settings.members, settings.num_pretraining_steps
    assert data.dataset is not None
    batch, rewards, task = jax.device_put(data.dataset.batch), data.rewards, settings.task
    assert rewards is not None
    assert task is not None
    replay = ReplayFiles(files.replay, files.run_id)

    def make_online(first: Trainer) -> Trainer:
        """Returns the trainer of the second phase, with the states of the first phase's members."""
        prior = PriorData(batch, settings.offline_fraction, settings.replay_buffer_size)
        steps, are_given = min(REWARDS, settings.max_steps), data.preprocessing.rewards_given
        _log_rounds(settings)
        online = HostTrainer(
            learner.scheduled(math.inf),
            members,
            functools.partial(environment_maker(task).make, task),
            settings.acting,
            replay,
            data.preprocessing,
            on_rewards=FirstRewards(rewards, are_given, steps),
            handover=handover,
            prior_data=prior,
        )
        online.take_over(first)
        return online

    # The ramps of --online begin after the hand-over.
    watch = watch_values(learner, members, rewards, until=handover)
    trainer = OfflineTrainer(Population(learner, members, resident(batch, settings.batch_size)))
    return Trainers(trainer, (watch,), make_online)


def _log_rounds(settings: Acting) -> None:
    rounds, lag = settings.acting.round_steps, settings.acting.policy_lag
    LOG.info(f"  rounds of {rounds} step(s): the policy that acts is at most {lag} updates behind")
