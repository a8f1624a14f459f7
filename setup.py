import os
import re
import sys
from pathlib import Path

if not (3, 11) <= sys.version_info[:2] < (3, 14):  # pip would call versions of packages incompatible
    sys.exit(f"xql_jax needs Python 3.11 to 3.13; this is {sys.version.split()[0]}")

from setuptools import find_packages, setup  # after the check: an environment of Python 3.12 may have none

# What a run may need beside the core, by the extra that brings it; where it lacks, one line names the extra.
EXTRAS = {
    "simulators": [
        "gymnasium-robotics>=1.4.2,<1.4.3",  # the corrections in xql_jax/envs were checked against this one
        "dm_control>=1.0.39,<1.1",
    ],
    "video": ["imageio-ffmpeg>=0.6,<1"],  # brings its own ffmpeg
    "minari": ["minari>=0.5.3,<0.6"],
    # xql-export --formats
    "export": ["flatbuffers>=24,<26", "onnx>=1.18,<2", "onnxruntime>=1.22,<2"],
    "sweep": ["ray>=2.60,<3", "submitit>=1.5,<2"],  # xql-sweep --executor=ray and slurm
    "ogbench": ["ogbench>=1.2.2,<1.3"],  # whose success is computed from s, not s', since 1.2.0
    "compiled": ["playground>=0.2,<0.3"],  # DM Control in JAX
}
# `make docs`, and docs/tutorial.ipynb; ruff breaks the lines of long signatures.
DOCS = [
    *["mkdocs>=1.6,<2", "mkdocs-material>=9.6,<10", "mkdocstrings-python>=2,<3", "ruff"],
    *[
        "nbconvert>=7.16,<8",
        "nbclient>=0.10,<1",
        "ipykernel>=6.29,<8",
    ],
]
TPU_COMPILER = ["libtpu>=0.0.40,<0.1; platform_machine == 'x86_64'"]
ALL = [requirement for requirements in EXTRAS.values() for requirement in requirements]

# Where a workflow on GitHub builds, it knows the repository; a clone does not know its home.
REPOSITORY = os.environ.get("GITHUB_REPOSITORY")
HOME = f"https://github.com/{REPOSITORY}"


def readme() -> str:
    """README; where the repository is known, its links lead there, for a package index has no guides."""
    text = (Path(__file__).parent / "README.md").read_text("utf-8")
    if not REPOSITORY:
        return text
    reference = os.environ.get("GITHUB_REF_NAME", "HEAD")
    for before, place in ((r"!\[[^\]]*\]\(", "raw"), (r"(?<!!)\[[^\]]*\]\(", "blob")):
        text = re.sub(rf"({before})(?![a-z]+:|#)", rf"\g<1>{HOME}/{place}/{reference}/", text)
    return text


# The mains and their configs, which are edited at the top of a clone, are within the package where it is
# installed; the commands of `xql_jax.workshop.commands.installed` run the same files.
MAINS = {
    "xql-train-offline": "train_offline",
    "xql-train-online": "train_online",
    "xql-train-finetune": "train_finetune",
    "xql-evaluate": "evaluate",
    "xql-inspect": "inspect_dataset",
    "xql-figures": "figures",
    "xql-reproduce": "reproduce",
    "xql-sweep": "sweep",
    "xql-report": "report",
    "xql-choose": "choose",
    "xql-collect": "collect",
    "xql-export": "export",
    "xql-runs": "runs",
    "xql-compile": "compile",
}

# Name, version, description, licence and the like are in pyproject.toml.
setup(
    long_description=readme(),
    long_description_content_type="text/markdown",
    project_urls={"Source": HOME, "Changelog": f"{HOME}/blob/HEAD/CHANGELOG.md"} if REPOSITORY else {},
    # Tested with 3.11.7; with 3.12.1 without d4rl, there with JAX 0.11.2, too; with 3.13.0 and JAX 0.11.2 the
    # core alone: dm_control needs labmaze, of which there is no wheel for 3.13.
    python_requires=">=3.11,<3.14",
    packages=[*find_packages(include=["xql_jax", "xql_jax.*"]), "xql_jax.experiments", "xql_jax.configs"],
    # An editable install is a line with the path of the clone: mypy and editors follow no import hooks.
    options={"editable_wheel": {"mode": "compat"}},
    package_dir={"xql_jax.experiments": "experiments", "xql_jax.configs": "configs"},
    entry_points={
        "console_scripts": [
            f"{name} = xql_jax.workshop.commands.installed:{main}" for name, main in MAINS.items()
        ]
    },
    include_package_data=False,  # only what follows: not each file that the sdist has
    package_data={
        "xql_jax": ["py.typed"],
        "xql_jax.pictures": ["style.mplstyle"],
        "xql_jax.workshop.reports": ["printed/*.csv"],
    },
    # Ranges; the exact versions that were tested are in requirements.txt.
    install_requires=[
        "jax>=0.10.2,<0.12",
        "jaxlib>=0.10.2,<0.12",
        "flax>=0.12,<0.13",
        "optax>=0.2.6,<0.3",
        "chex>=0.1.90,<0.2",
        "ml_collections>=1.0,<2",
        "absl-py>=2.1,<3",
        "tensorboardX>=2.6,<3",
        "numpy>=2.0,<3",
        "scipy>=1.14,<2",
        "h5py>=3.11,<4",
        "psutil>=6,<8",
        "filelock>=3.30,<5",
        "tqdm>=4.66,<5",
        "PyYAML>=6,<7",
        "matplotlib>=3.9,<4",
        "imageio>=2.36,<3",  # for MP4 files; Gymnasium's MuJoCo environments import it, too
        "gymnasium>=1.2,<2",
        "mujoco>=3.8,<3.12",  # 3.12 to 4.0 break FrankaKitchen-v1
    ],
    extras_require={
        "cuda": ["jax[cuda13]>=0.10.2,<0.12"],
        "tpu": ["jax[tpu]>=0.10.2,<0.12"],
        "tpu-compiler": TPU_COMPILER,  # xql-compile --topology; needs no TPU
        "d4rl": ["d4rl==1.1", "gym==0.24.1"],  # an oracle of tests
        **EXTRAS,
        "docs": DOCS,
        "all": ALL,
        "wandb": ["wandb>=0.31,<1"],  # --wandb
        "tensorboard": ["tensorboard>=2.18,<3"],  # to look at what runs write; they need tensorboardX alone
        "dev": [
            "ruff",
            "mypy",
            "pytest",
            "pytest-timeout",
            "pytest-xdist",
            "hypothesis",
            *DOCS,
            *ALL,
            *TPU_COMPILER,
        ],
    },
)
