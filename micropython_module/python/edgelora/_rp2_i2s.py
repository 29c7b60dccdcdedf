# SPDX-License-Identifier: MIT
"""A microphone on an RP2040 or RP2350, by a state machine and DMA alone.

MicroPython's own I2S needs an interrupt each millisecond there. Interrupts wait while flash is written, 45 ms for each
erase; its two DMA channels go on meanwhile, and what they bring overwrites the memory behind their buffers. Here they
fill a ring, one after the other, without any interrupt: whatever waits, no other memory is written.
"""
# ruff: noqa: F821

import time

import rp2
import uctypes
from machine import Pin

from . import _core

if False:  # types of annotations: editors and tools/stubs.py read these lines, boards drop them
    from typing import Any

_COUNT = (1 << 28) - (1 << 15)  # transfers of a channel before the other takes over; whole rounds of any ring
_CLOCKS = 128  # of the state machine, a frame: two for each of 64 bits
_MARGIN = 32  # samples that may arrive while a block is copied


@rp2.asm_pio(
    sideset_init=(rp2.PIO.OUT_LOW, rp2.PIO.OUT_LOW),
    in_shiftdir=rp2.PIO.SHIFT_LEFT,
    autopush=True,
    push_thresh=16,
    fifo_join=rp2.PIO.JOIN_RX,
)
def _left():  # type: ignore[no-untyped-def]
    # side: word select, bit clock. A channel's first bit follows the edge that selects it by one clock.
    set(x, 14).side(0b00)
    label("upper")  # 16 bits, which are kept
    in_(pins, 1).side(0b01)
    jmp(x_dec, "upper").side(0b00)
    in_(pins, 1).side(0b01)
    set(x, 14).side(0b00)
    label("lower")
    nop().side(0b01)
    jmp(x_dec, "lower").side(0b00)
    nop().side(0b11)
    set(x, 30).side(0b10)
    label("right")
    nop().side(0b11)
    jmp(x_dec, "right").side(0b10)
    nop().side(0b01)


def _number(pin):
    return int(str(pin).split("GPIO")[1].split(",")[0])


class Driver:
    """Keeps the upper 16 bits of the left channel's 32.

    size: bytes to allocate, at least 512. Half of the largest power of 2 among them is a ring, at most 16 KB.
    ValueError: ws is not the pin behind sck. OSError: no DMA channel is free.
    """

    def __init__(self, sck: Any, ws: Any, sd: Any, rate: int, id: int, size: int) -> None:
        sck, ws, sd = Pin(sck), Pin(ws), Pin(sd, Pin.IN)
        if _number(ws) != _number(sck) + 1:
            raise ValueError("ws must be the pin behind sck: choose other pins")
        bits = 8  # so that the ring has several times the margin
        while 4 << bits <= size and bits < 14:
            bits += 1
        ring = memoryview(bytearray(2 << bits))
        first = -uctypes.addressof(ring) % (1 << bits)
        self._ring = ring[first : first + (1 << bits)]
        self._begin = uctypes.addressof(self._ring)
        self._room = 1 << bits - 1
        self._rate = rate
        self._in = self._out = self._unread = self.overruns = 0
        self._channels = ()
        number = 4 * id + 3  # the last one: programs begin with the first
        self._machine = rp2.StateMachine(number, _left, freq=_CLOCKS * rate, in_base=sd, sideset_base=sck)
        first_channel = rp2.DMA()
        try:
            self._channels = first_channel, rp2.DMA()
        except OSError:
            first_channel.close()
            raise
        for i, channel in enumerate(self._channels):
            ctrl = channel.pack_ctrl(
                size=1,
                inc_read=False,
                ring_size=bits,
                ring_sel=True,
                treq_sel=8 * id + 7,
                chain_to=self._channels[1 - i].channel,
            )
            channel.config(read=self._machine, write=self._ring, count=_COUNT, ctrl=ctrl)
        self._channels[0].active(1)
        self._machine.active(1)
        self._then = time.ticks_us()

    def read_into(self, buffer: Any) -> int:
        """Copies the samples that are there into an int16 buffer; returns how many. Allocates nothing."""
        self._look()
        done, wanted = 0, min(len(buffer), self._unread)
        while done < wanted:
            part = min(wanted - done, self._room - self._out)
            _core.take(buffer, done, self._ring, self._out, 1, part, 2)
            self._out = (self._out + part) % self._room
            done += part
        self._unread -= done
        return done

    def _look(self):
        # What has arrived since the last look; whole rounds that nobody looked at can only be told by the time.
        first, second = self._channels
        at = ((first if first.active() else second).write - self._begin) >> 1
        now, room = time.ticks_us(), self._room
        milliseconds = time.ticks_diff(now, self._then) // 1000
        self._then = now
        came = (at - self._in) % room
        came += max(0, milliseconds * self._rate // 1000 - came + room // 2) // room * room
        self._in = at
        self._unread += came
        lost = self._unread + _MARGIN - room
        if lost > 0:
            self.overruns += lost
            self._unread -= lost
            self._out = (at - self._unread) % room

    def close(self) -> None:
        self._machine.active(0)
        for channel in self._channels:
            channel.close()
