"""A report of runs: written to a folder, or served while the runs go on."""

import threading
import time

from xql_jax.errors import UserError
from xql_jax.outputs import make_folder, writing_output
from xql_jax.reports.report import Report, check_installed
from xql_jax.runs.reporting import RunFinder
from xql_jax.runs.settings import ReportSettings
from xql_jax.serving.live import LiveReport
from xql_jax.serving.server import ADDRESS, LocalServer
from xql_jax.training.signals import StopSignals


def write(settings: ReportSettings) -> int:
    """Writes the report, prints where it is and which runs it leaves out, and returns the exit code."""
    check_installed()
    finder = RunFinder(settings.folders)
    found = finder.find()
    if not found.runs and not found.left_out:
        raise UserError(f"{', '.join(settings.folders)}: no runs there: a run is a folder with a config.json")
    folder = make_folder("out", settings.out)
    report = Report(found, finder.title, settings.bootstrap_samples)
    files = report.files(report.page(f"Made {time.strftime('%Y-%m-%d %H:%M:%S %Z')}."))
    for name, text in files.items():
        with writing_output("out", folder / name) as unfinished:
            unfinished.write_bytes(text.encode(errors="backslashreplace"))
    print(f"{len(report.runs)} runs, {len(report.scores)} scores of a method on a dataset")
    for left_out in report.left_out:
        print(f"  left out: {left_out.run}: {left_out.reason}")
    print("written:", *(folder / name for name in files), sep="\n  ")
    return 0


def serve(settings: ReportSettings) -> int:
    """Serves the report until a signal ends it; returns the exit code."""
    check_installed()
    finder = RunFinder(settings.folders)
    live = LiveReport(finder, settings.bootstrap_samples)
    with StopSignals() as stop, LocalServer(live.answers, settings.port) as server:
        live.answers()  # before the address is printed, so that errors end the program here
        threading.Thread(target=server.serve_forever, daemon=True).start()
        print(f"{finder.title}: http://{ADDRESS}:{server.port}/ (Ctrl-C ends it)", flush=True)
        while stop.received is None:
            time.sleep(0.1)
        server.shutdown()
    print(f"stopped by {stop.received.name}")
    return 128 + stop.received
