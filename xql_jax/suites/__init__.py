"""The suites by name. Each file beside `record` has one, its `SUITE`."""

import importlib
import pkgutil

from xql_jax.suites.record import Suite

_FILES = [file.name for file in pkgutil.iter_modules(__path__) if file.name != "record"]
_RECORDS: list[Suite] = [importlib.import_module(f"{__name__}.{name}").SUITE for name in _FILES]
SUITES = {suite.name: suite for suite in _RECORDS}
