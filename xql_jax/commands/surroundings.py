"""What is wrong with the process's environment, not with the program: told in one line, with what to set."""

from xql_jax.commands.streams import fail

import errno
import os
import re
import resource
import subprocess
import sys
from collections.abc import Callable
from types import TracebackType

from xql_jax.errors import UserError

# Has XLA read its flags; of one that it does not know it ends the process.
_READS_XLA_FLAGS = "from jaxlib import xla_client; xla_client.CompileOptions()"

# Modules that find a way to draw as they are imported, even where nothing is drawn.
OPENGL = ("mujoco.rendering", "mujoco.egl", "mujoco.osmesa", "mujoco.glfw", "dm_control._render", "OpenGL")


def prepare() -> None:
    """Before the imports: what they raise for a wrong variable is told, and no plot asks for a window."""
    os.environ["MPLBACKEND"] = "agg"
    sys.excepthook = _end


def _end(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Python's last word on what nobody caught. Of a KeyboardInterrupt the exit code says enough."""
    if known := told(error):
        sys.exit(fail(known))
    if not isinstance(error, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)


def check() -> None:
    """Raises UserError for what would end the process without a word of Python's."""
    if os.environ.get("XLA_FLAGS"):
        command = [sys.executable, "-c", _READS_XLA_FLAGS]
        read = subprocess.run(command, capture_output=True, text=True, errors="replace")
        if read.returncode:
            line = next((line for line in read.stderr.splitlines() if line.strip()), "XLA refuses them")
            reason = re.sub(r"^[A-Z]\d{4} [^]]*\] ", "", line)
            raise UserError(f"XLA_FLAGS={os.environ['XLA_FLAGS']}: {reason[:300]}: mend or unset it")


def add_cpu() -> None:
    """Has JAX make the CPU's devices, too, where JAX_PLATFORMS names others alone: online runs act there.

    Raises:
        UserError: if the others are not here. JAX would say nothing, and learn on the CPU.
    """
    import jax

    platforms: str | None = jax.config.jax_platforms  # type: ignore[attr-defined]
    if platforms and "cpu" not in platforms.split(","):
        jax.config.update("jax_platforms", f"{platforms},cpu")
        if jax.default_backend() == "cpu":
            raise _no_platform()


def told(error: BaseException) -> UserError | None:
    """Returns what to tell of an error that the environment makes; None if it is none of those."""
    if isinstance(error, UserError):
        return error
    for sign in SIGNS:
        if known := sign(error):
            return known
    return None


def _lacks_platform(error: BaseException) -> UserError | None:
    """JAX says it with a RuntimeError or, of cuda alone, with an assertion without words."""
    if not os.environ.get("JAX_PLATFORMS") or not isinstance(error, RuntimeError | AssertionError):
        return None
    if "Unable to initialize backend" in str(error):
        return _no_platform()
    if isinstance(error, AssertionError) and not str(error):
        import jax

        try:
            jax.devices()
        except AssertionError:
            return _no_platform()
    return None


def _no_platform() -> UserError:
    import jax
    from jax.extend.backend import backends

    jax.config.update("jax_platforms", None)
    here = ", ".join(sorted(backends()))
    return UserError(
        f"JAX_PLATFORMS={os.environ['JAX_PLATFORMS']}: not to be had here; here is: {here}; set it to that, "
        "or unset it"
    )


def _confuses_jax(error: BaseException) -> UserError | None:
    if not isinstance(error, ValueError) or not _raised_in(error, "jax._src.config"):
        return None
    text = str(error)
    match = re.search(r"environment '(\w+)'|JAX flag (\w+)", text)
    name = (match[1] or match[2].upper()) if match else ""
    names = [name] if name in os.environ else sorted(key for key in os.environ if key.startswith("JAX_"))
    return UserError(f"{_settings(names)}: JAX cannot be imported with that ({text}): mend or unset it")


def _confuses_opengl(error: BaseException) -> UserError | None:
    names = [name for name in ("MUJOCO_GL", "PYOPENGL_PLATFORM") if name in os.environ][:1]
    if not names or not _raised_in(error, *OPENGL):
        return None
    return UserError(
        f"{_settings(names)}: OpenGL does not work with that "
        f"({error}): unset it, or set MUJOCO_GL to egl, osmesa or glfw, as is installed"
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
        f"the system refuses another process or thread ({error}): raise its limit (ulimit -u, or the "
        "container's), or give fewer --num_environments"
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
    """Data are held against it before they are read, but not all else."""
    if not isinstance(error, MemoryError):
        return None
    return UserError(f"there is too little memory ({error}): use less data, or more memory")


def _has_no_home(error: BaseException) -> UserError | None:
    """As pathlib tells of ~NAME."""
    if not isinstance(error, RuntimeError) or "home directory" not in str(error):
        return None
    named = next((argument for argument in sys.argv[1:] if "~" in argument), "~")
    return UserError(f"{named}: there is no such user, or it has no home directory")


# Each tells of one kind of mistake by how it shows; the first that knows the error counts.
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
    """Whether code of one of them was running."""
    trace = error.__traceback__
    while trace is not None:
        module = trace.tb_frame.f_globals.get("__name__") or ""
        if module.startswith(packages):
            return True
        trace = trace.tb_next
    return False
