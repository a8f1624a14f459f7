"""The suites by name. Each file beside `record` has some, its `RECORDS`."""

import importlib
import pkgutil

_FILES = [file.name for file in pkgutil.iter_modules(__path__) if file.name != "record"]
SUITES = {
    suite.name: suite for name in _FILES for suite in importlib.import_module(f"{__name__}.{name}").RECORDS
}
