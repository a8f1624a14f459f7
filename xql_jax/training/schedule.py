"""The schedule of a training: when it logs, evaluates, saves and ends."""

import dataclasses

from xql_jax.training.checkpoints import KEPT


@dataclasses.dataclass(frozen=True)
class Schedule:
    """Intervals of the training loop, in steps. The last step is always logged, evaluated and saved.

    A step is one update in offline training and one environment step in online training. In fine-tuning,
    steps are updates until the hand-over (the end of the offline phase) and environment steps after it. A
    checkpoint is also due as soon as the last one is `checkpoint_minutes` old.
    """

    max_steps: int
    log_interval: int
    eval_interval: int
    checkpoint_interval: int
    checkpoint_minutes: float = 10.0  # 0: only at checkpoint_interval
    keep_checkpoints: int = KEPT  # number to keep, the latest ones and the hand-over's; 0 keeps all
    eval_at_start: bool = False  # evaluate before the first step, too
    handover: int | None = None  # the step from which intervals are counted; None: there is no hand-over

    def is_due(self, step: int, interval: int) -> bool:
        return self.is_multiple(step, interval) or step == self.max_steps

    def is_multiple(self, step: int, interval: int) -> bool:
        """Whether something is due at `step` also in a longer run."""
        return (step - (self.handover or 0)) % interval == 0

    def next_stop(self, step: int, *others: int) -> int:
        """Returns the next step at which something is due, by the schedule's intervals or by `others`."""
        intervals = (self.log_interval, self.eval_interval, self.checkpoint_interval, *others)
        first = self.handover or 0
        stops = ((step - first) // interval * interval + interval + first for interval in intervals)
        return min(self.max_steps, *stops)
