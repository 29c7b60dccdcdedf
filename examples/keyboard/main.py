"""Types on the computer, and finishes words: edgelora push examples/keyboard/main.py

A Pico with thirty keys is a USB keyboard. While a word is typed, a display shows its likely rest;
a key types it. When nobody types, the board learns from what was typed. The text stays in RAM.
"""

import time

from machine import I2C, Pin, Timer

from edgelora.keyboard import Keyboard
from edgelora.store import Store, default_place
from edgelora.words import Words

FINISH = "\t"  # the key that types the rest of the word
KEYS = ("abcdef", "ghijkl", "mnopqr", "stuvwx", "yz .\b" + FINISH)  # by row and column
ROWS = [Pin(pin, Pin.OUT, value=1) for pin in (2, 3, 6, 7, 8)]
COLUMNS = [Pin(pin, Pin.IN, Pin.PULL_UP) for pin in (9, 10, 11, 12, 13, 14)]
SCAN_MS = 10
QUIET_MS = 1500  # without a key before the board learns

down = bytearray(len(ROWS) * len(COLUMNS))  # whether each key is
pressed, ends = bytearray(64), bytearray(2)  # a ring of keys' numbers, its first and its end


def scan(timer):
    """Notes keys that go down, also while the board computes: allocates nothing."""
    i = 0
    for row in ROWS:
        row.value(0)
        for column in COLUMNS:
            now = not column.value()
            if now and not down[i]:
                pressed[ends[1]] = i
                ends[1] = (ends[1] + 1) % len(pressed)
            down[i] = now
            i += 1
        row.value(1)


def next_key():
    """The next character that was pressed; None if there is none."""
    if ends[0] == ends[1]:
        return None
    i = pressed[ends[0]]
    ends[0] = (ends[0] + 1) % len(pressed)
    return KEYS[i // len(COLUMNS)][i % len(COLUMNS)]


def show(word, rest):
    """Shows a word with its likely rest: on an SSD1306, if there is one, else on the serial port."""
    if display is None:
        return print(word + "|" + rest)
    display.fill(0)
    display.text(word[-16:], 0, 0)
    display.text(rest[:16], 0, 16)
    display.show()


try:
    from ssd1306 import SSD1306_I2C  # mpremote mip install ssd1306

    display = SSD1306_I2C(128, 32, I2C(0, sda=Pin(4), scl=Pin(5)))
except (ImportError, OSError):
    display = None
words = Words("/rom/text.elm", Store(default_place()), "me")
computer = Keyboard.shared()
timer = Timer(period=SCAN_MS, mode=Timer.PERIODIC, callback=scan, hard=True)
last, word, rest = time.ticks_ms(), "", ""
while True:
    key = next_key()
    if key is None:
        if words.busy and time.ticks_diff(time.ticks_ms(), last) > QUIET_MS:
            words.step()  # takes a while; keys that go down meanwhile are noted
        else:
            time.sleep_ms(1)
        continue
    last = time.ticks_ms()
    typed = rest + " " if key == FINISH else key
    computer.write(typed)
    words.type(typed)
    word = word[:-1] if typed == "\b" else (word + typed).split(" ")[-1]
    rest = words.complete() if word else ""
    show(word, rest)
