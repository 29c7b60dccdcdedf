# SPDX-License-Identifier: MIT
"""Suggestions while somebody types, by a language model that learns from what is typed.

    words = Words("/rom/text.elm", Store("/adapters"), "me")
    words.type("Dear Ann")       # as it is typed; a backspace takes a character back
    print(words.suggest())       # the likeliest next characters
    print(words.complete())      # the rest of the word
    while words.busy:            # between two keystrokes
        words.step()             # learns from a window of the text, or validates on one

Text is only in RAM, and only until it is learned. One window in `HELD_OUT` is not learned but validates: an adapter is
used once it is better on these windows than what was in use, by more than chance, and then kept in the store.
"""

from . import Model, _core, read
from ._index import checked
from .training import stored

if False:  # types of annotations: editors and tools/stubs.py read these lines, boards drop them
    from collections.abc import Callable

    from ._types import Buffer
    from .store import Store

SYMBOLS: str = "\n" + "".join([chr(code) for code in range(32, 127)])  # by number, of a base of characters
RANK, MATRICES = 4, 3  # of adapters: on the last matrices, which train beside a model that decodes in a Pico's heap
RATE, BATCH, MOMENTUM = 3000, 4, 3
HELD_OUT = 8  # one window in so many validates
MOST_HELD, LEAST_HELD = 16, 4  # windows that validate: the latest
JUDGED = 32  # learned windows between two validations
MOST_WAITING = 16  # windows that wait to be learned; of more the oldest are skipped
_LAST_KINDS = (1, 2, 25)  # dense, conv, project


class Words:
    """Suggestions for one text, and the adapter `name` of the store, which learns it.

    base: a language model of characters, a path or a buffer. ranks: of each op's adapter; None: `RANK` on the last
    `MATRICES` matrices. times: how often a window is learned; with little text, more than once makes an adapter worse.
    recompute: as for `Model`, to save memory. symbols: the characters by number. Two models are open: one that trains
    and one that decodes; a function that opens the store is called behind them, as what a store keeps may lie in the
    way of large arenas. `type`, `suggest` and `complete` work at any time between two steps.
    """

    name: str
    length: int  # of a window, in characters
    store: Store
    rate: int
    seed: int
    times: int
    symbols: str  # those that the base knows
    learned: int  # windows so far, each time counted
    skipped: int  # windows that were never learned: too many waited
    judged: "tuple[int, int, int] | None"  # last validation: losses before and after, 1/4096 nat, and windows
    kept: int  # validations whose adapter was better, and is used since
    undone: int  # validations whose adapter was worse: training returned to the one in use

    def __init__(
        self,
        base: str | Buffer,
        store: "Store | Callable[[], Store]",
        name: str,
        ranks: Buffer | None = None,
        mode: str = "trainable_a",
        recompute: Buffer | None = None,
        learning_rate: int = RATE,
        seed: int = 0,
        times: int = 1,
        symbols: str = SYMBOLS,
    ) -> None:
        data = read(base)
        ranks = _last_ranks(data) if ranks is None else ranks
        self._model = Model(data, ranks, mode, BATCH, MOMENTUM, recompute)
        self._reader = Model(data, ranks, "decode")
        self.length = self._model.input_size
        known = self._reader.output_size  # a base may lack the last symbols, which its text did not have
        if self._model.target_size != self.length or known > len(symbols):
            raise ValueError(
                "this base has %d outputs for %d symbols: give a language model of characters" % (known, len(symbols))
            )
        self.store = store() if callable(store) else store
        self.rate, self.seed, self.times, self.symbols = learning_rate, seed, times, symbols[:known]
        self._kept = self._spare = self._rooms = None  # the adapter in use, room for the next one, both in turn
        self._loss = bytearray(4)
        self.use(name)

    def use(self, name: str) -> None:
        """Goes on with another person's adapter, or a new one; forgets all text, also what was not learned yet.

        name: one that the store takes, StoreError otherwise.
        """
        checked(name)
        self._model.use(None)
        self._reader.use(None)
        self.name, self._spare, self._rooms = "", None, None  # no one's, should this fail: the store takes no such name
        self._kept = stored(self.store, name, self._model)
        self._use(self._reader, self._kept)
        self._return()
        size, kept = _core.adapter_size(self._model.arena, False), self._kept
        self._spare = bytearray(size)  # now, while there is a gap for each
        self._rooms = self._spare, kept if kept and len(kept) == size else bytearray(size)
        self._window, self._recent = bytearray(), bytearray()
        self._new = self._again = 0  # symbols that the reader has not taken; of these, read once and taken back
        self._waiting, self._held, self._trying, self._windows = [], [], None, 0
        self.learned = self.skipped = self.kept = self.undone = 0
        self.judged = None
        self._reader.reset()
        self.name = name

    def forget(self) -> None:
        """Removes the person's adapter, also from the store, and starts over."""
        if self.store.find(self.name):
            self.store.remove(self.name)
        self.use(self.name)

    @property
    def adapter(self) -> bytearray | None:
        """The bytes of the adapter in use, as in the store; None: the base alone."""
        return self._kept

    def in_training(self) -> bytearray:
        """The bytes of the adapter that learns, whether or not it is better."""
        return self._model.save()

    @property
    def ranks(self) -> bytes:
        """Rank of each op's adapter."""
        return self._model.ranks

    @property
    def arena_bytes(self) -> int:
        """Bytes of both models' arenas."""
        return len(self._model.arena) + len(self._reader.arena)

    def _use(self, model, adapter):
        model.use(adapter and model.adapter(adapter))

    def _return(self):
        # Training goes on from the adapter in use.
        if self._kept:
            self._model.load(self._kept)
        else:
            self._model.begin(self.seed)

    # --- text

    def type(self, text: str) -> int:
        """Takes characters as they are typed; returns how many the base knows. "\\b" takes the last one back."""
        taken = 0
        for character in text:
            if character == "\b":
                self._take_back()
                continue
            symbol = self.symbols.find(character)
            if symbol >= 0:
                self._take(symbol)
                taken += 1
        return taken

    def _take(self, symbol):
        self._recent.append(symbol)
        self._new += 1
        if len(self._recent) > 2 * self.length:
            self._recent = self._recent[-self.length :]
        self._window.append(symbol)
        if len(self._window) > self.length:
            self._queue(self._window)
            self._window = bytearray((symbol,))

    def _queue(self, window):
        held = self._windows % HELD_OUT == 0
        self._windows += 1
        if len(self._waiting) == MOST_WAITING:
            self._waiting.pop(0)
            self.skipped += 1
        self._waiting.append((window, 0 if held else self.times))

    def _take_back(self):
        if len(self._window) < (2 if self._windows else 1):  # what is left is in a whole window
            return
        self._window = self._window[:-1]
        self._recent = self._recent[:-1]
        if self._new > self._again:
            self._new -= 1
        else:  # the one before it is computed again, for its probabilities
            self._reader.back(2 - self._new)
            self._new = self._again = min(1, len(self._recent))

    def _read(self, room=1):
        # Lets the reader take what was typed since; with room for so many symbols after it.
        reader, half = self._reader, self.length // 2
        left = self.length - reader._taken - self._new
        if self._new > half or left < room or not reader._taken:
            reader.reset()
            self._new = min(half, len(self._recent))
        for symbol in self._recent[len(self._recent) - self._new :]:
            reader.next(symbol)
        self._new = self._again = 0
        return bool(self._recent)

    def suggest(self, count: int = 3) -> "list[tuple[str, int]]":
        """The likeliest next characters, with their probabilities in 1/32768; none before the first character."""
        found = self._reader.suggest(count) if self._read() else []
        return [(self.symbols[symbol], probability) for symbol, probability in found]

    def complete(self, most: int = 12) -> str:
        """The likeliest rest of the word: up to `most` letters, fewer than half a window."""
        made, reader, most = "", self._reader, min(most, self.length // 2 - 1)
        if not self._read(most + 1):
            return made
        symbol = reader.suggest(1)[0][0]
        while len(made) < most and self.symbols[symbol].isalpha():
            made += self.symbols[symbol]
            symbol = reader.next(symbol)
        if made:
            reader.back(len(made) + 1)
            reader.next(self._recent[-1])
        return made

    # --- learning

    @property
    def busy(self) -> bool:
        """Whether there is something to learn, or a validation is under way."""
        return bool(self._waiting) or self._trying is not None

    def step(self) -> int | None:
        """Learns one window, or validates on one; returns the loss of a window learned, as `Model.train` does."""
        if self._trying is not None:
            self._judge()
        elif self._waiting:
            window, times = self._waiting.pop(0)
            if times:
                return self._learn(window, times - 1)
            self._held.append([window, None, None])
            self._held = self._held[-MOST_HELD:]

    def _learn(self, window, times):
        view = memoryview(window)
        loss = self._model.train(view[:-1], view[1:], self.rate)
        if times:
            self._waiting.append((window, times))
        self.learned += 1
        if self.learned % JUDGED == 0 and len(self._held) >= LEAST_HELD:
            self._model.use(None)
            _core.save(self._model.arena, False, self._spare)
            for held in self._held:
                held[2] = None
            self._trying = False
            self._use(self._model, self._kept)
        return loss

    def _judge(self):
        # Validates on one window: by what is in use, where that is not known yet, then by the new adapter.
        which = 2 if self._trying else 1
        for held in self._held:
            if held[which] is None:
                view = memoryview(held[0])
                self._model.evaluate(view[:-1], view[1:], self._loss)
                held[which] = int.from_bytes(self._loss, "little")
                return
        if not self._trying:
            self._trying = True
            self._use(self._model, self._spare)
            return
        self._trying = None
        self._decide()

    def _decide(self):
        gains = [before - after for _, before, after in self._held]
        gain, spread = sum(gains), sum([one * one for one in gains])
        self.judged = (
            sum([before for _, before, _ in self._held]),
            sum([after for _, _, after in self._held]),
            len(gains),
        )
        if gain * gain <= spread:  # may be chance: learns on
            return
        if gain < 0:
            self.undone += 1
            self._return()
            return
        self.store.put(self.name, self._spare)
        self.kept += 1
        self._kept = self._spare
        self._use(self._reader, self._kept)
        self._spare = self._rooms[self._kept is self._rooms[0]]
        self._reader.reset()
        self._new = min(self.length // 2, len(self._recent))
        for held in self._held:
            held[1] = held[2]


def _last_ranks(data):
    # RANK for the last MATRICES matrices of a base.
    count, table = _core.model_check(data)[0], int.from_bytes(data[32:36], "little")
    ranks, left = bytearray(count), MATRICES
    for i in reversed(range(count)):
        if left and data[table + 36 * i] in _LAST_KINDS:
            ranks[i] = RANK
            left -= 1
    return ranks
