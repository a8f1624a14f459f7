"""The settings of sweeps: what is trained, with which seeds, and where."""

import dataclasses
from collections.abc import Sequence

from xql_jax.data.names import unused_arrays
from xql_jax.errors import UserError
from xql_jax.runs.kinds import Kept
from xql_jax.settings import (
    ANY,
    COUNT,
    COUNT_OR_NONE,
    EITHER,
    NAMED,
    NOT_NEGATIVE,
    SEVERAL,
    TEXT,
    one_of,
    setting,
    within,
)
from xql_jax.workshop.reports.scores import FINETUNING_TABLE, PAPER_TABLES

USED_BY = {  # the executors that use a setting
    **dict.fromkeys(("task_cpus", "task_gpus", "retries"), ("ray", "slurm")),
    "slurm_options": ("slurm",),
    "ray_address": ("ray",),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sweep(Kept):
    """The settings of `xql-sweep` and, with a table of the paper, of `xql-reproduce`."""

    table: str | None = setting(
        None,
        one_of(*PAPER_TABLES),
        "Table of the paper, whose datasets and methods are the defaults, beside whose scores ours are "
        "written. 1: Gym, AntMaze and Kitchen; 2: AntMaze, offline to online; 3: Adroit.",
        value_type=str,
    )
    methods: Sequence[str] = setting(
        (),
        SEVERAL,
        "Any method, also METHOD+POLICY. METHOD:FIELD=VALUE changes fields of its config (widths: 256/256; "
        "several by colons); xql_t is XQL with --tuned.",
        by_commas=True,
    )
    datasets: Sequence[str] = setting((), SEVERAL, "Any task; TASK=FILE for your own data.", by_commas=True)
    unused_arrays: Sequence[str] = unused_arrays()
    sweep: str = setting(
        "", ANY, "Values of fields, for the methods that have them: 'beta=0.1,0.5,2 loss=plain,rescaled'."
    )
    seed: int = setting(0, COUNT_OR_NONE, "First random seed.")
    num_seeds: int = setting(6, within(1, 100_000), "Seeds of each method and setting.")
    seeds_per_run: int | None = setting(None, COUNT, "Seeds that share a program. Default: all.")
    finetune: bool = setting(
        False,
        EITHER,
        "Fine-tune online after offline training, as xql-train-finetune; --max_steps are its steps.",
    )
    num_pretraining_steps: int | None = setting(
        None,
        within(0, 2**30),
        "In fine-tuning, updates before the hand-over. Default: the method's own.",
        value_type=int,
    )
    max_steps: int = setting(1_000_000, COUNT, "Updates; online and in fine-tuning, environment steps.")
    checkpoint_interval: int = setting(5_000, COUNT, "Steps between checkpoints.")
    eval_interval: int | None = setting(None, COUNT, "Steps between evaluations. Default: --max_steps / 10.")
    eval_episodes: int | None = setting(
        None,
        within(1, 1_000_000),
        "Episodes per evaluation and seed. Default: the suite's, 10 but on AntMaze 100.",
        value_type=int,
    )
    output: str | None = setting(None, TEXT, "Folder for the tables. Default: SAVE_DIR/tables.")
    name: str | None = setting(
        None, TEXT, "Name of the tables' files. Default: sweep_ and a digest of its runs."
    )
    dry_run: bool = setting(False, EITHER, "Print the plan and the current table. Train and write nothing.")
    download: bool = setting(False, EITHER, "Download D4RL's datasets that are missing, then train.")
    executor: str = setting(
        "in_process", one_of("in_process", "ray", "slurm"), "Runs are trained here, by Ray or by SLURM."
    )
    task_cpus: int = setting(1, COUNT, "Cores for each run, with ray and slurm.")
    task_gpus: float = setting(0.0, NOT_NEGATIVE, "GPUs for each run, with ray also a fraction.")
    retries: int = setting(
        3, COUNT_OR_NONE, "How often a run is started again after its worker or, in vain, its time has ended."
    )
    ray_address: str | None = setting(
        None, TEXT, "A Ray cluster. Default: RAY_ADDRESS, or a new cluster here."
    )
    slurm_options: Sequence[str] = setting(
        (),
        NAMED,
        "Options for sbatch, by submitit's names: 'partition=gpu,mem=16GB,time=240' (minutes, else a day). A "
        "job whose time is nearly over is saved, queued again and goes on.",
        by_commas=True,
    )

    def check(self) -> None:
        """Raises UserError for a setting that is missing, or that the user changed and nothing would use."""
        for name in ("datasets", "methods") if self.table is None else ():
            if not getattr(self, name):
                raise UserError(f"--{name}: give at least one, see --help")
        for name, executors in USED_BY.items():
            if self.executor not in executors and getattr(self, name) != getattr(Sweep, name):
                users = " or ".join(f"--executor={executor}" for executor in executors)
                raise UserError(f"--{name}: only used with {users}, not with --executor={self.executor}")
        if self.table and self.finetune:
            raise UserError(f"--finetune: --table={FINETUNING_TABLE} is the table of fine-tuning")
        is_finetuned = self.finetune or self.table == FINETUNING_TABLE
        if self.num_pretraining_steps is not None and not is_finetuned:
            needed = f"--finetune, or --table={FINETUNING_TABLE}"
            raise UserError(f"--num_pretraining_steps: only used in fine-tuning: add {needed}")
