"""The studio's server: on loopback only, access-controlled, until Ctrl-C."""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import webbrowser
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

from edgelora.base.errors import FileError, InputError, MissingPackage

from .auth import Guard
from .project import Project

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

HOST = "127.0.0.1"


def serve(folder: Path, on_ready: Callable[[str], None], *, port: int = 0, browser: bool = True) -> None:
    """Serves the project in a folder, created if missing, until Ctrl-C.

    on_ready: gets the address with its token, once it can be opened. port: 0 for any free one. browser: open it.
    Raises `MissingPackage` without the extra `studio`, FileError if the port is taken or the folder can't be created,
    InputError if another studio uses the folder.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FileError(
            f"{folder} can't be used as a project folder: {error.strerror}", remedy="give a writable folder"
        ) from None
    # Read when the framework is imported; the studio stores nothing there.
    os.environ["NICEGUI_STORAGE_PATH"] = str(folder.resolve() / ".page")
    try:
        import nicegui  # noqa: F401
    except ImportError as error:
        raise MissingPackage(
            f"the studio needs the package nicegui ({error})", remedy="pip install 'edgelora[studio]'"
        ) from None
    import uvicorn
    from fastapi import FastAPI

    from .views.layout import show

    with _alone(folder), contextlib.closing(_bound(port)) as listening:
        port = listening.getsockname()[1]
        token = secrets.token_urlsafe(32)
        url = f"http://{HOST}:{port}/?token={token}"
        project = Project(folder)

        @contextlib.asynccontextmanager
        async def lifespan(app: FastAPI) -> AsyncIterator[None]:
            project.open()
            on_ready(url)
            if browser:
                webbrowser.open(url)
            yield

        app = FastAPI(lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)
        show(app, project)
        config = uvicorn.Config(
            Guard(app, port, token),
            log_level="warning",
            ws="wsproto",
            proxy_headers=False,
            server_header=False,
            timeout_graceful_shutdown=2,
        )
        try:
            uvicorn.Server(config).run(sockets=[listening])
        finally:
            project.close()


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Locks the project: two studios would compete for its boards. Not checked on Windows."""
    with open(folder / ".studio.lock", "a") as file:
        if fcntl is not None:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                remedy = "use its page, stop it with Ctrl-C, or give another folder"
                raise InputError(f"a studio is open on {folder} already", remedy=remedy) from None
        yield


def _bound(port: int) -> socket.socket:
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((HOST, port))
        listening.listen()  # early connections wait until the server runs
    except OSError as error:
        listening.close()
        raise FileError(
            f"port {port} of this computer can't be listened on: {error.strerror}", remedy="give another --port-http"
        ) from None
    return listening
