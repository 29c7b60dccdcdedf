"""A fleet's board on MicroPython: stuck noise, power cuts."""

import os

import store_cuts
import vfs
from store_cuts import BLOCK, BLOCKS, NEVER, PAGE, Flash, PowerCut

from edgelora import fleet


class Os:
    """The module os with another source of noise."""

    def __init__(self, noise):
        self.urandom = noise

    def __getattr__(self, name):
        return getattr(os, name)


class Register:
    """os.urandom of an RP2040: bits that are shifted into a register of 8 bits."""

    def __init__(self, bit):
        self._bit, self._register = bit, 0

    def __call__(self, count):
        made = bytearray()
        for _ in range(count):
            for _ in range(8):
                stirs = 0xD5 if self._register & 128 else 0
                self._register = ((self._register << 1 | self._bit()) & 255) ^ stirs
            made.append(self._register)
        return bytes(made)


def biased(share):
    return lambda: os.urandom(1)[0] < share


def stuck():
    """No key is made from a stuck source; a biased one, as ring oscillators are, is accepted."""
    for machine, noise, good in (
        ("", os.urandom, True),
        ("", None, False),
        ("", lambda count: bytes(count), False),
        ("", lambda count: bytes(i & 255 for i in range(count)), False),
        ("", Register(lambda: 1), False),
        ("with RP2040", Register(lambda: 1), False),
        ("with RP2040", Register(lambda: 0), False),
        ("with RP2040", Register(biased(250)), False),
        ("with RP2040", Register(biased(5)), False),
        ("with RP2040", Register(biased(128)), True),
        ("with RP2040", Register(biased(190)), True),
    ):
        fleet.os, fleet._MACHINE = Os(noise), machine
        for turn in range(3):
            try:
                fleet.Identity.create(f"key{turn}")
                assert good
            except fleet.FleetError as error:
                assert not good and ("noise is stuck" if noise else "no os.urandom") in str(error)
        made = [name for name in os.listdir() if name.startswith("key")]
        assert len(made) == (3 if good else 0)
        for name in made:
            os.remove(name)
    fleet.os = os
    a, b = fleet.Identity.create("a"), fleet.Identity.create("b")
    assert a.secret != b.secret and len({a.draw(), a.draw(), b.draw(), fleet.Identity("a").draw()}) == 4
    print("OK")


def cuts():
    """Cuts the power at every flash operation of an identity. Prints `<cuts> <failures>`."""
    first = bytearray(b"\xff" * (BLOCK * BLOCKS))
    vfs.VfsLfs2.mkfs(Flash(first, NEVER), progsize=PAGE)
    store_cuts.mount(Flash(first, NEVER))
    identity = fleet.Identity.create("/s/fleet.key")
    identity.take_part(3)
    secret = identity.secret
    made = failures = 0
    for how in (0, 1, 2):
        cut = 0
        while True:
            image, answered = bytearray(first), 3
            flash = Flash(image, NEVER)
            store_cuts.mount(flash)
            identity = fleet.Identity("/s/fleet.key")
            flash.operations, flash.cut, flash.how = 0, cut, how
            try:
                identity.draw()
                for number in (4, 9):
                    identity.take_part(number)
                    answered = number
                break
            except (PowerCut, OSError):
                if flash.cut >= 0:
                    raise
            cut += 1
            made += 1
            store_cuts.mount(Flash(image, NEVER))
            found = fleet.Identity("/s/fleet.key")
            if found.secret != secret or not answered <= found.round <= 9 or found._starts not in (1, 2):
                failures += 1
                print("FAIL", cut, how, found.round)
    print(made, failures)


def flash():
    """Mounts the flash of the board in this folder as this program's filesystem."""
    import edgelora_flash

    device = edgelora_flash.FileFlash("flash", 256)
    edgelora_flash.store()
    vfs.umount("/")
    vfs.mount(vfs.VfsLfs2(device), "/")


def poll(url, replies):
    """A board that polls a gateway: sends this many replies, and prints its number of steps."""
    import time

    from edgelora.store import Store, default_place
    from edgelora.training import SampleFile

    flash()
    identity = fleet.Identity()
    try:
        for _ in fleet.fetch_roster(url, identity):
            pass
    except fleet.FleetError:  # after a restart the board already has it
        assert fleet.Roster().index(identity.public) is not None
    member = fleet.Member(None, SampleFile("/samples.eld"), Store(default_place()), identity)
    poller, steps = fleet.Poller(member, url), 0
    while replies:
        try:
            for _ in poller.steps():
                steps += 1
                time.sleep_ms(1)
        except (ValueError, OSError) as error:  # from the round before the restart, or without a gateway
            print("REFUSED", error)
            time.sleep_ms(20)
        replies -= poller.heard
    print("STEPS", steps)


def personalized():
    """The new adapter is no worse on held-out samples than the base and the previous adapter, and the same after power
    cuts. Needs base.elm, many.eld, global.ela, own.ela; prints how many held-out samples each adapter classifies
    correctly."""
    import edgelora
    from edgelora.store import Store
    from edgelora.training import Judge, SampleFile, better, split

    model, samples = edgelora.Model("base.elm", ranks=8), SampleFile("many.eld")
    held, told = split(samples)[1], []

    def judged(adapter):
        model.use(None) if adapter is None else model.load(adapter)
        judge = Judge(model, held)
        while not judge.step():
            pass
        return judge.right, judge.loss

    for own in (None, "own.ela"):
        ends = []
        for interrupted in (False, True):
            memory = bytearray(b"\xff" * (BLOCK * BLOCKS))
            store = Store(Flash(memory, NEVER), cache=0, adapters=8)
            if own:
                store.put("me", edgelora.read(own))
            for steps in (5, 3000, 5000, 5000, 0) if interrupted else (0,):
                for _ in fleet.personalize(model, samples, store, "me", "global.ela"):
                    steps -= 1
                    if not steps:
                        break
                else:
                    break
                store = Store(Flash(memory, NEVER), cache=0, adapters=8)
            ends.append(bytes(store.read("me")) if store.find("me") else None)
        assert ends[0] == ends[1]
        if not own:
            with open("personal.ela", "wb") as file:
                file.write(ends[0])
        end = judged(ends[0])
        told.append(end[0])
        for other in (None, own, "global.ela"):
            assert not better(*judged(other), *end), other
    print("RIGHT", held.count, *told)


class _Odd:
    """Samples that the base classifies correctly, except the first two thirds, which have wrong labels."""

    def __init__(self, model, samples):
        self.count, self.sample_size, self.target_size = samples.count, model.sample_size, 0
        buffer, self._samples, self._labels = bytearray(model.sample_size), samples, bytearray(samples.count)
        model.use(None)
        for i in range(samples.count):
            label = self._samples.read(self._place(i), buffer)
            named = model.evaluate(buffer, label, bytearray(4))
            others = len(model.labels) - 1
            self._labels[i] = named if 3 * i >= 2 * samples.count else (named + 1 + i % others) % (others + 1)

    def _place(self, i):
        return 37 * i % self.count

    def read(self, i, buffer):
        self._samples.read(self._place(i), buffer)
        return self._labels[i]


def _personalized(make_store, model, samples, adapter, steps=0):
    # (what was best, number of steps), or None if stopped after that many steps.
    run, count = fleet.personalize(model, samples, make_store(), "me", adapter), 0
    while count != steps or not steps:
        try:
            next(run)
        except StopIteration as ended:
            return ended.value, count
        count += 1


def personalized_or_not():
    """The adapter remains if the base is better, and trials with an older global adapter are discarded."""
    import edgelora
    from edgelora.store import Store
    from edgelora.training import SampleFile

    model, samples = edgelora.Model("base.elm", ranks=8), SampleFile("many.eld")
    memory = bytearray(b"\xff" * (BLOCK * BLOCKS))

    def store():
        return Store(Flash(memory, NEVER), cache=0, adapters=8)

    own = edgelora.read("own.ela")
    store().put("me", own)
    best, _ = _personalized(store, model, _Odd(model, samples), "global.ela")
    kept = [e.name for e in store().list()]
    assert best is None and store().read("me") == own and kept == ["me"], (best, kept, store().read("me") == own)

    ends = []
    steps = 0
    for stops in ((), (0.5,), (0.95,)):
        memory[:] = b"\xff" * len(memory)
        for part in stops:
            assert _personalized(store, model, samples, "global.ela", int(part * steps)) is None
        best, steps = _personalized(store, model, samples, "other.ela")
        assert [e.name for e in store().list()] == ["me"]
        ends.append((best, bytes(store().read("me"))))
    assert ends == [ends[0]] * 3
    print("BEST", ends[0][0])
