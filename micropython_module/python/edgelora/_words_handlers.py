"""Requests of the link about a text that is typed (SPEC.md, section 10). SPDX-License-Identifier: MIT"""

import gc
import time

from . import _core


class WordsHandlers:
    """Types over the link into a `Words` on the board. handlers: has the store, and gives up its model."""

    def __init__(self, agent, handlers):
        self._agent, self._handlers = agent, handlers
        self._words = None

    def drop(self):
        self._words = None

    def say(self, size):
        request = self._agent.json(size)
        do = request["do"]
        if do == "open":
            return self._open(request)
        if self._words is None:
            raise ValueError("no text is open: open one first")
        method = {"type": self._type, "go": self._go, "use": self._use}.get(do)
        if method is None:
            raise ValueError("unknown request %s for a text" % do)
        return method(self._words, request)

    def _open(self, request):
        from . import words

        self._handlers.close_model()
        options = {}
        for key in ("ranks", "recompute", "mode", "learning_rate", "seed", "times"):
            value = request.get(key)
            if value is not None:
                options[key] = bytes(value) if isinstance(value, list) else value
        self._words = words.Words(request["path"], self._handlers.opened_store, request["name"], **options)
        gc.collect()
        return self._state()

    def _type(self, words, request):
        # Characters, then suggestions and a completion if they are asked for.
        start = time.ticks_us()
        taken = words.type(request.get("text", ""))
        suggested = words.suggest(request["suggest"]) if request.get("suggest") else []
        completed = words.complete(request["complete"]) if request.get("complete") else ""
        us = time.ticks_diff(time.ticks_us(), start)
        return self._state({"taken": taken, "suggested": suggested, "completed": completed, "us": us})

    def _go(self, words, request):
        until = time.ticks_add(time.ticks_ms(), request["ms"])
        losses, times = [], []
        while words.busy and len(losses) < 50:
            start = time.ticks_us()
            loss = words.step()
            if loss is not None:
                losses.append(loss)
                times.append(time.ticks_diff(time.ticks_us(), start))
            self._agent.line.alive()
            if time.ticks_diff(time.ticks_ms(), until) >= 0:
                break
        return self._state({"losses": losses, "times_us": times})

    def _use(self, words, request):
        start = time.ticks_us()
        words.use(request["name"])
        return self._state({"us": time.ticks_diff(time.ticks_us(), start)})

    def _state(self, more=()):
        words = self._words
        adapter = words.adapter
        state = {
            "name": words.name,
            "busy": words.busy,
            "learned": words.learned,
            "skipped": words.skipped,
            "judged": words.judged,
            "kept": words.kept,
            "undone": words.undone,
            "arena": words.arena_bytes,
            "free": gc.mem_free(),
            "crc": _core.crc32(adapter, 0) if adapter else None,
        }
        state.update(more)
        return state
