"""A wake word on a board: it hears recordings with its own front end, network and adapter."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgelora.base.progress import Progress, no_progress
from edgelora.board.link.client import Link
from edgelora.learn.streaming.decisions import listen_on_board

from .guard import Heard, StreamScore
from .teaching import Recorded
from .word import Outputs, WakeWord


def on_board(
    link: Link,
    word: WakeWord,
    adapter: bytes | None,
    said: Sequence[Recorded],
    speech: Sequence[Recorded],
    progress: Progress = no_progress,
) -> StreamScore:
    """How a board does with the word's rule on recordings of the word and of other sound, each a stream of its own."""
    outputs: list[Outputs] = []
    every = [*said, *speech]
    for one in every:
        outputs.append(_outputs(link, word, adapter, one))
        progress(len(outputs), len(every), one.name)
    own, other = outputs[: len(said)], outputs[len(said) :]
    hours = sum(map(len, other)) * word.frame_seconds / 3600
    return Heard(own, [], [], other, hours).score(word.rule)


def _outputs(link: Link, word: WakeWord, adapter: bytes | None, recorded: Recorded) -> Outputs:
    replies = listen_on_board(link, word.base, [adapter] if adapter else [], recorded.sound.reshape(-1, 1))
    found = [int(decision.outputs[0]) + 128 for reply in replies for decision in reply.decisions]
    return np.array(found, np.uint8)
