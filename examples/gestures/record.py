"""Records one gesture for 30 seconds: mpremote run examples/gestures/record.py > circle.csv"""

from motion import Motion

SECONDS = 30

motion = Motion()
for _ in range(50 * SECONDS):
    print(",".join(f"{value:.4f}" for value in motion.next()))
