"""Members of runs made by hand."""

import types
from pathlib import Path

from xql_jax.runs.kinds import OFFLINE_TRAINING
from xql_jax.runs.load import Run, as_text
from xql_jax.suites.tasks import References
from xql_jax.workshop.reports.scores import Curve

RUN = {
    "path": Path("there"), "name": "there", "dataset": "kitchen-complete-v0", "method": "xql",
    "kind": OFFLINE_TRAINING, "status": "finished", "max_steps": 30, "unit": "update", "handover": None,
    "is_normalised": True, "references": None, "record": {}, "summary": {},
}  # fmt: skip


class MadeRun(types.SimpleNamespace):
    """What reports ask of a run, without a folder."""

    in_words = Run.in_words


def member(seed, *scores, run=None, diverged=False, finished=True, **settings):
    """A member with these scores every ten steps; settings are fields of the config, or the run's own."""
    run = MadeRun(**{**RUN, **(run or {})})
    if "references" in settings:
        run.references = References(*settings["references"])
    steps = [10 * (number + 1) for number in range(len(scores))]
    names = ["eval_episodes", "eval_at_start", "references", "dataset", "dataset_fingerprint"]
    names += [name for name in settings if name.endswith("_interval")]
    prefixes = dict.fromkeys(names, "")
    named = {prefixes.get(name, "config.") + name: as_text(value) for name, value in settings.items()}
    return Curve(run, named, {}, seed, steps, scores, [diverged] * len(scores), finished)
