"""The settings of a run that methods and config files give defaults to, as they do to hyperparameters."""

import dataclasses

from xql_jax.settings import Settings, setting, settings_of


@dataclasses.dataclass(frozen=True, kw_only=True)
class LearningSettings(Settings):
    """Settings of a run whose default a method or a config file may choose; None: theirs.

    `usual` is the default where neither chooses one.
    """

    batch_size: int = setting(
        None,
        "Transitions in a minibatch. Default: the method's own.",
        usual=256,
        least=1,
        most=100_000_000,
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataSettings(LearningSettings):
    """Those of learning from data."""

    normalize_observations: bool = setting(
        None, "Observations of mean 0 and standard deviation 1. Default: the method's own.", usual=False
    )
    scale_rewards: bool = setting(
        None, "Scale the rewards where IQL does, on locomotion. Default: the method's own.", usual=True
    )
    top_returns: float = setting(
        None,
        "Share of the transitions that is learned from, of the highest returns. Default: the method's own.",
        usual=1.0,
        least=1e-6,
        most=1,
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class CollectingSettings(Settings):
    """Those of learning from what the policy collects."""

    warmup_steps: int = setting(
        None,
        "Steps of the environment at the start with random actions and without updates; in fine-tuning, "
        "after the hand-over. Default: the method's own.",
        usual=0,
    )
    updates_per_step: float = setting(
        None,
        "Updates per step of the environment. Default: the method's own.",
        usual=1.0,
        least=1e-6,
        most=1_000,
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class FinetuningSettings(DataSettings, CollectingSettings):
    """Those of fine-tuning."""

    num_pretraining_steps: int = setting(
        None,
        "Updates before the hand-over. Default: the method's own; none with --checkpoint.",
        usual=1_000_000,
        most=2**30,
    )
    offline_fraction: float | None = setting(
        None,
        "Share of the data in every minibatch after the hand-over, 0.5 in RLPD. Default: the method's own; "
        "for most, data and online transitions are drawn with equal probability, as in IQL.",
        least=0,
        most=1,
    )
    acting_temperature: float = setting(
        None,
        "Scale of the policy's own spread while it collects; 0: its centre, by which it is evaluated. "
        "Default: the config's own, 1 for most.",
        usual=1.0,
        least=0,
        most=10,
    )
    online: str = setting(
        None,
        "Hyperparameters that change at the hand-over: 'beta=0.5' sets another value, 'beta=1:0.2' goes "
        "linearly from one to another over --max_steps. Default: the config's own, for most none.",
        usual="",
        empty=True,
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class BufferSettings(LearningSettings, CollectingSettings):
    """Those of learning online."""

    buffer_size: int = setting(
        None,
        "Transitions that the replay buffer of each seed holds; the oldest are overwritten. Default: the "
        "method's own.",
        usual=1_000_000,
        least=1,
        most=100_000_000,
    )


METHOD_SETTINGS = frozenset({*settings_of(FinetuningSettings), *settings_of(BufferSettings)})
