"""What a log says of the time left, by a clock that the test sets."""

import logging

import pytest

from xql_jax.training.progress import SECONDS_PER_LINE, Pace, counted, in_words


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.4, "0 s"),
        (119.4, "119 s"),
        (120, "2 min"),
        (3_570, "60 min"),
        (3_600, "1 h 0 min"),
        (12_000, "3 h 20 min"),
        (2 * 86_400 + 4 * 3_600, "2 d 4 h"),
    ],
)
def test_a_duration_in_words(seconds, words):
    assert in_words(seconds) == words


def test_the_time_left_is_that_of_this_process_alone():
    now = [100.0]
    pace = Pace(13_000, 30_000, "update", lambda: now[0])
    assert pace.line(13_000) == "update 13,000 of 30,000"  # nothing is known yet
    now[0] += 10.0
    # 2,000 updates in 10 seconds, whatever went before the resumption: 15,000 more take 75 seconds.
    assert pace.line(15_000) == "update 15,000 of 30,000, 200 updates/s, about 75 s left"
    now[0] += 10.0
    assert pace.line(17_000, "score 9.5") == ("update 17,000: score 9.5, 200 updates/s, about 65 s left")
    pace.begin_at(17_000)  # a program was compiled
    now[0] += 10.0
    assert pace.line(18_000) == "update 18,000 of 30,000, 100 updates/s, about 2 min left"
    assert pace.line(30_000, "score 9.5") == "update 30,000: score 9.5"


def test_a_line_is_due_after_a_silence():
    now = [0.0]
    pace = Pace(0, 10, "step", lambda: now[0])
    now[0] = SECONDS_PER_LINE - 1
    assert not pace.has_been_silent()
    now[0] = SECONDS_PER_LINE
    assert pace.has_been_silent()
    pace.line(1)
    assert not pace.has_been_silent()


def test_without_a_bar_lines_say_how_long_it_takes(monkeypatch, caplog):
    seconds = iter(range(0, 1000, 10))
    monkeypatch.setattr("xql_jax.training.progress.time.monotonic", lambda: float(next(seconds)))
    monkeypatch.setattr("xql_jax.training.progress.SECONDS_PER_LINE", 1.0)
    caplog.set_level(logging.INFO)
    with counted(100, "step", False, "video") as count:
        count()
        count(19)
    first, second = caplog.messages
    assert first.startswith("video step 1 of 100, ")
    assert second.startswith("video step 20 of 100, ")
    assert second.endswith(" left")
