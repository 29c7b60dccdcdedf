"""MicroPython's raw REPL over a line: sends code, returns its output. All waits are on the board's clock."""

from __future__ import annotations

from .transport import Deadline, LineLost, Transport

INTERRUPT, RAW, FRIENDLY, RUN = b"\r\x03\x03", b"\r\x01", b"\r\x02", b"\x04"
RAW_PROMPT, PROMPT = b"raw REPL; CTRL-B to exit\r\n>", b">>> "
PASTE, PASTE_AGREED = b"\x05A\x01", b"R\x01"  # code with flow control: `\x01` from the board permits another window
REBOOTS = b"soft reboot"
MORE = 1
ROUNDS = 5  # of attempts to reach a prompt
QUIET_SECONDS, MOST_NOISE_SECONDS = 0.1, 2.0  # of silence after an interrupt, and its timeout
PROMPT_SECONDS = 3.0
CODE_SECONDS = 60.0  # for code to print something, or to end


class RawRepl:
    """`port` is the line's name in messages. Raises LineLost if the REPL does not answer as expected."""

    def __init__(self, line: Transport, port: str) -> None:
        self._line, self._port = line, port
        self._buffer = bytearray()

    def enter(self) -> None:
        """Stops whatever runs on the board (an agent, a program, a half-typed line) and enters the raw prompt."""
        for _ in range(ROUNDS):
            self._line.write(INTERRUPT)
            self._skip_noise()
            self._line.write(RAW)
            if self._until(RAW_PROMPT, PROMPT_SECONDS, 2 * PROMPT_SECONDS) is not None:
                self._skip_noise()  # answers to an earlier attempt
                return
        raise LineLost(f"{self._port}: no MicroPython REPL answers; reset the board, and check that it has MicroPython")

    def run(self, code: str) -> bytes:
        """Returns the output of `code`. Raises LineLost with the board's message if it raises."""
        self.start(code)
        self._expect(RUN, CODE_SECONDS)  # all of it has arrived
        output = self._expect(RUN, CODE_SECONDS)
        error = self._expect(RUN + b">", CODE_SECONDS)
        if error:
            last = error.decode(errors="replace").strip().splitlines()[-1]
            raise LineLost(f"{self._port}: the board could not run the code: {last}")
        return output

    def start(self, code: str) -> None:
        """Sends `code` and starts it."""
        self._line.write(PASTE)
        if self._exactly(2) != PASTE_AGREED:
            raise LineLost(f"{self._port}: this MicroPython is too old: flash 1.25 or later")
        window = room = int.from_bytes(self._exactly(2), "little")
        rest = code.encode()
        while rest:
            if not room or self._arrived():
                if self._exactly(1)[0] != MORE:
                    self._line.write(RUN)
                    raise LineLost(f"{self._port}: the board interrupted the transfer; reset it and try again")
                room += window
                continue
            self._line.write(rest[:room])
            rest, room = rest[room:], max(0, room - len(rest))
        self._line.write(RUN)

    def soft_reset(self) -> None:
        """Restarts MicroPython without main.py; back at the raw prompt."""
        self._line.write(RUN)
        self._expect(RAW_PROMPT, CODE_SECONDS)

    def restart(self) -> None:
        """Soft-resets MicroPython with main.py. There is no prompt afterwards."""
        self.leave()
        self._line.write(RUN)
        self._expect(REBOOTS, CODE_SECONDS)

    def leave(self) -> None:
        """Goes to the friendly prompt."""
        self._line.write(FRIENDLY)
        self._expect(PROMPT, CODE_SECONDS)

    def _skip_noise(self) -> None:
        most = Deadline(self._line.clock, MOST_NOISE_SECONDS)
        while most.left:
            quiet = Deadline(self._line.clock, QUIET_SECONDS)
            while not (data := self._line.read(4096, quiet.look)) and quiet.left:
                pass
            if not data:
                break
        self._buffer.clear()

    def _arrived(self) -> bool:
        self._buffer += self._line.read(1, 0)
        return bool(self._buffer)

    def _until(self, end: bytes, seconds: float, most_seconds: float = 0.0) -> bytes | None:
        """The input before `end`; None if nothing came for `seconds`, or if it is too long."""
        deadline = Deadline(self._line.clock, seconds)
        most = Deadline(self._line.clock, most_seconds or 10 * seconds)
        while (at := self._buffer.find(end)) < 0:
            data = self._line.read(4096, deadline.look)
            self._buffer += data
            if data:
                deadline = Deadline(self._line.clock, seconds)
            elif not deadline.left:
                return None
            if not most.left:
                return None
        found = bytes(self._buffer[:at])
        del self._buffer[: at + len(end)]
        return found

    def _expect(self, end: bytes, seconds: float) -> bytes:
        found = self._until(end, seconds)
        if found is None:
            raise LineLost(f"{self._port}: the board stopped answering while it ran code; reset it and try again")
        return found

    def _exactly(self, size: int) -> bytes:
        deadline = Deadline(self._line.clock, CODE_SECONDS)
        while len(self._buffer) < size:
            self._buffer += self._line.read(size - len(self._buffer), deadline.look)
            if len(self._buffer) < size and not deadline.left:
                raise LineLost(f"{self._port}: the board fell silent during the transfer; reset it and try again")
        found = bytes(self._buffer[:size])
        del self._buffer[:size]
        return found
