"""What the mains that train print: the settings, and how a training ended."""

import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from xql_jax.rollout.quantities import QUANTITIES, shown
from xql_jax.runs.kinds import Kept, Training
from xql_jax.runs.layers import OFF, USER
from xql_jax.runs.summary import ranked
from xql_jax.settings import as_typed, settings_of

if TYPE_CHECKING:
    from xql_jax.runs.load import Run  # --print_config need not wait for it

LOG = logging.getLogger(__name__)
NOT_PRINTED = ("resume", "tqdm")  # they say what the program does, or what it shows


def print_settings(settings: Training) -> int:
    """Prints every setting with its source and its meaning; returns the exit code."""
    print(f"{settings}; values of {settings.origin}; nothing is trained.")
    print("The settings, as --NAME=VALUE (where it is from):")
    is_chosen = {"method", "config"} & settings.layers[USER].keys()
    origin = "run of --checkpoint" if settings.source else "flag" if is_chosen else "default"
    print(f"--method={settings.method} ({origin}): The method, and after a plus its policy.")
    sources, values = sources_of(settings), settings.values
    known = settings_of(settings) | settings_of(settings.learner)
    for name in sorted(known, key=lambda name: name in settings_of(Kept)):
        if name not in NOT_PRINTED:
            print(f"--{name}={as_typed(values[name])} ({sources[name]}): {known[name].meaning}")
    return 0


def sources_of(settings: Training) -> dict[str, str]:
    """Returns where the value of each setting and hyperparameter is from: the last layer that changed it."""
    layers, finds = (
        settings.layers,
        {name: setting.finds for name, setting in settings_of(settings.learner).items()},
    )
    sources = {name: layers.layer(name) for name in settings.values}
    off = {name: other for name, other in finds.items() if name in {*layers[OFF], *layers[USER]}}
    off = {
        name: other for name, other in off.items() if other in settings.choices and not settings.values[name]
    }
    return sources | {name: f"off: {other} is chosen" for name, other in off.items()}


def print_end(run: "Run") -> int:
    """Prints how a training ended; returns the exit code."""
    content, stopped_by = run.summary, run.stopped_by
    heading = "this run has ended already" if run.had_ended else "done"
    if stopped_by:
        heading = f"stopped by {stopped_by.name}; go on with --resume"
    LOG.info(f"{heading}: {content['env_name']}, {run.method}, {run.in_words(content['step'])}")
    results, quantity = content["results"], content.get("quantity") or "score"
    if len(results) > 1:
        LOG.info(f"  settings by their last {quantity}, the best of {len(results)} first:")
    for result in ranked(results):
        print_result(result, quantity)
    for entry in content.get("finetuning", []):
        regret = ""
        if "cumulative_regret" in entry:
            regret = f"; cumulative regret {entry['cumulative_regret']:.2f}"
        before, after = entry["offline_score"], entry["online_score"]
        LOG.info(f"  {_values_of(entry)}before → after: {shown(before)} → {shown(after)}{regret}")
    for line in run.caveats():
        LOG.info(f"  {line}")
    LOG.info(f"  results: {run.path}")
    return 128 + stopped_by if stopped_by else 0


def print_result(result: Mapping[str, Any], quantity: str = "score") -> None:
    """Prints a setting's last score or return: averaged over seeds with its interval, and each seed's.

    Also further quantities, such as the rate of success with Wilson's interval.
    """
    interval, seeds = result["last_score_interval_95"], result["seeds"]
    words = f"(95% interval of the mean over {len(seeds)} seeds)"
    spread = f" ± {shown(interval)} {words}" if interval is not None else ""  # 0.0 if all seeds agree
    by_seed = ", ".join(
        shown(score) + (" (diverged)" if seed in result["diverged_seeds"] else "")
        for seed, score in zip(seeds, result["last_score_by_seed"], strict=True)
    )
    others = "".join(f"; {words}" for words in others_in_words(result))
    score = shown(result["last_score"])
    LOG.info(f"  {_values_of(result)}last {quantity} {score}{spread}; by seed: {by_seed}{others}")


def others_in_words(result: Mapping[str, Any]) -> list[str]:
    """Returns the last means of quantities beside the score, of an entry of a summary's results."""
    words = []
    for name, quantity in QUANTITIES.items():
        if quantity.over_seeds and (mean := result.get(f"last_{name}")) is not None:
            interval = result.get(f"last_{quantity.column}_interval_95")
            pooled = " (over all episodes)" if isinstance(interval, Sequence) else ""
            words.append(quantity.in_words(mean, interval) + pooled)
    return words


def _values_of(result: Mapping[str, Any]) -> str:
    """Returns what begins the line of a setting of a sweep."""
    named = ", ".join(f"{name}={float(value):g}" for name, value in result["hyperparameters"].items())
    return f"{named}: " if named else ""
