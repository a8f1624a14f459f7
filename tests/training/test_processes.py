"""What processes tell one another, with threads in their place: orders, errors, stops and losses."""

import concurrent.futures
import signal
import socket
import time

import pytest

from xql_jax.errors import Damaged, EnvironmentFailure, UserError
from xql_jax.training.processes import ALONE, CHECKPOINTS, Lost, Processes
from xql_jax.training.signals import StopSignals


@pytest.fixture
def three():
    """Processes 0, 1 and 2, as they are connected."""
    pairs = {peer: connected() for peer in (1, 2)}
    first = Processes(0, 3, {peer: pair[0] for peer, pair in pairs.items()})
    made = [first, *(Processes(peer, 3, {0: pair[1]}) for peer, pair in pairs.items())]
    yield made
    for processes in made:
        processes.__exit__(None, None, None)


def connected():
    """Two ends of a connection."""
    with socket.create_server(("localhost", 0)) as server:
        end = socket.create_connection(server.getsockname())
        return server.accept()[0], end


def together(processes, work):
    """What `work` gives or raises on each, all at once."""
    with concurrent.futures.ThreadPoolExecutor(len(processes)) as threads:
        futures = [threads.submit(work, each) for each in processes]
        return [future.exception(timeout=20) or future.result() for future in futures]


def test_values_come_in_the_order_of_the_processes(three):
    def exchange(processes):
        time.sleep(0.05 * (2 - processes.index))  # the last is first
        return processes.exchange({"index": processes.index, "number": 0.1 + processes.index})

    expected = [{"index": index, "number": 0.1 + index} for index in range(3)]
    assert together(three, exchange) == [expected] * 3
    assert together(three, lambda processes: processes.collect(processes.index)) == [[0, 1, 2], None, None]
    assert together(three, lambda processes: processes.first(lambda: processes.index + 7)) == [7, 7, 7]
    assert together(three, lambda processes: processes.agree(lambda: processes.index)) == [0, 1, 2]


def test_numbers_arrive_to_the_bit(three):
    numbers = [1e-300, 0.1 + 0.2, float("inf"), 2**53 + 1, -0.0]
    for received in together(three, lambda processes: processes.exchange(numbers)[1]):
        assert [repr(number) for number in received] == [repr(number) for number in numbers]


def test_conversations_do_not_mix(three):
    def talk(processes):
        with concurrent.futures.ThreadPoolExecutor(1) as thread:
            other = thread.submit(lambda: [processes.exchange(n, CHECKPOINTS) for n in range(100)])
            return [processes.exchange(-n) for n in range(100)], other.result()

    expected = [[-n] * 3 for n in range(100)], [[n] * 3 for n in range(100)]
    assert together(three, talk) == [expected] * 3


def test_an_exchange_may_be_large(three):
    text = "x" * 5_000_000
    assert together(three, lambda processes: processes.exchange(text) == [text] * 3) == [True] * 3


@pytest.mark.parametrize("kind", [UserError, Damaged, EnvironmentFailure])
def test_the_error_of_one_is_that_of_all(three, kind):
    def work(processes):
        def fail():
            if processes.index == 1:
                raise kind("the disk is full")
            return processes.index

        processes.agree(fail)

    errors = together(three, work)
    assert [type(error) for error in errors] == [kind] * 3
    assert [str(error) for error in errors] == [
        "process 1: the disk is full",
        "the disk is full",
        "process 1: the disk is full",
    ]


@pytest.mark.parametrize("told", [0, 1])
def test_a_signal_of_one_stops_all(three, told):
    stops = [StopSignals() for _ in three]
    stops[told].received = signal.SIGTERM
    deadline = time.monotonic() + 20
    while not all(stop.received for stop in stops) and time.monotonic() < deadline:
        for processes, stop in zip(three, stops, strict=True):
            processes.pass_on(stop)
    assert [stop.received for stop in stops] == [signal.SIGTERM] * 3


@pytest.mark.parametrize("lost", [0, 1])
def test_the_loss_of_one_is_noticed_by_all(three, lost):
    """Also by who waits for a third: as a kill does, the system closes the connections."""
    three[lost]._closed = True  # who is killed says no word
    for link in three[lost]._links.values():
        link.shutdown(socket.SHUT_RDWR)
    others = [processes for processes in three if processes.index != lost]
    errors = together(others, lambda processes: [processes.exchange(None) for _ in range(2)])
    for error in errors:
        assert isinstance(error, Lost)
        assert str(error).startswith(f"process {lost} of 3 has gone; the others stop too")


def test_who_ends_with_an_error_says_why(three):
    with pytest.raises(UserError), three[2]:
        raise UserError("no such file")
    errors = together(three[:2], lambda processes: processes.exchange(None))
    for error in errors:
        assert str(error).startswith("process 2 of 3 has ended: no such file; the others stop too")


def test_who_ends_well_leaves_what_it_said(three):
    values = together(three, lambda processes: leave_after(processes, processes.exchange(processes.index)))
    assert values == [[0, 1, 2]] * 3


def leave_after(processes, value):
    processes.__exit__(None, None, None)
    return value


def test_one_alone_is_as_if_there_were_none():
    stop, value = StopSignals(), object()
    stop.received = signal.SIGINT
    ALONE.pass_on(stop)
    assert ALONE.exchange(value) == ALONE.collect(value) == [value]
    assert ALONE.first(lambda: value) is ALONE.agree(lambda: value) is value
    other = StopSignals()
    ALONE.pass_on(other)
    assert other.received is None  # another run's
    with pytest.raises(UserError, match=r"^exactly so$"):
        ALONE.agree(raise_error)


def raise_error():
    raise UserError("exactly so")
