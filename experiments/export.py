"""Writes a run's policy as files that act without this project: JAX, ONNX and NumPy.

Examples:
  xql-export results/pointmaze-umaze-v0/xql/seed42_1a2b3c4d
  xql-export results/pointmaze-umaze-v0/xql/seeds0-2_1a2b3c4d --member=0  # the first of three seeds
  xql-export results/.../checkpoints/20000 --member=1 --formats=npz --output=policy

The argument is a run's folder, or one of its checkpoints. Every file takes the environment's observations
float32[B, O] and returns the mode of the policy, actions float32[B, A] as the environment takes them, from
low to high in policy.json. Each file is read back and compared with the run on 1,000 observations. act.py,
which needs only NumPy, uses policy.npz.
"""

from typing import Any

from xql_jax.files.paths import as_written
from xql_jax.workshop.commands import command_line
from xql_jax.workshop.tools.export import export_policy


def main(settings: Any) -> int:
    report = export_policy(**vars(settings))
    print(as_written(f"{report['policy']}: {report['folder']}"))
    return 0


if __name__ == "__main__":
    command_line.run(main, export_policy.settings)
