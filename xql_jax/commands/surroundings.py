"""Errors caused by the process's environment, not the program, reported in one line with the remedy."""

from xql_jax.commands.streams import fail

import errno
import functools
import os
import re
import resource
import subprocess
import sys
from collections.abc import Callable
from types import TracebackType

from xql_jax.errors import UserError

# Makes XLA read its flags, which ends the process if one is unknown.
_READS_XLA_FLAGS = "from jaxlib import xla_client; xla_client.CompileOptions()"

# Modules that choose an OpenGL backend when they are imported, even if nothing is drawn.
OPENGL = ("mujoco.rendering", "mujoco.egl", "mujoco.osmesa", "mujoco.glfw", "dm_control._render", "OpenGL")


def prepare() -> None:
    """Prepares the process before slow imports: their errors are explained, and no plot opens a window."""
    os.environ["MPLBACKEND"] = "agg"
    sys.excepthook = _end


def _end(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Handles an uncaught exception. For a KeyboardInterrupt the exit code says enough."""
    if known := told(error):
        sys.exit(fail(known))
    if not _is_interrupt(error):
        sys.__excepthook__(kind, error, trace)


def check() -> None:
    """Raises UserError for invalid XLA_FLAGS, which would end the process without a Python exception."""
    xla_flags = os.environ.get("XLA_FLAGS")
    if xla_flags and (reason := _refusal(xla_flags)):
        raise UserError(f"XLA_FLAGS={xla_flags}: {reason[:300]}: correct or unset it")


@functools.cache
def _refusal(xla_flags: str) -> str:
    """Returns why XLA refuses the flags, as another process finds out; empty if it takes them."""
    read = subprocess.run(
        [sys.executable, "-c", _READS_XLA_FLAGS],
        env={**os.environ, "XLA_FLAGS": xla_flags},
        capture_output=True,
        text=True,
        errors="replace",
    )
    if not read.returncode:
        return ""
    line = next((line for line in read.stderr.splitlines() if line.strip()), "XLA refuses them")
    return re.sub(r"^[A-Z]\d{4} [^]]*\] ", "", line)


def told(error: BaseException) -> UserError | None:
    """Returns the message for an error that the environment has caused; None for any other error."""
    if _is_interrupt(error):
        return None
    if isinstance(error, UserError):
        return error
    for sign in SIGNS:
        if known := sign(error):
            return known
    return None


def _is_interrupt(error: BaseException) -> bool:
    """Returns whether the error is Ctrl-C, which ctypes turns into an ArgumentError that quotes it."""
    return isinstance(error, KeyboardInterrupt) or "KeyboardInterrupt" in str(error)


def _lacks_platform(error: BaseException) -> UserError | None:
    """Recognises a missing platform: JAX raises RuntimeError or, for cuda, an AssertionError without text."""
    if not os.environ.get("JAX_PLATFORMS") or not isinstance(error, RuntimeError | AssertionError):
        return None
    from xql_jax.runs.platforms import no_platform

    if "Unable to initialize backend" in str(error):
        return no_platform()
    if isinstance(error, AssertionError) and not str(error):
        import jax

        try:
            jax.devices()
        except AssertionError:
            return no_platform()
    return None


def _confuses_jax(error: BaseException) -> UserError | None:
    if not isinstance(error, ValueError) or not _raised_in(error, "jax._src.config"):
        return None
    text = str(error)
    match = re.search(r"environment '(\w+)'|JAX flag (\w+)", text)
    name = (match[1] or match[2].upper()) if match else ""
    names = [name] if name in os.environ else sorted(key for key in os.environ if key.startswith("JAX_"))
    return UserError(f"{_settings(names)}: JAX cannot be imported with that ({text}): correct or unset it")


def _confuses_opengl(error: BaseException) -> UserError | None:
    names = [name for name in ("MUJOCO_GL", "PYOPENGL_PLATFORM") if name in os.environ][:1]
    if not names or not _raised_in(error, *OPENGL):
        return None
    return UserError(
        f"{_settings(names)}: OpenGL does not work with that "
        f"({error}): unset it, or set MUJOCO_GL to egl, osmesa or glfw, whichever is installed"
    )


def _has_no_temporary_folder(error: BaseException) -> UserError | None:
    if not isinstance(error, FileNotFoundError) or "temporary directory" not in str(error):
        return None
    return UserError(
        "no folder for temporary files can be written: set TMPDIR to one that can, on a disk with space"
    )


def _has_too_many_files(error: BaseException) -> UserError | None:
    if not any(os.strerror(number) in str(error) for number in (errno.EMFILE, errno.ENFILE)):
        return None
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return UserError(
        f"too many open files: a process may have {limit} here; raise that (ulimit -n), or give fewer "
        "--num_environments or members"
    )


def _has_too_many_processes(error: BaseException) -> UserError | None:
    of_system = isinstance(error, OSError) and error.errno == errno.EAGAIN
    if not of_system and "can't start new thread" not in str(error):
        return None
    return UserError(
        f"the system refuses another process or thread ({error}): raise the limit on processes (ulimit -u, "
        "or the container's), or give fewer --num_environments"
    )


def _is_of_a_file(error: BaseException) -> UserError | None:
    if not isinstance(error, OSError) or error.strerror is None:
        return None
    if error.filename is not None:
        return UserError(f"{os.fsdecode(error.filename)}: {error.strerror}")
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS):
        return UserError(f"a file cannot be written: {error.strerror}")
    return UserError(f"not enough memory: {error.strerror}") if error.errno == errno.ENOMEM else None


def _has_no_memory(error: BaseException) -> UserError | None:
    """Recognises a lack of memory. Only datasets are checked against the free memory before they are read."""
    if not isinstance(error, MemoryError):
        return None
    return UserError(f"there is too little memory ({error}): use less data, or more memory")


def _has_no_home(error: BaseException) -> UserError | None:
    """Recognises pathlib's error for a path ~NAME if there is no such user."""
    if not isinstance(error, RuntimeError) or "home directory" not in str(error):
        return None
    named = next((argument for argument in sys.argv[1:] if "~" in argument), "~")
    return UserError(f"{named}: there is no such user, or it has no home directory")


# Each function recognises one kind of error and returns its message, or None. The first match is used.
SIGNS: tuple[Callable[[BaseException], UserError | None], ...] = (
    _has_no_home,
    _has_no_memory,
    _has_too_many_files,
    _has_too_many_processes,
    _has_no_temporary_folder,
    _confuses_jax,
    _confuses_opengl,
    _is_of_a_file,
    _lacks_platform,
)


def _settings(names: list[str]) -> str:
    return ", ".join(f"{name}={os.environ[name]}" for name in names)


def _raised_in(error: BaseException, *packages: str) -> bool:
    """Whether the error passed through code of one of these packages."""
    trace = error.__traceback__
    while trace is not None:
        module = trace.tb_frame.f_globals.get("__name__") or ""
        if module.startswith(packages):
            return True
        trace = trace.tb_next
    return False
