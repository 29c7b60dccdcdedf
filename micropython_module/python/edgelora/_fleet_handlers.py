"""Handlers of the link's fleet requests (SPEC.md, section 10). SPDX-License-Identifier: MIT"""

import gc
import struct
import time

from . import fleet, hex_id


class FleetHandlers:
    """A member of a fleet that gets its messages over the link. handlers: the agent's, with the model and the store."""

    def __init__(self, agent, handlers):
        self._agent, self._line, self._handlers = agent, agent.line, handlers
        self._member = self._steps = None
        self._message, self._kept = None, 0
        self._opened = None  # settings of the open member

    def drop(self):
        """Drops the member before its model is closed."""
        self._member = self._steps = self._message = None

    def say(self, size):
        request = self._agent.json(size)
        do = request["do"]
        gc.collect()
        if do == "identity":
            fresh = request.get("fresh") or not fleet.Identity.exists()
            identity = fleet.Identity.create() if fresh else fleet.Identity()
            self._line.alive()
            return {"public": hex_id(identity.public)}
        if do == "forget":
            self.drop()
            fleet.Identity.forget()
            return {}
        if do == "install":
            for _ in fleet.install(request["path"], fleet.Identity()):
                self._line.alive()
        elif do == "open":
            return self._open(request)
        elif do == "go":
            return self._go(request["ms"])
        elif do == "budget":
            found = fleet.Identity() if fleet.Identity.exists() else None
            rounds, spent = (found.rounds, found.spent) if found else (0, 0)
            return {"rounds": rounds, "spent": str(spent), "policy": fleet.policy()}
        elif do != "status":
            raise ValueError(f"unknown request {do} for a fleet")
        return self._status()

    def _status(self):
        roster, identity = fleet.Roster(), fleet.Identity()
        return {
            "index": roster.index(identity.public),
            "roster": roster.number,
            "boards": roster.count,
            "fleet": hex_id(roster.fleet),
            "round": identity.round,
        }

    def _open(self, request):
        from .training import SampleFile

        path, adapter = request["path"], request.get("adapter") or fleet.ADAPTER
        opened = path, adapter, fleet.hash_of(adapter), fleet.Roster().number, request.get("neighbours")
        if self._member is None or self._opened != opened or self._member.over:
            self._handlers.close_model()
            model = fleet.open_model(adapter)  # first, because it needs the largest blocks of RAM
            names = ("neighbours", "commit_every", "clock_hz", "sleep_ms")
            settings = {name: request[name] for name in names if request.get(name)}
            self._member = fleet.Member(
                model,
                SampleFile(path),
                self._handlers.opened_store(),
                fleet.Identity(),
                adapter,
                sleep=time.sleep_ms,
                **settings,
            )
            self._member.keeps = False
            self._opened = opened
            del model
            gc.collect()
        return {"index": self._member.index, "free": gc.mem_free()}

    def data(self, size):
        """Takes the next part of a message: u32 offset, u32 size of the whole message, bytes."""
        self._agent.check_least(size, 8)
        offset, whole = struct.unpack_from("<II", self._line.body)
        if offset == 0:
            self._steps = self._message = None
            gc.collect()
            self._message, self._kept = bytearray(whole), 0
        end = offset + size - 8
        if self._message is None or offset != self._kept or end > len(self._message):
            raise ValueError(f"the message is at offset {self._kept}, not {offset}: send it again")
        self._message[offset:end] = self._line.body[8:size]
        self._kept = end
        struct.pack_into("<I", self._line.payload, 0, end)
        return 4

    def _go(self, ms):
        # Works on the message for about `ms` milliseconds, at least one step.
        member, until = self._member, time.ticks_add(time.ticks_ms(), ms)
        if member is None:
            raise ValueError("no member is open: open the model and the fleet first")
        if self._steps is None:
            if self._message is None or self._kept != len(self._message):
                raise ValueError("no complete message has come: send it first")
            self._steps, self._message = member.steps(self._message), None
        state = ""
        try:
            while state is not None:
                state = next(self._steps, None)
                self._line.alive()
                if state and time.ticks_diff(time.ticks_ms(), until) >= 0:
                    break
        except BaseException:
            self._steps = None
            raise
        run = member.run
        said = {"state": state, "samples": run.position if run else 0, "steps": run.steps if run else 0}
        if state is None:
            self._steps = None
            said.update(self._agent.download(":fleet", member.reply), state="ready")
        return said
