"""The flags of sweep.py and reproduce.py, the file that may give them, and the settings made from them."""

from xql_jax.commands.command_line import check_value, in_words, refuse
from xql_jax.commands.run_flags import settings_from

import runpy
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml
from absl import flags
from ml_collections import ConfigDict

from xql_jax.errors import UserError, nearest
from xql_jax.reports.paper_tables import FINETUNING
from xql_jax.runs.settings import ReproductionSettings, SweepSettings
from xql_jax.sweeps.ray_cluster import RayCluster
from xql_jax.sweeps.slurm import CLUSTERS, Slurm
from xql_jax.sweeps.worker import Executor, InProcess, Resources

flags.disclaim_key_flags()  # the flags count as the main's own, so that its `--help` lists them

S = TypeVar("S", bound=SweepSettings)
ALIASES = {"seeds": "num_seeds"}
EXECUTORS = ("in_process", "ray", "slurm")
USED_BY = {  # the executors that use a flag
    "task_cpus": ("ray", "slurm"),
    "task_gpus": ("ray", "slurm"),
    "task_memory_gb": ("ray", "slurm"),
    "task_hours": ("slurm",),
    "retries": ("ray", "slurm"),
    "ray_address": ("ray",),
    "slurm_cluster": ("slurm",),
    "parallel": ("slurm",),
    "slurm_options": ("slurm",),
}


def define_sweep_flags(methods: str, datasets: str) -> None:
    """Defines the flags that say what a sweep trains, and where.

    Args:
        methods, datasets: the first words of the help of --methods and --datasets.
    """
    flags.DEFINE_list(
        "methods",
        [],
        f"{methods}Any method of train_offline.py or train_online.py, also METHOD+POLICY. "
        "METHOD:FIELD=VALUE:FIELD=VALUE changes fields of its config (widths: 256/256); xql_t is XQL with "
        "--tuned.",
    )
    flags.DEFINE_list("datasets", [], f"{datasets}Any task; TASK=FILE for your own data.")
    flags.DEFINE_string(
        "sweep",
        "",
        "Values of fields, for the methods that have them: 'beta=0.1,0.5,2 loss=plain,rescaled'. Each "
        "setting is a column of the table. One program trains all values of a number; all else is a run of "
        "its own.",
    )
    _numbers()
    flags.DEFINE_string("save_dir", "results", "Folder under which runs are found and written.")
    flags.DEFINE_string("out", "results/tables", "Folder for the tables.")
    flags.DEFINE_boolean("dry_run", False, "Print the plan and the current table. Train and write nothing.")
    flags.DEFINE_boolean("download", False, "Download D4RL's datasets that are missing, then train.")
    flags.DEFINE_boolean("tqdm", True, "Show the progress, if stderr is a terminal.")
    _executors()


def sweep_settings(kind: type[S], values: flags.FlagValues, configs: Path) -> S:
    """Makes settings of class `kind` from the flags; UserError if the flags contradict each other."""
    settings = settings_from(kind, values, config_dir=str(configs))
    if isinstance(settings, ReproductionSettings):
        finetunes, finetuning_flag = settings.table == FINETUNING, f"--table={FINETUNING}"
    else:
        finetunes, finetuning_flag = settings.finetune, "--finetune"
    for name, executors in USED_BY.items():
        if values.executor not in executors:
            users = " or ".join(f"--executor={one}" for one in executors)
            refuse([name], f"only used with {users}, not with --executor={values.executor}")
    if not finetunes:
        refuse(["num_pretraining_steps"], f"only used in fine-tuning: add {finetuning_flag}")
    return settings


def make_executor(values: flags.FlagValues) -> Executor:
    """Returns the executor that the flags ask for; UserError if it is not available."""
    if values.executor == "in_process":
        return InProcess()
    resources = Resources(
        cpus=values.task_cpus,
        gpus=values.task_gpus,
        memory_gb=values.task_memory_gb,
        hours=values.task_hours,
        retries=values.retries,
    )
    if values.executor == "ray":
        return RayCluster(resources, values.ray_address)
    return make_slurm(values, resources)


def make_slurm(values: flags.FlagValues, resources: Resources) -> Slurm:
    folder = Path(values.save_dir).expanduser() / "slurm"
    options = dict(_slurm_option(part) for part in values.slurm_options)
    return Slurm(resources, folder, values.slurm_cluster, options, values.parallel)


def apply_file(path: Path, values: flags.FlagValues) -> None:
    """Sets the flags that the file gives, unless the command line gives them.

    Args:
        path: YAML, or Python with a `get_config` that returns a ConfigDict. A list gives a flag several
            values; `sweep` and `slurm_options` may be mappings.
    Raises:
        UserError: if the file cannot be read, names an unknown flag, or gives a flag an invalid value.
    """
    content = _read(path)
    own = values.get_key_flags_for_module("__main__")
    known = [flag.name for flag in own]
    for given, value in content.items():
        name = ALIASES.get(given, given)
        if name not in known:
            raise UserError(f"{path}: unknown flag {name!r}; nearest: {nearest(str(name), known)}")
        if values[name].present or value is None:
            continue
        try:
            values[name].parse(_as_text(value, " " if name == "sweep" else ","))
            values[name].using_default_value = False
            check_value(values[name])
        except flags.IllegalFlagValueError as error:
            raise UserError(f"{path}: {in_words(error)}") from error
        except UserError as error:
            raise UserError(f"{path}: {error}") from error


def _numbers() -> None:
    def number(name: str, default: int | None, help_text: str, most: int = 2**31 - 1, least: int = 1) -> None:
        flags.DEFINE_integer(name, default, help_text, lower_bound=least, upper_bound=most)

    number("seed", 0, "First random seed.", least=0)
    number("num_seeds", 6, "Seeds of each method and setting.", 100_000)
    for alias, name in ALIASES.items():
        flags.DEFINE_alias(alias, name)
    number("seeds_per_run", None, "Seeds that share a program. Default: all.", 100_000)
    number(
        "num_pretraining_steps",
        None,
        "With --finetune, updates before the hand-over. Default: the method's own, 1,000,000 for most.",
        2**30,
        0,
    )
    number("max_steps", 1_000_000, "Updates; online and in fine-tuning, steps of the environment.")
    number("eval_interval", None, "Updates, or steps, between evaluations. Default: a tenth of --max_steps.")
    number("eval_episodes", None, "Episodes per evaluation and seed. Default: 10, on AntMaze 100.", 1_000_000)
    number("checkpoint_interval", 5_000, "Updates between checkpoints.")


def _executors() -> None:
    flags.DEFINE_enum(
        "executor",
        "in_process",
        EXECUTORS,
        "in_process: here, one run after the other; ray: as tasks of a Ray cluster; slurm: as jobs of SLURM.",
    )
    flags.DEFINE_integer("task_cpus", 1, "Cores for each run, with ray and slurm.", lower_bound=1)
    flags.DEFINE_float(
        "task_gpus", 0.0, "GPUs for each run, with ray and slurm. Ray also takes a fraction.", 0.0
    )
    flags.DEFINE_float(
        "task_memory_gb", None, "Memory for each run, with ray and slurm. Default: no request.", 0.0
    )
    flags.DEFINE_float(
        "task_hours",
        24.0,
        "Time limit of a job, with slurm. A job that takes longer is queued again and goes on.",
        0.01,
    )
    flags.DEFINE_integer(
        "retries",
        3,
        "How often a run is started again after its worker died or its time limit passed.",
        lower_bound=0,
    )
    flags.DEFINE_string(
        "ray_address", None, "Address of a Ray cluster. Default: RAY_ADDRESS, or a new one here."
    )
    flags.DEFINE_enum(
        "slurm_cluster",
        "slurm",
        CLUSTERS,
        "local: the jobs are processes on this machine, each with --task_gpus GPUs and --task_hours. Their "
        "cores and memory are not limited.",
    )
    flags.DEFINE_integer(
        "parallel",
        None,
        "Jobs at once, with slurm. Default: all; with --slurm_cluster=local 2, or 1 if they have GPUs.",
        lower_bound=1,
    )
    flags.DEFINE_list(
        "slurm_options", [], "Options for sbatch, by submitit's names: 'partition=gpu,account=mine'."
    )


def _read(path: Path) -> Mapping[str, Any]:
    try:
        if path.suffix == ".py":
            content = runpy.run_path(str(path))["get_config"]()
            return ConfigDict(content).to_dict()
        content = yaml.safe_load(path.read_text())
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        place = f" in line {mark.line + 1}" if mark else ""
        what = getattr(error, "problem", None) or error
        raise UserError(f"{path}: not YAML{place}: {what}: correct it there") from error
    except Exception as error:  # it is the user's code, and may fail in any way
        raise UserError(f"{path}: it must have a get_config() that returns a ConfigDict ({error})") from error
    if not isinstance(content, dict):
        raise UserError(f"{path}: it must give flags by their names, as `methods: [xql, iql]`")
    return content


def _as_text(value: Any, between: str) -> str:
    """Returns the value as it would be typed: a list separated by commas, a mapping as NAME=VALUES."""
    if isinstance(value, Mapping):
        return between.join(f"{name}={_as_text(one, ',')}" for name, one in value.items())
    if isinstance(value, list | tuple):  # a tuple of widths is typed 256/256
        return ",".join(_as_text(one, ",").replace(",", "/") for one in value)
    return str(value).lower() if isinstance(value, bool) else str(value)


def _slurm_option(text: str) -> tuple[str, Any]:
    """Parses NAME=VALUE into a pair for submitit; raises UserError if it has another form."""
    name, is_given, value = text.partition("=")
    if not is_given or name == "additional_parameters":
        why = "each must be NAME=VALUE" if not is_given else "give them as options of their own"
        raise UserError(f"--slurm_options={text}: {why}, as partition=gpu")
    if name in ("setup", "teardown"):  # lines of the script
        return name, [value]
    if name == "srun_args":
        return name, shlex.split(value)
    if value in ("true", "false"):
        return name, value == "true"
    return name, int(value) if value.isdigit() else value
