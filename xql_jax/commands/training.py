"""The work of the mains that train: print the settings, or train with them and print how it ended."""

import logging
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from absl import flags

from xql_jax.config_files import FINETUNE
from xql_jax.configuration import NO_FIELDS, OnlineFields
from xql_jax.learners.registry import describe_fields
from xql_jax.reports.summary import ranked
from xql_jax.runs.job import Job, request
from xql_jax.runs.run import Summary
from xql_jax.runs.run_settings import DEFAULT_ENV_NAME, OfflineSettings, RunSettings
from xql_jax.settings import as_typed, settings_of

LOG = logging.getLogger(__name__)
NETWORK = 'Size of the networks: "paper", or "small" for a laptop.'  # a field of online configs only
NOT_PRINTED = ("resume", "tqdm", "extend")  # they say what the program does, or what it shows


def train_or_print(
    settings: RunSettings, to_job: Callable[[Any], Job], train: Callable[[Any], Summary]
) -> int:
    """Trains with the settings, or prints them for `--print_config`; returns the exit code.

    Args:
        to_job: returns the job of such a run, with its settings resolved.
        train: trains it.
    """
    path = str(flags.FLAGS.config).removeprefix(f"{Path.cwd()}/")
    source = getattr(settings, "checkpoint", None) if settings.config_kind is FINETUNE else None
    resolved = to_job(settings).settings  # mistakes in the settings come before the first line
    if flags.FLAGS.print_config:
        print(f"{request(resolved)}; nothing is trained: the settings, as --NAME=VALUE (where it is from)")
        origins = [name for name in ("method", "config") if flags.FLAGS[name].present]
        origin = "run of --checkpoint" if source else "flag" if origins else "default"
        print(f"--method={resolved.config.algorithm} ({origin}): The method, and after a plus its policy.")
        if not source:
            origin = "flag" if "config" in origins else "chosen by the method and the task"
            print(f"--config={path} ({origin}): The file of hyperparameters.")
        for name, value, origin, meaning in described_settings(resolved):
            print(f"--{name}={as_typed(value)} ({origin}): {meaning}")
        return 0
    of_source = f"fine-tuning of {source}: {settings.max_steps:,} steps"
    # Before training, so that a full disk is not found out after hours.
    print(of_source if source else f"{request(resolved)}; values of {path}", flush=True)
    summary = train(settings)
    _print_end(summary)
    return 128 + summary.stopped_by if summary.stopped_by else 0


def described_settings(settings: RunSettings) -> Iterator[tuple[str, Any, str, str]]:
    """Yields name, value, source and meaning of every resolved setting, then of every hyperparameter."""
    config, given, known = settings.config, settings.given, settings_of(type(settings))
    about = config.about.to_dict()
    others = "run of --checkpoint" if getattr(settings, "checkpoint", None) else "config file"
    is_tuned = isinstance(settings, OfflineSettings) and settings.tuned
    tuned = about["tuned"][settings.task.name] if is_tuned and settings.task else {}
    rows = describe_fields(config.algorithm)
    if "small" in about:
        rows = [*rows, *describe_fields(OnlineFields())]
    # The method's own, for settings that are None.
    usual = {**about.get("run", {}), **about.get("finetune", {}), "env_name": DEFAULT_ENV_NAME}
    defaults = {row.name: [row.default] for row in rows}
    defaults |= {name: [one.default, usual.get(name, one.default)] for name, one in known.items()}

    def source(name: str, value: Any) -> str:
        if name in given or (name.endswith("_hidden_dims") and "hidden_dims" in given):
            return "flag"
        if name in tuned and value == tuned[name]:
            return "Table 4 (--tuned)"
        is_default = any(value == one or not (value or one) for one in defaults.get(name, ()))
        return "default" if is_default else others

    for name, one in known.items():
        if name not in NOT_PRINTED:
            value = getattr(settings, name)
            yield name, value, source(name, value), one.meaning
    meanings = {row.name: row.meaning for row in rows} | {"network": NETWORK}
    for name, value in config.items():
        if name not in NO_FIELDS:
            yield name, value, source(name, value), meanings.get(name, "")


def _print_end(summary: Summary) -> None:
    content, unit, stopped_by = summary.content, summary.unit, summary.stopped_by
    heading = "this run has ended already" if summary.had_ended else "done"
    if stopped_by:
        heading = f"stopped by {stopped_by.name}; go on with --resume"
    LOG.info(f"{heading}: {content['env_name']}, {content['algorithm']}, {content['step']:,} {unit}s")
    results, quantity = content["results"], content.get("quantity") or "score"
    if len(results) > 1:
        LOG.info(f"  settings by their last {quantity}, the best of {len(results)} first:")
    for result in ranked(results):
        print_result(result, quantity)
    for entry in content.get("finetuning", []):
        regret = (
            f"; cumulative regret {entry['cumulative_regret']:.2f}" if "cumulative_regret" in entry else ""
        )
        before, after = entry["offline_score"], entry["online_score"]
        LOG.info(f"  {_setting(entry)}before → after: {before:.1f} → {after:.1f}{regret}")
    for divergence in content["diverged"]:
        where = f"{unit} {divergence['step']} ({divergence['quantity']})"
        LOG.info(f"  diverged: {divergence['member']} at {where}")
    LOG.info(f"  results: {summary.path}")


def print_result(result: Mapping[str, Any], quantity: str = "score") -> None:
    """Prints a setting's last score or return: averaged over seeds with its interval, and each seed's."""
    interval, seeds = result["last_score_interval_95"], result["seeds"]
    words = f"(95% interval of the mean over {len(seeds)} seeds)"
    spread = f" ± {interval:.1f} {words}" if interval is not None else ""  # 0.0 if all seeds agree
    by_seed = ", ".join(
        f"{score:.1f}" + (" (diverged)" if seed in result["diverged_seeds"] else "")
        for seed, score in zip(seeds, result["last_score_by_seed"], strict=True)
    )
    LOG.info(f"  {_setting(result)}last {quantity} {result['last_score']:.1f}{spread}; by seed: {by_seed}")


def _setting(result: Mapping[str, Any]) -> str:
    """Returns what begins the line of a setting of a sweep."""
    named = ", ".join(f"{name}={float(value):g}" for name, value in result["hyperparameters"].items())
    return f"{named}: " if named else ""
