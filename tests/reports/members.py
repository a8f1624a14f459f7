"""Members of runs made by hand."""

import dataclasses
from pathlib import Path

from xql_jax.reports.method_scores import RunFacts, RunMember, as_text
from xql_jax.reports.run_summary import OFFLINE_TRAINING

RUN = RunFacts(
    path=Path("there"), name="there", dataset="kitchen-complete-v0", algorithm="xql", phase=OFFLINE_TRAINING,
    status="finished", step=30, max_steps=30, unit="update", seeds=(0, 0), seconds=60.0, rate=5.0,
    made_by={}, settings={}, is_normalised=True, has_own_data=False,
)  # fmt: skip


def member(seed, *scores, run=None, diverged=False, finished=True, **settings):
    """A member with these scores every ten steps; settings are fields of the config, or the run's own."""
    run = dataclasses.replace(RUN, **(run or {}))
    steps = [10 * (number + 1) for number in range(len(scores))]
    names = ("log_interval", "eval_episodes", "eval_at_start", "references", "dataset", "dataset_fingerprint")
    prefixes = dict.fromkeys(names, "")
    named = {prefixes.get(name, "config.") + name: as_text(value) for name, value in settings.items()}
    return RunMember(run, named, "", seed, steps, scores, [diverged] * len(scores), finished)
