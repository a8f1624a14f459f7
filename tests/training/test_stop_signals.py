"""Signals to this very process: the first is noted, the second does what it would have done."""

import os
import signal

import pytest

from xql_jax.training.signals import StopSignals


@pytest.fixture
def heard():
    """Signals that reached the handlers in place before, for SIGINT and SIGTERM."""
    numbers = []
    previous = {
        number: signal.signal(number, lambda number, frame: numbers.append(number))
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    yield numbers
    for number, handler in previous.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("second", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("first", [signal.SIGINT, signal.SIGTERM])
def test_first_is_noted_and_second_goes_through(heard, first, second):
    with StopSignals() as signals:
        assert signals.received is None
        os.kill(os.getpid(), first)
        assert signals.received is first
        assert heard == []
        os.kill(os.getpid(), second)
        assert heard == [second]
        assert signals.received is first


def test_a_sweep_hears_the_signals_of_its_runs(heard):
    with StopSignals() as outer:
        with StopSignals(outer) as inner:
            os.kill(os.getpid(), signal.SIGTERM)
            assert (inner.received, outer.received, heard) == (signal.SIGTERM, signal.SIGTERM, [])
            os.kill(os.getpid(), signal.SIGINT)
            assert heard == [signal.SIGINT]
        with StopSignals(outer) as inner:  # begins stopped
            assert inner.received is signal.SIGTERM


def test_a_terminal_that_closes_stops_it_once(heard):
    """The kernel and the shell each send SIGHUP; under nohup both are ignored."""
    previous = signal.signal(signal.SIGHUP, signal.SIG_DFL)  # which would end the tests
    with StopSignals() as signals:
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGHUP)
        assert signals.received is signal.SIGHUP
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with StopSignals() as signals:
        os.kill(os.getpid(), signal.SIGHUP)
        assert signals.received is None
    signal.signal(signal.SIGHUP, previous)


@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGUSR2])
def test_a_schedulers_warning_stops_it_however_often_it_comes(heard, number):
    with StopSignals() as signals:
        for _ in range(3):
            os.kill(os.getpid(), number)  # without a handler it would end the tests
        os.kill(os.getpid(), signal.SIGTERM)  # as at the limit itself: the run may still save
        assert (signals.received, heard) == (number, [])
        os.kill(os.getpid(), signal.SIGTERM)
        assert heard == [signal.SIGTERM]


def test_what_an_environment_does_with_signals_stops_no_run(heard):
    """It is made before the run begins, or steps while the run goes on."""
    signals = StopSignals()
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    with signals:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signals.hold()
        os.kill(os.getpid(), signal.SIGINT)
        assert signals.received is signal.SIGINT


def test_handlers_are_put_back(heard):
    with StopSignals():
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    with pytest.raises(RuntimeError), StopSignals():
        raise RuntimeError
    os.kill(os.getpid(), signal.SIGINT)
    assert heard == [signal.SIGTERM, signal.SIGINT]
