"""Fine-tuning run: members trained offline, here or by another run, continue to learn online.

A member is one seed with one setting of the swept hyperparameters.
"""

import dataclasses
import functools
import logging
import math
from collections.abc import Mapping
from typing import Any

import jax
from ml_collections import ConfigDict

from xql_jax.configuration import OnlineFields
from xql_jax.data.dataset import Dataset, drawn_rows
from xql_jax.data.preprocessing import Preprocessing, counts_kitchen_tasks
from xql_jax.data.prior import PriorData
from xql_jax.envs import choose_suite
from xql_jax.envs.vector import Patience
from xql_jax.errors import UserError
from xql_jax.files import with_numbers
from xql_jax.learners.registry import OFFLINE, method_of
from xql_jax.reports.summary import summarize_finetuning
from xql_jax.runs.extension import Beginning
from xql_jax.runs.load import SavedRun, load_run
from xql_jax.runs.offline import OfflineRun
from xql_jax.runs.online import check_room, online_schedule
from xql_jax.runs.settings import FinetuneSettings
from xql_jax.settings import settings_of
from xql_jax.tasks import get_task
from xql_jax.training.checkpoints import Progress
from xql_jax.training.finetuning import FinetuningPopulation
from xql_jax.training.online import OnlinePopulation
from xql_jax.training.ramps import parse_ramps
from xql_jax.training.replay_files import ReplayFiles
from xql_jax.training.rounds import Pretrained
from xql_jax.training.trainable import Divergence
from xql_jax.types import Batch, State

LOG = logging.getLogger(__name__)
# Settings that are those of --checkpoint's run, as are all hyperparameters.
OF_THE_CHECKPOINT = {
    *("seed", "num_seeds", "sweep", "num_pretraining_steps", "tuned", "normalize_observations"),
    *("top_returns", "env_backend", "legacy_inertia"),
}


class FinetuneRun(OfflineRun):
    """Trains a population on a dataset, or takes that of another run, and then trains it online.

    Observations and rewards of the environments pass through the preprocessing of the data. The optimisers'
    states are kept. Learning rates do not decay in the online phase.
    """

    settings: FinetuneSettings
    unit = FinetuningPopulation.unit

    @property
    def request(self) -> str:
        source = self.settings.checkpoint
        return f"{source}: {self.schedule.max_steps:,} {self.unit}s" if source else super().request

    def resolve(self) -> None:
        self.source = self._source()
        super().resolve()
        if self.learner.batch_type is not Batch:
            raise UserError(
                f"{self.config.algorithm} cannot be fine-tuned: a replay buffer has single transitions, and "
                f"it learns from {self.learner.batch_type.__name__}"
            )
        swept = self.members[0].hyperparameters
        settings, steps = self.settings, self.settings.max_steps
        self.offline_fraction: float | None = settings.offline_fraction
        self.acting = online_schedule(
            settings,
            settings.online_schedule,
            OnlineFields(
                batch_size=settings.batch_size,
                buffer_size=min(settings.replay_buffer_size, max(steps, settings.batch_size)),
                warmup_steps=settings.warmup_steps,
                updates_per_step=settings.updates_per_step,
            ),
            prefix="--",
            exploration_noise=settings.exploration_noise,
            ramps=tuple(parse_ramps(settings.online, self.learner, steps, swept)),
        )
        assert self.task is not None
        self.suite = choose_suite(self.task, self.simulation)

    @property
    def handover(self) -> int:
        """The number of updates before the first environment step."""
        return self.settings.num_pretraining_steps

    @property
    def updates(self) -> float:
        return self.handover or math.inf

    @property
    def identity(self) -> dict[str, Any]:
        source = self.source
        return {
            **super().identity,
            "round_steps": self.acting.round_steps,
            **({"checkpoint": {"run": source.run, "step": source.step}} if source else {}),
        }

    def find_beginning(self) -> None:
        self.beginning: Beginning | None = None
        self.pretrained: Mapping[str, State] | None = None
        size = self.settings.replay_buffer_size
        if self.offline_fraction is None and self.dataset.size > size:
            raise UserError(
                f"--replay_buffer_size={size}: smaller than the data, {self.dataset.size:,} transitions: "
                "give a larger one, or --init_dataset_size or --offline_fraction"
            )
        check_room(self.sizes, self.acting.buffer_size, len(self.members), "--replay_buffer_size")
        if self.source and not self.folder.has_checkpoints:  # else the run is resumed
            self.pretrained = self._pretrained(self.source)

    def population(self) -> FinetuningPopulation:
        self.preprocessing.save(self.folder.files.preprocessing, self.folder.run)
        data = jax.device_put(self.placed())
        offline = self.offline_population(data)
        if self.pretrained:
            none = {member.name: {"diverged": None} for member in self.members}
            offline.resume(self.pretrained, Progress(members=none))
        begin_online = functools.partial(self._online_population, data)
        return FinetuningPopulation(offline, self.handover, begin_online, self.acting.round_steps)

    def details(self, population: FinetuningPopulation) -> dict[str, Any]:
        return {
            "finetuning": summarize_finetuning(self.evaluations, self.handover),
            "policy_lag": self.acting.policy_lag,
            "seconds_by_work": {name: round(value, 3) for name, value in population.seconds.items()},
        }

    def fit_preprocessing(self, dataset: Dataset) -> Preprocessing:
        """Uses the preprocessing of --checkpoint's run if there is one, because its networks need it.

        If the kitchen's data have D4RL's rewards, which are not the environment's, online rewards become
        those of the data.
        """
        fitted = self.source.preprocessing_of(dataset) if self.source else super().fit_preprocessing(dataset)
        if self.task is None or self.task.suite != "kitchen":
            return fitted
        counts = counts_kitchen_tasks(dataset, self.task)  # those of the source may be other data
        LOG.info(
            "online rewards: the number of tasks that are done, as in the data"
            if counts
            else "online rewards: the environment's; those of the data are not the number of tasks done"
        )
        return dataclasses.replace(fitted, counts_kitchen_tasks=counts)

    def _dataset(self) -> Any:
        dataset: Any = super()._dataset()  # in memory, because the online phase learns from it there
        number, content = self.settings.init_dataset_size, self.source.content if self.source else {}
        if number is not None and number < dataset.size:
            # The first seed of all members, so that --member of a checkpoint keeps the source's rows.
            seed = content["seeds"][0] if content else self.settings.seed
            dataset = dataset.part(drawn_rows(dataset.size, number, seed))
        if content and dataset.fingerprint() != content["dataset_fingerprint"]:
            LOG.warning(f"{dataset.source}: not the data that the checkpoint was trained on")
        return dataset

    def _online_population(
        self, data: Batch, states: Mapping[str, State], diverged: Mapping[str, Divergence]
    ) -> OnlinePopulation:
        settings, files = self.settings, self.folder.files
        prior = PriorData(data, self.offline_fraction, settings.replay_buffer_size)
        LOG.info(
            f"hand-over: rounds of {self.acting.round_steps} step(s), the policy that acts is at most "
            f"{self.acting.policy_lag} updates behind"
        )
        return OnlinePopulation(
            self.learner.scheduled(math.inf),
            self.members,
            functools.partial(self.suite.make, self.task),
            self.acting,
            ReplayFiles(files.replay, files.run, settings.on_damaged_replay == "drop"),
            Patience(settings.environment_timeout, lambda: self.stop.received is not None),
            Pretrained(states, diverged, self.handover, prior, self.preprocessing),
        )

    def _source(self) -> SavedRun | None:
        """Opens the run of --checkpoint, and replaces settings by that run's; None without --checkpoint."""
        settings = self.settings
        if settings.checkpoint is None:
            if settings.member is not None:
                raise UserError("--member chooses among those of --checkpoint, which is not given")
            return None
        changeable = settings_of(FinetuneSettings).keys() - OF_THE_CHECKPOINT
        if unfit := sorted(settings.given - changeable):
            raise UserError(
                f"--{unfit[0]}: the run of --checkpoint has its own; what may change is given by --online"
            )
        source = load_run(settings.checkpoint, member=settings.member)
        if source.is_online:
            raise UserError(
                f"--checkpoint={source.path}: {source.algorithm} learned online; give an offline run"
            )
        if source.handover is not None and source.step > source.handover:
            raise UserError(
                f"--checkpoint={source.path}: step {source.step:,} is after its hand-over; what it collected "
                f"since would be lost: give an offline run, or a checkpoint up to step {source.handover:,}"
            )
        content, seeds, sweep = source.content, source.content["seeds"], source.content["sweep"]
        if settings.member is not None:
            [member] = source.members
            seeds = [member.seed, member.seed]
            sweep = " ".join(f"{name}={value:.9g}" for name, value in member.hyperparameters.items())
        env_name = settings.env_name or source.env_name
        given = settings.random_return, settings.expert_return
        is_same_task = env_name == source.env_name  # another one is not scored by its references
        random_return, expert_return = (
            source.references if source.references and is_same_task and given == (None, None) else given
        )
        method = OFFLINE[method_of(source.algorithm)]
        about = {
            "suites": (get_task(env_name).suite,) if env_name else (),
            "run": dataclasses.asdict(method.run),
            "finetune": dataclasses.asdict(method.finetune),
            "base": {},
            "tuned": {},
        }
        self.settings = dataclasses.replace(
            settings,
            config=ConfigDict({**with_numbers(source.config), "about": about}),
            env_name=env_name,
            dataset=settings.dataset or source.sources,
            data_on="device",
            normalize_observations=content["normalize_observations"],
            top_returns=content["top_returns"],
            **source.simulation._asdict(),
            batch_size=settings.batch_size or content["batch_size"],
            seed=seeds[0],
            num_seeds=seeds[-1] - seeds[0] + 1,
            sweep=sweep,
            init_dataset_size=settings.init_dataset_size or content.get("init_dataset_size"),
            random_return=random_return,
            expert_return=expert_return,
        )
        return source

    def _pretrained(self, source: SavedRun) -> Mapping[str, State]:
        if source.sizes != self.sizes:
            raise UserError(
                f"--checkpoint={source.path}: its observations and actions have {source.sizes} entries, "
                f"those of the data {self.sizes}"
            )
        for member in self.members:
            if source.progress.members[member.name]["diverged"]:
                raise UserError(
                    f"--checkpoint={source.path}: {member} has diverged: choose another with --member"
                )
        return source.states
