"""What an evaluation says while it goes on."""

import logging

from xql_jax.runs.evaluation import _counted


def test_without_a_bar_lines_say_how_long_it_takes(monkeypatch, caplog):
    seconds = iter(range(0, 1000, 10))
    monkeypatch.setattr("xql_jax.runs.evaluation.time.monotonic", lambda: float(next(seconds)))
    monkeypatch.setattr("xql_jax.training.progress.SECONDS_PER_LINE", 1.0)
    caplog.set_level(logging.INFO)
    with _counted(100, "step", False, "video") as count:
        count()
        count(19)
    first, second = caplog.messages
    assert first.startswith("video step 1 of 100, ")
    assert second.startswith("video step 20 of 100, ")
    assert second.endswith(" left")
