from pathlib import Path

from setuptools import find_packages, setup

VERSION = Path("xql_jax/__init__.py").read_text().split('__version__ = "')[1].split('"')[0]

setup(
    name="xql_jax",
    version=VERSION,
    description="Extreme Q-Learning (Garg et al., ICLR 2023) in JAX",
    long_description=Path("README.md").read_text(),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.11,<3.13",
    packages=find_packages(include=["xql_jax", "xql_jax.*"]),
    package_data={"xql_jax.reports": ["paper/*.csv"]},
    # Ranges; the exact versions that were tested are in requirements.txt.
    install_requires=[
        "jax>=0.10.2,<0.12",
        "jaxlib>=0.10.2,<0.12",
        "flax>=0.12,<0.13",
        "optax>=0.2.6,<0.3",
        "chex>=0.1.90,<0.2",
        "orbax-checkpoint>=0.12,<0.13",
        "ml_collections>=1.0,<2",
        "absl-py>=2.1,<3",
        "tensorboardX>=2.6,<3",
        "numpy>=2.0,<3",
        "scipy>=1.14,<2",
        "scikit-learn>=1.6,<2",  # whose interface the regressors of xql_jax/theory have
        "h5py>=3.11,<4",
        "minari>=0.5.3,<0.6",
        "requests>=2.32,<3",
        "psutil>=6,<8",
        "filelock>=3.30,<5",
        "tqdm>=4.66,<5",
        "matplotlib>=3.9,<4",
        "imageio>=2.36,<3",
        "imageio-ffmpeg>=0.6,<1",  # brings its own ffmpeg
        "gymnasium>=1.2,<2",
        "gymnasium-robotics>=1.4.2,<1.4.3",  # the corrections in xql_jax/envs were checked against this one
        "dm_control>=1.0.39,<1.1",
        "mujoco>=3.8,<3.12",  # 3.12 to 4.0 break FrankaKitchen-v1
    ],
    extras_require={
        "cuda": ["jax[cuda13]>=0.10.2,<0.12"],
        "tpu": ["jax[tpu]>=0.10.2,<0.12"],
        "d4rl": ["d4rl==1.1", "gym==0.24.1"],
        "dev": ["ruff", "mypy", "pytest", "pytest-xdist", "hypothesis"],
    },
)
