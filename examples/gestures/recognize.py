"""Says twice a second which gesture it sees: mpremote run examples/gestures/recognize.py"""

import json

from motion import Motion

import edgelora

with open("gestures.json") as file:
    known = json.load(file)
names, scale, zero_point = known["names"], known["scale"], known["zero_point"]

model = edgelora.Model("/rom/har.elm", ranks=8, mode="infer")
model.use(model.adapter("/adapter.ela"))  # where `personalize` leaves it

motion = Motion()
window = bytearray(model.input_size)  # int8 [100, 6], the newest last
count = 0
while True:
    values = [max(-128, min(127, round(v / scale) + zero_point)) & 255 for v in motion.next()]
    window = window[6:] + bytes(values)
    count += 1
    if count >= 100 and count % 25 == 0:
        seen = model.infer(window)
        print(names[seen] if seen < len(names) else "something else")
