"""JAX platforms: makes sure that the CPU is available to runs that act."""

import os

import jax
from jax.extend.backend import backends

from xql_jax.errors import UserError


def prepare_acting() -> None:
    """Configures JAX for runs that act on the CPU while they learn.

    It turns off asynchronous dispatch on the CPU, because otherwise the thread that acts would wait for the
    learner's program, which runs in another thread. It also adds the CPU to JAX_PLATFORMS if that names only
    other platforms.

    Raises:
        UserError: if those other platforms are not available; JAX would silently learn on the CPU.
    """
    jax.config.update("jax_cpu_enable_async_dispatch", False)
    platforms: str | None = jax.config.jax_platforms  # type: ignore[attr-defined]
    if platforms and "cpu" not in platforms.split(","):
        jax.config.update("jax_platforms", f"{platforms},cpu")
        if jax.default_backend() == "cpu":
            raise no_platform()


def no_platform() -> UserError:
    """Returns the error for a JAX_PLATFORMS that names a platform that is not available."""
    jax.config.update("jax_platforms", None)
    here = ", ".join(sorted(backends()))
    return UserError(
        f"JAX_PLATFORMS={os.environ['JAX_PLATFORMS']}: not available here; available: {here}; "
        "set it to that, or unset it"
    )
