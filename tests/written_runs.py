"""Folders of runs as trainings leave them, with scores chosen by hand, for all that reads runs."""

import hashlib

from xql_jax.files import digest, write_record

VERSIONS = {"xql_jax": "0.6.0", "python": "3.11.7", "jax": "0.10.2", "numpy": "2.4.6"}
MACHINE = {"device": "cpu", "processor": "a processor", "cores": 2}
COMMIT = "0123456789abcdef0123456789abcdef01234567"


def write_run(
    root,
    env_name,
    algorithm,
    scores,
    *,
    swept=(),
    diverged=(),
    scale=2.0,
    step=1_000,
    status="finished",
    environment=True,
    content=(),
    success=None,
    **config,
):
    """Writes config.json, evaluations.csv and, unless the status is None, summary.json; returns the folder.

    Each evaluation is of two episodes, in episodes.csv, one a point below its score and one a point above.

    Args:
        scores: by seed, or by (seed, value, ...) with the values of what was swept, the scores after each
            `step` steps; None where the member was cut.
        swept: the names of those values.
        scale: a return by its score.
        diverged: keys of `scores`, from the first evaluation on.
        content: further entries of config.json.
        success: by seed, the rates of success; None for a task that tells none.
    """
    members = {key if isinstance(key, tuple) else (key,): of_member for key, of_member in scores.items()}
    seeds = [key[0] for key in members]
    evaluations = max(map(len, members.values()))
    identity = {
        "env_name": env_name,
        "config": {"algorithm": algorithm, "tau": 0.005, **config},
        "seeds": [min(seeds), max(seeds)],
        "sweep": " ".join(swept),
        "max_steps": evaluations * step,
        "log_interval": 100,
        "eval_interval": step,
        "eval_episodes": 10,
        "dataset": [],
        "batch_size": 256,
        **dict(content),
    }
    run = digest(identity)[:16]
    folder = root / env_name / algorithm / f"seed{seeds[0]}_{run[:8]}"
    folder.mkdir(parents=True)
    columns = {"times": ["step", "seconds"], "settings": ["seed", *swept]}
    derived = {"name": env_name, "run": run, "defining": list(identity), "columns": columns, "sizes": [3, 1]}
    here = {"versions": VERSIONS, "machine": MACHINE, "commit": COMMIT, "resumed": []}
    write_record(folder / "config.json", {**identity, **derived, **here})
    results = ["return", "score", "length", *([] if success is None else ["success_rate"])]
    lines = [",".join(["step", "seed", *swept, *results, "diverged_at", "seconds"])]
    episodes = [",".join(["step", "seed", *swept, "episode", "return", "score", "length"])]
    for number in range(evaluations):
        for (seed, *values), of_member in members.items():
            if number < len(of_member) and of_member[number] is not None:
                score = of_member[number]
                at = 7 if (seed, *values) in diverged or seed in diverged else ""
                whose = [(number + 1) * step, seed, *values]
                numbers = [scale * score, score, 50, *([] if success is None else [success[seed]])]
                lines.append(",".join(map(str, [*whose, *numbers, at, 1.5])))
                for episode, of_it in enumerate((score - 1.0, score + 1.0)):
                    episodes.append(",".join(map(str, [*whose, episode, scale * of_it, of_it, 50])))
    text = "\n".join([*lines, ""]).encode()
    (folder / "evaluations.csv").write_bytes(text)
    (folder / "episodes.csv").write_text("\n".join([*episodes, ""]))
    if status is not None:
        of_run = {
            "status": status,
            "step": evaluations * step,
            "seconds": {"compile": 1.0, "update": 3600.0, "evaluation": 59.0},
            "updates_per_second": 250.0,
            "logs": {"evaluations.csv": hashlib.sha256(text).hexdigest()},
            "diverged": [
                {"member": f"seed{seed}", "step": 7, "quantity": "critic/loss"} for seed in diverged
            ],
            "environment": {"versions": {"mujoco": "3.8.1"}} if environment else None,
        }
        write_record(folder / "summary.json", {**of_run, "run": run})
    return folder
