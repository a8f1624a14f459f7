"""What several rooms' tests need: the legacy d4rl package as an oracle, and the one real dataset."""

import ctypes.util
import gc
import os
import signal
import sys
import threading
import warnings
from pathlib import Path

import hypothesis
import jax
import pytest
import submitit  # noqa: F401 (early: its import closes the streams of the handlers of logs)

from xql_jax.data.loading import cached_file
from xql_jax.suites.tasks import get_task

# Pictures are drawn where that needs no screen. MuJoCo reads the variable when it is imported.
if not os.environ.get("DISPLAY") and ctypes.util.find_library("EGL"):
    os.environ.setdefault("MUJOCO_GL", "egl")

# Every run tries the same examples, so that none fails by chance. CONTRIBUTING.md says how to try new ones.
hypothesis.settings.register_profile("same", derandomize=True, deadline=None)
hypothesis.settings.register_profile("new", deadline=None)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "same"))

# Where a shell starts the tests in the background it has SIGINT ignored, also in all that they start.
if (
    threading.current_thread() is threading.main_thread()
    and signal.getsignal(signal.SIGINT) == signal.SIG_IGN
):
    signal.signal(signal.SIGINT, signal.default_int_handler)

MOST_MAPS = 20_000


@pytest.fixture(scope="module", autouse=True)
def _few_compiled_programs():
    """Forgets what was compiled before it is too much.

    Each program that XLA compiles takes a few of the 65,530 memory maps that Linux gives a process. Where
    none is left, XLA ends the process by a signal, somewhere in the middle of the suite.
    """
    yield
    maps = Path("/proc/self/maps")
    if maps.exists() and maps.read_text().count("\n") > MOST_MAPS:
        jax.clear_caches()
        gc.collect()


@pytest.fixture(scope="session", autouse=True)
def full_compiler(request):
    """XLA's compiler of populations' programs. Without the slow tests, a quick one stands in for it.

    It takes half the time. Its programs differ in last bits from those of `jax.jit`.
    """
    compile_fully = jax.stages.Lowered.compile
    with pytest.MonkeyPatch.context() as patch:
        if "not slow" in request.config.getoption("markexpr"):

            def quickly(lowered, compiler_options=None):
                options = {**(compiler_options or {}), "xla_backend_optimization_level": 0}
                return compile_fully(lowered, options)

            patch.setattr(jax.stages.Lowered, "compile", quickly)
        yield compile_fully


@pytest.fixture
def compiled_fully(monkeypatch, full_compiler):
    """For tests that compare the bits of different programs: the compiler that runs have."""
    monkeypatch.setattr(jax.stages.Lowered, "compile", full_compiler)


def pytest_collection_finish():
    """Garbage is looked for seldom, and not in what was imported: that takes a tenth of the suite's time."""
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)


def pytest_collection_modifyitems(items):
    """Skips what draws where nothing can: asking for OpenGL in vain ends the process the second time."""
    if os.environ.get("MUJOCO_GL") or os.environ.get("DISPLAY"):
        return
    for item in items:
        if item.get_closest_marker("draws"):
            item.add_marker(pytest.mark.skip(reason="needs MUJOCO_GL=egl or a screen"))


@pytest.fixture(scope="session")
def d4rl_package(tmp_path_factory):
    """The d4rl package, imported as it must be where MuJoCo 2.1 is not installed."""
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # gym and glfw have much to say
        patch.setitem(sys.modules, "mujoco_py", None)
        patch.setenv("D4RL_SUPPRESS_IMPORT_ERROR", "1")
        patch.setenv("D4RL_DATASET_DIR", str(tmp_path_factory.mktemp("d4rl")))  # the import makes this folder
        return pytest.importorskip(
            "d4rl", reason="the legacy d4rl package is the oracle here", exc_type=ImportError
        )


@pytest.fixture(scope="session")
def kitchen_file():
    """The path of D4RL's own kitchen-complete-v0 file: 3,680 rows, 19 demonstrations."""
    cached = cached_file(get_task("kitchen-complete-v0"))
    shared = Path(__file__).resolve().parents[2] / "shared" / "data" / cached.name
    for path in (shared, cached):
        if path.is_file():
            return path
    return pytest.skip(f"D4RL's kitchen-complete-v0 file is neither at {shared} nor at {cached}")
