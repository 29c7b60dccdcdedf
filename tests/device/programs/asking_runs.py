"""Asks for windows, makes and judges own rows from their labels, on MicroPython. Needs base.elm and windows.eld."""

import binascii
import json

import edgelora
from edgelora.asking import Asking
from edgelora.rows import OwnRows
from edgelora.training import SampleFile


def main(presses):
    """Presses so often; prints the windows asked for, the rows' judgement, and their adapter."""
    model = edgelora.Model("base.elm", 4)
    model.use(None)
    windows = SampleFile("windows.eld")
    asking, asked, buffer = Asking(model, windows), [], bytearray(model.sample_size)
    for _ in range(presses):
        number = asking.ask()
        asked.append([number, asking.said, asking.margin])
        asking.label(number, windows.read(number, buffer))
    rows = OwnRows(model, asking.labelled)
    steps = sum(1 for _ in rows.judge())
    made = rows.adapter()
    adapter = made and binascii.hexlify(made.buffer).decode()
    print(json.dumps([asked, steps, rows.doubt, rows.before, rows.after, adapter]))
