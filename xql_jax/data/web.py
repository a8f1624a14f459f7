"""What a server sends, piece by piece; no server, whatever it says, makes anybody wait for ever."""

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
    stall_seconds: float = 30.0  # without a byte
    slow_seconds: float = 60.0  # in which `least_rate` is to be met on average, what comes before included
    least_rate: float = 1000.0  # bytes/s
    attempts: int = 4  # in a row that bring nothing new, or little
    pause_seconds: float = 1.0  # before the second attempt, doubled before each further one

    @property
    def portion(self) -> float:
        """The bytes that are due every `slow_seconds`."""
        return self.least_rate * self.slow_seconds


PATIENCE = Patience()


class Passing(Exception):
    """A failure that may be gone at the next attempt."""


class Hopeless(Exception):
    """A failure that no further attempt will mend."""


class Transfer:
    """One request for a file: used as `with Transfer(...) as transfer`, then `answer`, then `pieces`.

    A thread of its own talks with the server. Where timeouts of single reads are of no avail, against names
    that do not resolve or a head that comes byte by byte, that thread is left to itself.

    Raises:
        Passing, Hopeless: for all that goes wrong on the way, from either method.
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
        """Returns the server's answer; its body is for `pieces` alone."""
        answer = self._next()
        assert isinstance(answer, requests.Response)
        return answer

    def pieces(self) -> Iterator[bytes]:
        """Yields the body in the order in which it comes, as it comes."""
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
        """The thread's work: puts the answer, the pieces of its body and an empty one; or what went wrong."""
        try:
            with _Session() as session, self._ask(session) as response:
                self._put(response)
                while not self._is_over.is_set() and (piece := response.raw.read1(CHUNK)):
                    self._put(piece)
                self._put(b"")
        except Exception as error:  # whatever it is, it is for the caller's thread to raise
            self._put(error)

    def _put(self, item: requests.Response | bytes | Exception) -> None:
        while not self._is_over.is_set():
            with contextlib.suppress(queue.Full):
                self._items.put(item, timeout=0.1)
                break

    def _ask(self, session: requests.Session) -> requests.Response:
        """Returns the answer after all redirections, whose bodies are not looked at."""
        url, timeout = self._url, (self._patience.connect_seconds, self._patience.stall_seconds)
        for _ in range(1 + MAX_REDIRECTIONS):
            response = session.get(url, headers=self._headers, stream=True, timeout=timeout)
            if not response.is_redirect:
                return response
            response.close()
            url = redirected(url, response.headers["Location"])
        raise Hopeless(f"more than {MAX_REDIRECTIONS} redirects")

    def _failure(self, error: Exception) -> Passing | Hopeless | None:
        """What an exception of the libraries' stands for; None for the program's own mistakes."""
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
        return Hopeless(reason) if isinstance(error, OSError) else None  # so are all of requests'


class _Session(requests.Session):
    def get_redirect_target(self, response: requests.Response) -> None:
        """None: requests would read a redirection's body to its end, and there may be none."""


def redirected(url: str, location: str) -> str:
    """Returns the address that `location`, of a redirection at `url`, stands for.

    Raises:
        Hopeless: if it is none, or not one of HTTP.
    """
    said = f"it redirects to '{quoted(without_password(location))}'"
    try:
        target = urllib.parse.urljoin(url, location.encode("latin-1").decode())  # as HTTP gives bytes
        old, new = urllib.parse.urlsplit(url), urllib.parse.urlsplit(target)
    except UnicodeDecodeError:
        raise Hopeless(f"{said}, which is not UTF-8") from None
    except ValueError:  # http://[::1
        raise Hopeless(f"{said}, which is no address") from None
    if new.scheme not in ("http", "https") or not new.netloc:
        raise Hopeless(f"{said}, which is no address of http:// or https://")
    _, at, host = old.netloc.rpartition("@")
    if at and (new.scheme, new.netloc) == (old.scheme, host):  # the same server: it may know the user
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
    # A slash within the password, perhaps: it is no address then.
    return start + slashes + "***" + rest[rest.rindex("@") :] if "@" in rest else url


def quoted(text: str) -> str:
    """Returns what a server says, fit to be shown."""
    return printable(text, LONGEST_QUOTE)


def _is_of_trust(error: Exception) -> bool:
    """Whether it is about certificates: the server's, or the file of those that are trusted."""
    innermost = _innermost(error)
    if isinstance(error, requests.exceptions.SSLError):  # those of the library's part "SSL" are of speaking
        is_refused = isinstance(innermost, ssl.SSLCertVerificationError)
        return is_refused or not isinstance(innermost, ssl.SSLError) or innermost.library != "SSL"
    return type(error) is OSError and "TLS" in str(error)  # as requests says that the file is not there


def _trusted() -> str:
    """What names the certificates that are trusted."""
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        if os.environ.get(name):
            return f"the trusted ones are those of {name}={os.environ[name]}"
    return "REQUESTS_CA_BUNDLE=FILE names others to trust"


def _innermost(error: BaseException) -> BaseException:
    """The first cause, which requests and urllib3 wrap into objects of their own."""
    while isinstance(inner := (error.args or ("",))[-1], Exception) or (
        (inner := getattr(error, "reason", None)) and isinstance(inner, Exception)
    ):
        error = inner
    return error


def _reason(error: Exception) -> str:
    """The first cause in words."""
    innermost = _innermost(error)
    text = re.sub(r"^IncompleteRead\((.*)\)$", r"\1", str(innermost))
    text = re.sub(r"^<.*?>: |^\w+\(.*?\): ", "", text) or type(innermost).__name__
    return quoted(re.sub(r"//\S*@", "//***@", text))
