"""Downloads a file from an untrusted web server: size and time are limited, and every failure is a `FetchError`."""

from __future__ import annotations

import threading
import urllib.request
from http.client import HTTPException, HTTPResponse
from urllib.error import HTTPError, URLError

from edgelora.base.errors import EdgeloraError
from edgelora.base.text import printable

SILENCE = 20.0  # seconds without a byte
SECONDS = 120.0  # for the whole download


class FetchError(EdgeloraError, OSError):
    """The file did not arrive; the message says why."""


def fetch(url: str, limit: int, seconds: float = SECONDS) -> bytes:
    """Downloads the whole file at an http or https address, of at most `limit` bytes, within `seconds`.

    Follows redirections to http and https addresses only. Raises FetchError.
    """
    done: list[bytes | FetchError] = []

    def run() -> None:
        try:
            done.append(_whole(url, limit, min(seconds, SILENCE)))
        except FetchError as error:
            done.append(error)
        except (OSError, HTTPException, ValueError) as error:
            done.append(FetchError(f"{printable(url)}: {_reason(error)}"))

    # In a thread: a name lookup, or headers that trickle in, can't be given a deadline.
    worker = threading.Thread(target=run, daemon=True)
    worker.start()
    worker.join(seconds)
    if not done:
        raise FetchError(
            f"{printable(url)}: no complete answer within {seconds:g} s", remedy="is the server overloaded? Try again"
        )
    if isinstance(done[0], FetchError):
        raise done[0]
    return done[0]


def _whole(url: str, limit: int, silence: float) -> bytes:
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler,
        urllib.request.UnknownHandler,
        urllib.request.HTTPHandler,
        urllib.request.HTTPSHandler,
        urllib.request.HTTPDefaultErrorHandler,
        urllib.request.HTTPRedirectHandler,
        urllib.request.HTTPErrorProcessor,
    ):
        opener.add_handler(handler())
    with opener.open(url, timeout=silence) as answer:
        assert isinstance(answer, HTTPResponse)
        where = printable(url)
        if answer.status != 200:
            raise FetchError(f"{where}: the server answers {answer.status} {printable(answer.reason)}")
        declared = answer.length  # None if the server does not declare it
        content = bytearray()
        while len(content) <= limit and (declared or 0) <= limit and (part := answer.read(65536)):
            content += part
        if max(len(content), declared or 0) > limit:
            raise FetchError(f"{where}: has more than {limit} bytes, the limit for this kind of file")
        if declared is not None and len(content) != declared:
            raise FetchError(f"{where}: the server sent {len(content)} bytes of {declared}", remedy="try again")
    return bytes(content)


def _reason(error: Exception) -> str:
    if isinstance(error, HTTPError):
        return f"the server answers {error.code} {printable(error.reason)}; is the address right?"
    if isinstance(error, HTTPException):
        return f"the server's answer is not HTTP, or was truncated ({type(error).__name__}: {printable(error)[:100]})"
    if isinstance(error, OSError):
        why = error.reason if isinstance(error, URLError) else error
        return f"{printable(why)}; is the address right, and the server running?"
    return f"not a valid address ({printable(error)})"
