"""The boot loader in an ESP32's ROM, emulated by esp32-mock-bootloader behind a TCP port."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator

from esp32_mock_bootloader.server import BootloaderConnection, FlashImage, handle_client


class Wire(BootloaderConnection):
    """A connection that breaks after `lasts` bytes from the host."""

    def __init__(self, sock: socket.socket, lasts: float) -> None:
        super().__init__(sock=sock)
        self.left = lasts

    def set_timeout(self, timeout: float) -> None:
        super().set_timeout(30.0)

    def recv(self, size: int) -> bytes:
        chunk = super().recv(size)
        self.left -= len(chunk)
        if self.left < 0:
            raise OSError("unplugged")
        return chunk


class Board:
    """An emulated boot loader. Its flash persists across connections."""

    def __init__(self, chip: str) -> None:
        self.chip, self.flash = chip, FlashImage()
        self.lines: list[float] = []  # bytes until each next connection breaks: 0 at once; later ones never break
        self.server = socket.create_server(("127.0.0.1", 0))
        self.url = f"socket://127.0.0.1:{self.server.getsockname()[1]}"
        self.stop = threading.Event()
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                sock, _ = self.server.accept()
                wire = Wire(sock, self.lines.pop(0) if self.lines else float("inf"))
                handle_client(wire, self.stop, self.chip, exit_on_disconnect=True, flash=self.flash)

    def close(self) -> None:
        self.stop.set()
        self.server.close()


@contextlib.contextmanager
def plugged() -> Iterator[Callable[[str], Board]]:
    """Makes emulated boards, which are closed at the end."""
    boards: list[Board] = []

    def make(chip: str) -> Board:
        boards.append(Board(chip))
        return boards[-1]

    yield make
    for board in boards:
        board.close()
