"""Receives what a server sends, piece by piece, and never waits forever, whatever the server does."""

import contextlib
import dataclasses
import os
import queue
import re
import ssl
import threading
import time
import urllib.parse
from collections.abc import Iterator, Mapping

import requests
import urllib3

from xql_jax.errors import printable

CHUNK = 1 << 18  # bytes
PIECES_AHEAD = 4  # that are received while the caller is busy
MAX_REDIRECTIONS = 10
LONGEST_QUOTE = 100  # characters of what a server says


@dataclasses.dataclass(frozen=True)
class Patience:
    """How long to wait for a server, and how often to ask again."""

    connect_seconds: float = 10.0
    stall_seconds: float = 30.0  # the longest time without a byte
    slow_seconds: float = 60.0  # periods in which the average rate must be `least_rate`; connecting counts
    least_rate: float = 1000.0  # bytes/s
    attempts: int = 4  # in a row that bring little or nothing, before giving up
    pause_seconds: float = 1.0  # before the second attempt, doubled before each further one

    @property
    def portion(self) -> float:
        """The bytes that must arrive every `slow_seconds`."""
        return self.least_rate * self.slow_seconds


PATIENCE = Patience()


class Passing(Exception):
    """A failure that may be gone at the next attempt."""


class Hopeless(Exception):
    """A failure that no further attempt will mend."""


class Transfer:
    """One request for a file: used as `with Transfer(...) as transfer`, then `answer`, then `pieces`.

    A thread of its own talks with the server. Timeouts of single reads do not help against names that do not
    resolve, or headers that come byte by byte. In such cases that thread is abandoned.

    Raises:
        Passing, Hopeless: from either method, for anything that goes wrong on the way.
    """

    def __init__(self, url: str, headers: Mapping[str, str], patience: Patience):
        self._url = url
        self._headers = headers
        self._patience = patience
        self._items: queue.Queue[requests.Response | bytes | Exception] = queue.Queue(PIECES_AHEAD)
        self._is_over = threading.Event()
        self._deadline = time.monotonic() + patience.slow_seconds

    def __enter__(self) -> "Transfer":
        threading.Thread(target=self._talk, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()

    def answer(self) -> requests.Response:
        """Returns the server's answer; read its body by `pieces` only."""
        answer = self._next()
        assert isinstance(answer, requests.Response)
        return answer

    def pieces(self) -> Iterator[bytes]:
        """Yields the pieces of the body as they arrive."""
        received = 0
        while piece := self._next():
            assert isinstance(piece, bytes)
            received += len(piece)
            if received >= self._patience.portion:
                received, self._deadline = 0, time.monotonic() + self._patience.slow_seconds
            yield piece

    def _next(self) -> requests.Response | bytes:
        try:
            item = self._items.get(timeout=max(0.0, self._deadline - time.monotonic()))
        except queue.Empty:
            slow = f"fewer than {self._patience.portion:,.0f} bytes in {self._patience.slow_seconds:g} s"
            raise Passing(f"the server is too slow: it has sent {slow}") from None
        if isinstance(item, Passing | Hopeless):
            raise item
        if isinstance(item, Exception):
            if failure := self._failure(item):
                raise failure from item
            raise item
        return item

    def _talk(self) -> None:
        """The thread's work: queues the answer, the pieces of its body and an empty one; or the exception."""
        try:
            with _Session() as session, self._ask(session) as response:
                self._put(response)
                while not self._is_over.is_set() and (piece := response.raw.read1(CHUNK)):
                    self._put(piece)
                self._put(b"")
        except Exception as error:  # any exception is raised again in the caller's thread
            self._put(error)

    def _put(self, item: requests.Response | bytes | Exception) -> None:
        while not self._is_over.is_set():
            with contextlib.suppress(queue.Full):
                self._items.put(item, timeout=0.1)
                break

    def _ask(self, session: requests.Session) -> requests.Response:
        """Returns the answer after all redirections, without reading their bodies."""
        url, timeout = self._url, (self._patience.connect_seconds, self._patience.stall_seconds)
        for _ in range(1 + MAX_REDIRECTIONS):
            response = session.get(url, headers=self._headers, stream=True, timeout=timeout)
            if not response.is_redirect:
                return response
            response.close()
            url = redirected(url, response.headers["Location"])
        raise Hopeless(f"more than {MAX_REDIRECTIONS} redirects")

    def _failure(self, error: Exception) -> Passing | Hopeless | None:
        """Returns what an exception of the libraries means; None for mistakes of this program."""
        if isinstance(error, requests.ReadTimeout | urllib3.exceptions.ReadTimeoutError):
            return Passing(f"the server has sent nothing for {self._patience.stall_seconds:g} s")
        reason = _reason(error)
        if _is_of_trust(error):
            return Hopeless(
                f"its TLS certificate cannot be checked, or is not trusted: {reason}; {_trusted()}"
            )
        if isinstance(error, ValueError):  # an address that makes no sense
            return Hopeless(reason)
        if isinstance(error, requests.ConnectionError | requests.Timeout | urllib3.exceptions.HTTPError):
            return Passing(f"the connection failed ({reason})")
        return Hopeless(reason) if isinstance(error, OSError) else None  # requests' are OSErrors


class _Session(requests.Session):
    def get_redirect_target(self, response: requests.Response) -> None:
        """Returns None: requests would read a redirection's body to its end, and there may be no end."""


def redirected(url: str, location: str) -> str:
    """Returns the address that `location`, in a redirection from `url`, refers to.

    Raises:
        Hopeless: if it is not an address of http:// or https://.
    """
    said = f"it redirects to '{quoted(without_password(location))}'"
    try:
        target = urllib.parse.urljoin(url, location.encode("latin-1").decode())  # headers are Latin-1
        old, new = urllib.parse.urlsplit(url), urllib.parse.urlsplit(target)
    except UnicodeDecodeError:
        raise Hopeless(f"{said}, which is not UTF-8") from None
    except ValueError:  # http://[::1
        raise Hopeless(f"{said}, which is no address") from None
    if new.scheme not in ("http", "https") or not new.netloc:
        raise Hopeless(f"{said}, which is no address of http:// or https://")
    _, at, host = old.netloc.rpartition("@")
    if at and (new.scheme, new.netloc) == (old.scheme, host):  # the same server: keep the user
        target = new._replace(netloc=old.netloc).geturl()
    return target


def without_password(url: str) -> str:
    """Returns the address as it may be shown: with `***` for the user and the password."""
    start, slashes, rest = url.partition("//")
    host = re.split(r"[/?#\\]", rest, maxsplit=1)[0]
    if "@" in host:
        return start + slashes + "***" + rest[host.rindex("@") :]
    if re.fullmatch(r"[^:]*(:\d*)?|\[.*\](:\d*)?", host):
        return url
    # Perhaps there is a slash within the password; then it is not a valid address.
    return start + slashes + "***" + rest[rest.rindex("@") :] if "@" in rest else url


def quoted(text: str) -> str:
    """Returns a server's text, shortened and printable."""
    return printable(text, LONGEST_QUOTE)


def _is_of_trust(error: Exception) -> bool:
    """Returns whether an error is about certificates: the server's, or the file of trusted ones."""
    innermost = _innermost(error)
    if isinstance(error, requests.exceptions.SSLError):  # library "SSL": the protocol failed
        is_refused = isinstance(innermost, ssl.SSLCertVerificationError)
        return is_refused or not isinstance(innermost, ssl.SSLError) or innermost.library != "SSL"
    return type(error) is OSError and "TLS" in str(error)  # how requests says that the file is missing


def _trusted() -> str:
    """Returns, for messages, which variable names the trusted certificates."""
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        if os.environ.get(name):
            return f"the trusted ones are those of {name}={os.environ[name]}"
    return "REQUESTS_CA_BUNDLE=FILE names others to trust"


def _innermost(error: BaseException) -> BaseException:
    """Returns the original cause, which requests and urllib3 wrap into exceptions of their own."""
    while isinstance(inner := (error.args or ("",))[-1], Exception) or (
        (inner := getattr(error, "reason", None)) and isinstance(inner, Exception)
    ):
        error = inner
    return error


def _reason(error: Exception) -> str:
    """Returns the original cause in words."""
    innermost = _innermost(error)
    text = re.sub(r"^IncompleteRead\((.*)\)$", r"\1", str(innermost))
    text = re.sub(r"^<.*?>: |^\w+\(.*?\): ", "", text) or type(innermost).__name__
    return quoted(re.sub(r"//\S*@", "//***@", text))
