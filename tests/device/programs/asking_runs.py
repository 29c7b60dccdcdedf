"""Asks for windows, makes and judges own rows from their labels, on MicroPython. Needs base.elm and windows.eld."""

import binascii
import json

import edgelora
from edgelora.asking import Asking
from edgelora.rows import OwnRows
from edgelora.training import SampleFile


def judged(model, labelled):
    """The rows' judgement, and their adapter."""
    rows = OwnRows(model, labelled)
    steps = sum(1 for _ in rows.judge())
    made = rows.adapter()
    adapter = made and binascii.hexlify(made.buffer).decode()
    model.use(None)
    return [steps, rows.unsure, rows.doubt, rows.before, rows.after, adapter]


def main(few, presses):
    """Presses so often; prints the windows asked for, and the rows after a few presses and after all."""
    model = edgelora.Model("base.elm", 4)
    model.use(None)
    windows = SampleFile("windows.eld")
    asking, asked, buffer = Asking(model, windows), [], bytearray(model.sample_size)
    for _ in range(presses):
        number = asking.ask()
        asked.append([number, asking.said, asking.margin])
        asking.label(number, windows.read(number, buffer))
        if len(asked) == few:
            first = judged(model, asking.labelled)
    print(json.dumps([asked, first, judged(model, asking.labelled)]))
