"""What a language model suggests to somebody who types, and how a board learns it from what is typed.

The twin is the device's own `Words` on this computer. Measures take any model that gives logits for windows: the twin's
base with an adapter, or a float network.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgelora.base.progress import Progress, no_progress
from edgelora.board.link.client import Link
from edgelora.board.link.replies import WordsReply
from edgelora.core.formats.elm import pack_model
from edgelora.core.twin import device
from edgelora.core.twin.session import Session
from edgelora.learn.training.data.base import Base, adapter_ranks, pretrained_language
from edgelora.model.datasets import text
from edgelora.model.datasets.dataset import Dataset
from edgelora.model.floatnet import layers
from edgelora.model.floatnet.layers import FloatNet
from edgelora.model.floatnet.lora import ALPHA, merged, train_float_lora
from edgelora.model.quantization.quantize import quantize

own = device.module("words")
SINCE = 1900  # the first year of the base's text: a third of all, nearest to the owners
CALIBRATION = 64  # windows
ROOM = 1.5  # of the logits' range
FLOAT_RATE = 0.01
GO_MS = 500  # the board's time for each request
LEAST_WORD, TYPED, MOST = 4, 2, 12  # letters: of a word that is completed, of it typed before, of its rest
BEFORE = text.WINDOW - MOST  # characters that a completion sees
WORDS = 400  # words whose completion is measured
SUGGESTED = 3  # next characters that a board is asked for

Logits = Callable[[NDArray[np.uint8]], NDArray[np.floating]]  # of windows [N, length]: [N, length, symbols]


def language_base(progress: Progress = no_progress) -> tuple[FloatNet, Base]:
    """The base of a keyboard, float and quantized: characters, pretrained on everyone from `SINCE` to 1945."""
    net = pretrained_language(0, progress, since=SINCE)
    x = text.load_base_text(SINCE)[0].x
    model = quantize(net, x[:: len(x) // CALIBRATION][:CALIBRATION], head_room=ROOM)
    return net, Base("text.elm", pack_model(model, "text.elm"), model)


# --- what is suggested


@dataclass(frozen=True)
class Suggested:
    """On text that nobody learned from: bits a character, and shares of 1.

    first, three: the next character is the first suggestion, or among three. words: of `LEAST_WORD` letters or more,
    right after `TYPED` of them; completed: these, as `completions` has them.
    """

    bits: float
    first: float
    three: float
    words: float
    completed: list[tuple[str, str, str]] = field(repr=False)

    def as_json(self) -> dict[str, float]:
        return {name: getattr(self, name) for name in ("bits", "first", "three", "words")}


def suggested(logits: Logits, later: str) -> Suggested:
    bits, first, three = next_characters(logits, later)
    completed = completions(logits, later)
    words = float(np.mean([made == rest for _, rest, made in completed])) if completed else 0.0
    return Suggested(bits, first, three, round(words, 4), completed)


def next_characters(logits: Logits, later: str) -> tuple[float, float, float]:
    """Bits a character of a text, and shares of 1 that are the first suggestion, or among three."""
    ids = text.encode(later)
    part = text.windows(ids, text.WINDOW - text.COUNTED)
    counted = slice(text.WINDOW - text.COUNTED, None)
    wanted = part.y[:, counted].reshape(-1)
    rows = np.concatenate(
        [logits(some)[:, counted] for some in np.array_split(_windows(part), max(1, len(part) // 64))]
    ).reshape(len(wanted), -1)
    known = wanted < rows.shape[1]
    rows, wanted = rows[known], wanted[known]
    right = rows[np.arange(len(rows)), wanted]
    above = (rows > right[:, None]).sum(1)
    largest = rows.max(1)
    nats = np.log(np.exp(rows - largest[:, None]).sum(1)) + largest - right
    first, three = (round(float(np.mean(above < most)), 4) for most in (1, 3))
    return round(float(nats.mean() / np.log(2)), 4), first, three


def completions(logits: Logits, later: str) -> list[tuple[str, str, str]]:
    """Up to `WORDS` words: their first letters, their rest, and the rest that the model suggests."""
    plain = text.plain_text(later)
    found = [m for m in re.finditer(rf"\b[A-Za-z]{{{LEAST_WORD},}}\b", plain) if m.start() + TYPED >= BEFORE]
    found = found[:: max(1, len(found) // WORDS)][:WORDS]
    if not found:
        return []
    ids, ends = text.encode(plain), [m.start() + TYPED for m in found]
    x = np.zeros((len(found), text.WINDOW), np.uint8)
    for row, end in zip(x, ends, strict=True):
        row[:BEFORE] = ids[end - BEFORE : end]
    made, open_rows = [""] * len(found), np.arange(len(found))
    for at in range(BEFORE - 1, text.WINDOW - 1):
        best = logits(x[open_rows])[:, at].argmax(1)
        x[open_rows, at + 1] = best
        letters = np.array([text.SYMBOLS[symbol].isalpha() for symbol in best])
        for row, symbol in zip(open_rows[letters], best[letters], strict=True):
            made[row] += text.SYMBOLS[symbol]
        open_rows = open_rows[letters]
        if not len(open_rows):
            break
    return [(m[0][:TYPED], m[0][TYPED:], rest) for m, rest in zip(found, made, strict=True)]


def _windows(part: Dataset) -> NDArray[np.uint8]:
    return part.x[:, 0, :, 0].astype(np.uint8)


def integer_logits(base: Base, adapter: bytes | None) -> Logits:
    """Those of the base with an adapter, as the board computes them."""
    session = Session(base.elm, adapter_ranks(base, adapter), "infer")
    session.use(adapter)
    rows, output = text.WINDOW, base.model.output

    def of(x: NDArray[np.uint8]) -> NDArray[np.floating]:
        made = []
        for window in x:
            session.infer(window.view(np.int8).reshape(base.model.input.shape))
            made.append(session.logits.reshape(rows, -1).astype(np.float32))
        return (np.stack(made) - output.zero_point) * np.float32(output.scale)

    return of


def float_logits(net: FloatNet) -> Logits:
    return lambda x: layers.predict(net, x.astype(np.float32)[:, None, :, None], 64).reshape(*x.shape, -1)


def float_lora(net: FloatNet, taught: str, ranks: Sequence[int], seed: int = 0) -> FloatNet:
    """The float network after LoRA of the same ranks on a text, each window once."""
    part = text.windows(text.encode(taught), text.WINDOW)
    glance = Dataset(part.x[:1], part.y[:1])
    found = train_float_lora(net, part, glance, epochs=1, seed=seed, lr=FLOAT_RATE, batch=own.BATCH, ranks=list(ranks))
    return merged(net, found.adapters, ALPHA)


# --- typing


class TwinWords:
    """The device's `Words` on this computer. settings: as there. adapter: one that the store has already."""

    def __init__(self, base: Base, name: str, adapter: bytes | None = None, **settings: Any) -> None:
        flash = device.Flash.of(1 << 14)
        self.store = device.module("store").Store(flash)
        if adapter:
            self.store.put(name, adapter)
        self.own = own.Words(base.elm, self.store, name, **settings)

    @property
    def adapter(self) -> bytes | None:
        """The adapter in use; None: the base alone."""
        return bytes(self.own.adapter) if self.own.adapter else None

    @property
    def in_training(self) -> bytes:
        """The adapter that learns, whether or not it is better."""
        return bytes(self.own.in_training())

    @property
    def crc(self) -> int | None:
        return zlib.crc32(self.own.adapter) if self.own.adapter else None

    @property
    def ranks(self) -> bytes:
        return bytes(self.own.ranks)

    def learn(self, typed: str, progress: Progress = no_progress) -> None:
        """Types a text, a window at a time, and learns after each all that there is to learn."""
        for start in range(0, len(typed), text.WINDOW):
            self.own.type(typed[start : start + text.WINDOW])
            self.settle()
            progress(start, len(typed), f"{self.own.kept} adapters kept")

    def settle(self) -> list[int]:
        """Learns and validates all that waits. Returns the losses of windows learned, 1/4096 nat, in order."""
        losses = []
        while self.own.busy:
            loss = self.own.step()
            if loss is not None:
                losses.append(loss)
        return losses


@dataclass
class Typing:
    """A text typed on a board while a twin types it, too. end: the board's last answer.

    difference: what was not the twin's first, and after how many characters; "" while all is: the loss of every window
    learned and the adapter in use after it, suggestions and completions at the marks. adapters: the twin's in use after
    so many characters. step_us: of learning a window; losses: of windows, in order.
    """

    end: WordsReply
    difference: str = ""
    adapters: dict[int, bytes | None] = field(default_factory=dict)
    losses: list[int] = field(default_factory=list)
    times_us: list[int] = field(default_factory=list)

    @property
    def identical(self) -> bool:
        """Whether all that was compared is the twin's."""
        return not self.difference

    def compare(self, same: bool, what: str) -> None:
        """Notes the first difference."""
        if not same and not self.difference:
            self.difference = what

    @property
    def step_us(self) -> float | None:
        return float(np.median(self.times_us)) if self.times_us else None


def type_on_board(
    link: Link,
    opened: WordsReply,
    twin: TwinWords,
    typed: str,
    marks: Sequence[int],
    progress: Progress = no_progress,
) -> Typing:
    """Types a text on a board, which learns between windows; asks for suggestions at the marks, in characters.

    The twin begins as the board was opened: with the same adapter, or with none.
    """
    done = Typing(opened)
    done.compare(opened.crc == twin.crc, "the adapter that the board begins with")
    done.adapters[0] = twin.adapter
    for start in range(0, len(typed), text.WINDOW):
        part, end = typed[start : start + text.WINDOW], start + text.WINDOW
        asked = {"suggest": SUGGESTED, "complete": MOST} if end in marks else {}
        reply = link.words_type(part, **asked)
        twin.own.type(part)
        if asked:
            done.compare(agrees(twin, reply), f"suggestions after {end:,} characters")
        losses: list[int] = []
        while reply.busy:
            reply = link.words_go(GO_MS)
            losses += reply.losses
            done.times_us += reply.times_us
        done.losses += losses
        done.compare(losses == twin.settle(), f"the training loss after {end:,} characters")
        done.compare(reply.crc == twin.crc, f"the adapter in use after {end:,} characters")
        if end in marks:
            done.adapters[end] = twin.adapter
        progress(end, len(typed), f"{reply.learned} windows, {reply.kept} adapters kept")
        done.end = reply
    return done


def agrees(twin: TwinWords, reply: WordsReply) -> bool:
    """Whether the twin, which typed the same, suggests the same `SUGGESTED` characters and rest of the word."""
    mine = [list(pair) for pair in twin.own.suggest(SUGGESTED)]
    return mine == reply.suggested and twin.own.complete(MOST) == reply.completed


def key_by_key(link: Link, twin: TwinWords, typed: str) -> tuple[list[int], bool]:
    """Types single characters, each with three suggestions: microseconds of each, and whether the twin agrees."""
    times, same = [], True
    for character in typed:
        reply = link.words_type(character, suggest=SUGGESTED)
        twin.own.type(character)
        times.append(reply.us)
        same &= [list(pair) for pair in twin.own.suggest(SUGGESTED)] == reply.suggested
    return times, same
