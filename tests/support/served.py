"""A web server for a folder on this computer, as any host of static files is one."""

from __future__ import annotations

import contextlib
import functools
import http.server
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass
class Served:
    """address: ends in a slash; asked: the path and the status of every request."""

    address: str
    asked: list[tuple[str, int]] = field(default_factory=list)


@contextlib.contextmanager
def served(folder: Path) -> Iterator[Served]:
    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_request(self, code: Any = "-", size: Any = "-") -> None:
            at.asked.append((self.path, int(code)))

        def log_message(self, format: str, *args: Any) -> None:
            pass

    class Server(http.server.ThreadingHTTPServer):
        def handle_error(self, request: Any, client_address: Any) -> None:
            pass  # a page that is left breaks its connections

    with Server(("127.0.0.1", 0), functools.partial(Handler, directory=folder)) as server:
        at = Served(f"http://127.0.0.1:{server.server_port}/")
        thread = threading.Thread(target=server.serve_forever, args=(0.1,), daemon=True)
        thread.start()
        try:
            yield at
        finally:
            server.shutdown()
            thread.join()
