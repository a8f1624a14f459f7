"""Run folders made by hand, as far as reports read them."""

from xql_jax.files import write_record


def make_run(
    root,
    task,
    algorithm,
    name,
    *,
    evaluations=(),
    errors=(),
    status="finished",
    summary=(),
    swept=(),
    settings=(),
    **config,
):
    """Writes config.json, summary.json, evaluations.csv (rows of step, seed, return and, if any, diverged_at)
    and bellman_errors.csv (rows of step, seed, error); a score is a tenth of a return."""
    folder = root / task / algorithm / name
    folder.mkdir(parents=True)
    content = {
        "env_name": task, "seeds": [0, 0], "max_steps": 20, "config": {"algorithm": algorithm, **config},
        "columns": {"times": ["step", "seconds"], "settings": ["seed", *swept]},
        "run": name, "versions": {"name": name}, "commit": name, "resumed": [], **dict(settings),
    }  # fmt: skip
    write_record(folder / "config.json", content)
    write_record(folder / "summary.json", {"run": name, "status": status, **dict(summary)})
    if evaluations:
        lines = [
            f"{step},{seed},{value},{value / 10},5,{''.join(map(str, at))},1.0"
            for step, seed, value, *at in evaluations
        ]
        header = "step,seed,return,score,length,diverged_at,seconds"
        (folder / "evaluations.csv").write_text("\n".join([header, *lines, ""]))
    if len(errors):
        lines = [f"{step},{seed},{error:.9g}" for step, seed, error in errors]
        (folder / "bellman_errors.csv").write_text("\n".join(["step,seed,error", *lines, ""]))
    return folder
