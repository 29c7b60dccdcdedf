"""Non-blocking HTTP/1.0 for boards. SPDX-License-Identifier: MIT"""

import time

from ._trust import UpdateError

_BLOCK = 512
_HEAD_LIMIT = 2048  # maximum bytes of a response's header


class Http:
    """Requests to one server, as generators that yield while they wait.

    timeout_ms: maximum silence of the server; end: deadline of all requests, in ticks (ms).
    """

    def __init__(self, host, port, timeout_ms, end):
        self._host, self._port, self._timeout_ms, self._end_ms = host, port, timeout_ms, end
        self._socket = None
        self._buffer = bytearray(_BLOCK)
        self._view = memoryview(self._buffer)
        self.length = None  # bytes of the whole file, None if unknown
        self._at = self._end = 0

    def ask(self, method, path, more="", body=b""):
        """Sends a request; returns (status, fields) of the response. `read` returns its body. more: header lines."""
        self.close()
        request = "%s %s HTTP/1.0\r\nHost: %s:%d\r\nConnection: close\r\n%s" % (
            method,
            path,
            self._host,
            self._port,
            more,
        )
        if body:
            request += "Content-Length: %d\r\n" % len(body)
        yield from self.send((request + "\r\n").encode())
        yield from self.send(body)
        status, fields = yield from self._head()
        length = fields.get("content-length", "")
        self.length = int(length) if length.isdigit() else None
        return status, fields

    def send(self, data):
        """Sends bytes, of HTTP or another protocol; connects first if there is no connection."""
        if not self._socket:
            self._connect()
        data = memoryview(data)
        while data:
            yield from self._wait(4)  # POLLOUT
            data = data[self._socket.write(data) or 0 :]

    def read(self, most=_BLOCK):
        """Returns up to `most` bytes, valid until the next call; no bytes at the end."""
        if self._at == self._end:
            yield from self._fill()
        start, self._at = self._at, min(self._at + most, self._end)
        return self._view[start : self._at]

    def read_exactly(self, buffer):
        at = 0
        while at < len(buffer):
            data = (yield from self.read(len(buffer) - at)) or self.ended()
            buffer[at : at + len(data)] = data
            at += len(data)

    def close(self):
        if self._socket:
            self._socket.close()
            self._socket = None

    def _connect(self):
        import select
        import socket

        self._at = self._end = 0
        address = socket.getaddrinfo(self._host, self._port, socket.AF_INET, socket.SOCK_STREAM)[0][-1]
        self._socket = socket.socket()
        self._socket.setblocking(False)
        self._poll = select.poll()
        self._poll.register(self._socket)
        try:
            self._socket.connect(address)
        except OSError as error:
            if error.errno not in (115, 119, 36, 11):  # connection in progress: the number depends on the port
                raise

    def _wait(self, event):
        # Waits until there is data to read (1) or room to write (4), or the connection has failed.
        self._poll.modify(self._socket, event)
        deadline = time.ticks_add(time.ticks_ms(), self._timeout_ms)
        while True:
            if time.ticks_diff(self._end_ms, time.ticks_ms()) < 0:
                raise OSError("the server takes too long; the next try continues from here")
            if self._poll.poll(0):
                return
            if time.ticks_diff(deadline, time.ticks_ms()) < 0:
                raise OSError("the server is silent; the next try continues from here")
            yield

    def _fill(self):
        while True:
            yield from self._wait(1)
            count = self._socket.readinto(self._buffer)
            if count is not None:
                self._at, self._end = 0, count
                return

    def _head(self):
        # Reads the status and the header fields of a response.
        fields = {}
        status = None
        line = b""
        left = _HEAD_LIMIT
        while True:
            byte = bytes((yield from self.read(1)) or self.ended())
            left -= 1
            if not left:
                raise UpdateError("the server's answer is not HTTP: its head does not end")
            if byte != b"\n":
                line += byte
                continue
            text = "".join(chr(byte) for byte in line).strip()
            line = b""
            if status is None:
                if not text.startswith("HTTP/1.") or not text[9:12].isdigit():
                    raise UpdateError("the server's answer is not HTTP")
                status = int(text[9:12])
            elif text:
                key, _, value = text.partition(":")
                fields[key.lower()] = value.strip()
            else:
                return status, fields

    def ended(self):
        raise OSError("the server ended the connection; the next try continues from here")
