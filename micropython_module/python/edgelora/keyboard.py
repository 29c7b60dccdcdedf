# SPDX-License-Identifier: MIT
"""A USB keyboard beside the board's own port: an interface of USB's keyboard class after the firmware's own.

Reports follow the boot protocol: eight bytes, of which the first has modifiers and the third is a key. Needs
machine.USBDevice: RP2 boards, ESP32-S2 and S3.
"""

import time

_REPORT = (
    b"\x05\x01\x09\x06\xa1\x01\x05\x07\x19\xe0\x29\xe7\x15\x00\x25\x01\x75\x01\x95\x08\x81\x02"  # 8 modifiers
    b"\x95\x01\x75\x08\x81\x01\x95\x06\x75\x08\x15\x00\x25\x65\x05\x07\x19\x00\x29\x65\x81\x00\xc0"  # a byte, 6 keys
)
NAMES = {"enter": 40, "escape": 41, "backspace": 42, "tab": 43, "space": 44, "up": 82, "down": 81, "left": 80}
NAMES.update({"right": 79, "home": 74, "end": 77, "pageup": 75, "pagedown": 78})
_PLAIN = "abcdefghijklmnopqrstuvwxyz1234567890\n\0\b\t -=[]\\\0;'`,./"  # by number from _FIRST on, on a US keyboard
_SHIFTED = 'ABCDEFGHIJKLMNOPQRSTUVWXYZ!@#$%^&*()\0\0\0\0\0_+{}|\0:"~<>?'
_FIRST, _SHIFT = 4, 0x200
_HELD_MS = 30
_TRIES, _RETRY_MS = 20, 5  # a report takes up to 10 ms, if the computer listens


class Keyboard:
    """The board as a keyboard. Keys are those of a US layout. ValueError without machine.USBDevice."""

    _one = None

    @classmethod
    def shared(cls) -> "Keyboard":
        """The board's keyboard, created on first use: the board's port then reconnects to the computer."""
        if cls._one is None:
            cls._one = cls()
        return cls._one

    def __init__(self) -> None:
        try:
            from machine import USBDevice
        except ImportError:
            raise ValueError("this board can't be a keyboard: its MicroPython has no machine.USBDevice")
        self._usb = usb = USBDevice()
        own = usb.BUILTIN_DEFAULT
        self._interface, self._end = own.itf_max, own.ep_max | 0x80
        head = bytearray(own.desc_cfg)
        more = bytes((9, 4, self._interface, 0, 1, 3, 1, 1, 0))  # an interface: HID, boot, keyboard
        more += bytes((9, 0x21, 0x11, 1, 0, 1, 0x22, len(_REPORT), 0))  # HID 1.11, one report descriptor
        more += bytes((7, 5, self._end, 3, 8, 0, 10))  # an interrupt endpoint in, 8 bytes every 10 ms
        head[2:4] = (len(head) + len(more)).to_bytes(2, "little")
        head[4] += 1
        self._hid = more[9:18]
        self._report, self._due = bytearray(8), None
        usb.active(False)
        usb.builtin_driver = own
        usb.config(own.desc_dev, bytes(head) + more, {}, None, None, self._control, None)
        usb.active(True)

    def _control(self, stage, request):
        # Answers requests for descriptors, and accepts settings, which have no effect here.
        if stage != 1 or request[4] != self._interface:
            return stage != 1
        kind, what, which = request[0] & 0x60, request[1], request[3]
        if kind == 0 and what == 6:
            return {0x21: self._hid, 0x22: _REPORT}.get(which, False)
        return kind == 0x20 and (self._report if what == 1 else what in (10, 11))

    @staticmethod
    def code(key: str) -> int:
        """USB's number of a character's key or of one of `NAMES`, with Shift in bit 9; ValueError for others."""
        for keys, shift in ((_PLAIN, 0), (_SHIFTED, _SHIFT)):
            if len(key) == 1 and key > "\0" and key in keys:
                return _FIRST + keys.index(key) | shift
        if key in NAMES:
            return NAMES[key]
        raise ValueError("no key %s: give a character, or one of %s" % (key, ", ".join(sorted(NAMES))))

    def press(self, code: int) -> None:
        """Presses a key; `step` releases it later, `release` at once."""
        self._send(code)
        self._due = time.ticks_add(time.ticks_ms(), _HELD_MS)

    def step(self) -> None:
        """Releases a key `_HELD_MS` after it was pressed."""
        due = self._due is not None and time.ticks_diff(time.ticks_ms(), self._due) >= 0
        if due and self._send(0):
            self._due = None

    def release(self) -> None:
        """Releases a key now, as soon as the previous report is sent."""
        for _ in range(_TRIES):
            if self._due is None:
                return
            if self._send(0):
                self._due = None
            else:
                time.sleep_ms(_RETRY_MS)

    def write(self, text: str) -> None:
        """Types a text, one key after the other; "\\b" is the backspace. Characters without a key are left out."""
        for character in text:
            if character > "\0" and character in _PLAIN + _SHIFTED:
                for _ in range(_TRIES):
                    if self._send(self.code(character)):
                        break
                    time.sleep_ms(_RETRY_MS)
                self._due = 0
                self.release()

    def _send(self, code):
        self._report[0], self._report[2] = code >> 8, code & 255
        try:
            return self._usb.submit_xfer(self._end, self._report)
        except OSError:  # no computer reads, or the previous report is still under way
            return False
