"""Interrupted and resumed runs, and their scheduler, on MicroPython. Needs base.elm and the .eld files."""

import binascii
import time

import micropython
import store_cuts
from store_cuts import NEVER

import edgelora
import edgelora.training as training
from edgelora.store import Store

EPOCHS, SEED, RATE, COMMIT_EVERY = 2, 7, 6000, 2
MOMENTA = {"frozen_a": 2, "trainable_a": 2}
NAME = "me"


class Rtc:
    """Memory like an ESP32's RTC memory."""

    kept = b""

    def memory(self, data=None):
        if data is None:
            return self.kept
        self.kept = bytes(data)


def make(
    mode, place, rtc=None, ranks=4, epochs=EPOCHS, rate=RATE, samples="samples.eld", held=None, batch=8, **started
):
    model = edgelora.Model("base.elm", ranks=ranks, mode=mode, momentum=MOMENTA[mode], micro_batch=batch)
    store = Store(place, cache=0, adapters=8)
    samples, held = training.SampleFile(samples), held and training.SampleFile(held)
    return training.Run(model, samples, store, NAME, epochs, SEED, rate, COMMIT_EVERY, rtc, held, **started)


def kept(run):
    """The adapter that the run has left in the store."""
    return run.store.read(NAME + (".new" if run.better is False else ""))


def started(mode):
    """Runs from the masters of start.ela, each reset after some steps and resumed: prints the final masters. Then a run
    from there with held-out samples."""
    memory = bytearray(b"\xff" * store_cuts.BLOCK * store_cuts.BLOCKS)
    place = store_cuts.Flash(memory, NEVER)
    for steps in (0, 1, 8, 15, 33, 40):
        run = make(mode, place, start="start.ela", keep_state=True)
        for _ in range(steps):
            run.step()
        if steps < 40:
            training.discard(run.store, NAME) if steps % 3 == 0 else run.suspend()
            run = make(mode, place, start="start.ela", keep_state=True)
            assert run.resumes == (steps % 3 > 0)
            finished(run)
        assert run.done and run.store.find(NAME) is None
        again = make(mode, place, start="start.ela", keep_state=True)  # a reset after its end
        assert again.position == again.steps
        again.step()
        assert again.done and again.state == run.state
        print("VECTOR", binascii.hexlify(training.fleet_vector(again.state)).decode())
        try:
            make(mode, place, start="other.ela", keep_state=True)
            raise AssertionError("another start goes on")
        except ValueError as error:
            assert "other settings" in str(error)
        training.discard(run.store, NAME)
        assert not run.store.list()
    run = make(mode, place, start="start.ela", held="held.eld")
    print("ADAPTER", binascii.hexlify(kept(finished(run))).decode())


def judged():
    """Runs with held-out samples: prints the result for each setting as JSON, without and with suspending every
    evaluation."""
    import json

    told = []
    for mode, epochs, rate, batch in (
        ("frozen_a", 9, 60000, 8), ("trainable_a", 4, 10000, 8), ("frozen_a", 5, 1, 32), ("frozen_a", 9, 6000, 5)
    ):  # fmt: skip
        for suspends in (False, True):
            memory = bytearray(b"\xff" * store_cuts.BLOCK * store_cuts.BLOCKS)
            settings = {"epochs": epochs, "rate": rate, "held": "held.eld", "batch": batch}
            run = make(mode, store_cuts.Flash(memory, NEVER), **settings)
            micropython.heap_lock()
            for _ in range(run._judge.count - 1):
                run.step()
            micropython.heap_unlock()
            wakes = 0
            while not run.done:
                run.step()
                if suspends and run._judge.at == 1:
                    run.suspend()
                    assert run.between
                    if not run.done:  # the suspended run resumes after this evaluation
                        judged, updates = run.judged, run.updates
                        run = make(mode, store_cuts.Flash(memory, NEVER), **settings)
                        assert (run.judged, run.updates, run._judge.at) == (judged, updates, 0)
                        wakes += 1
            ends = [run.before, run.best, run.best_epoch, run.judged, run.better]
            ends.append(binascii.hexlify(kept(run)).decode())
            assert (run.store.find(NAME) is None) == (run.better is False) and wakes >= suspends
            told.append([mode, epochs, rate, batch] + ends)
    print("JUDGED", json.dumps(told))


def blank(previous):
    """Flash with an empty store, or with a previous adapter."""
    memory = bytearray(b"\xff" * store_cuts.BLOCK * store_cuts.BLOCKS)
    if previous:
        Store(store_cuts.Flash(memory, NEVER), cache=0, adapters=8).put(NAME, previous)
    return memory


def cuts(mode, with_rtc, held=None, rate=RATE, ranks=4, every=1):
    """Cuts the power before, within and after every flash operation of a run, or each `every`-th, and after every step:
    adapters and training state are the same in the end. Prints those of the run, whether it was better, the size of its
    checkpoint, and finally `CUTS <cuts> <failures>`.

    held: held-out samples; the adapter in use before then has another A. rate: of the run.
    """
    previous = None
    if held:
        model = edgelora.Model("base.elm", ranks=4, mode=mode, momentum=MOMENTA[mode])
        model.begin(SEED + 1)
        previous = model.save()

    def life(cut, how=0, steps=NEVER):
        """Whether the power failed; the store's content, the training state if the run did not end before, the run."""
        memory, rtc = blank(previous), Rtc() if with_rtc else None
        never, run = store_cuts.Flash(memory, NEVER), None
        try:
            run = make(mode, store_cuts.Flash(memory, cut, how), rtc, ranks, held=held, rate=rate)
            while not run.done and steps:
                run.step()
                steps -= 1
            is_cut = not run.done
        except store_cuts.PowerCut:
            is_cut = True
        if is_cut and contents(Store(never, cache=0, adapters=8)) != wanted:  # else the cut was after its end
            run = finished(make(mode, never, rtc, ranks, held=held, rate=rate))
            assert not run.notice, run.notice
        assert not (rtc and rtc.kept), "a checkpoint is left"
        ends = bytes(run.model.save(state=True)) if run and run.done else state
        return is_cut, contents(Store(never, cache=0, adapters=8)), ends, run

    wanted = state = None
    _, wanted, state, run = life(NEVER)
    made = failures = 0
    for how in (0, 1, 2, None):  # None: after steps
        cut, is_cut = 0, True
        while is_cut:
            is_cut, *found, _ = life(NEVER, 0, cut) if how is None else life(cut, how)
            made += is_cut
            if found != [wanted, state]:
                failures += 1
                print("FAIL", cut, how, list(found[0]))
            cut += every
    print("BETTER", run.better)
    print("CHECKPOINT", run.checkpoint_size)
    print("STATE", binascii.hexlify(state).decode())
    print("ADAPTER", binascii.hexlify(kept(run)).decode())
    print("CUTS", made, failures)


def finished(run):
    while not run.done:
        run.step()
    return run


def contents(store):
    return {entry.name: bytes(store.read(entry.name)) for entry in store.list()}


def refused(text, *args, **settings):
    try:
        make(*args, **settings)
    except ValueError as error:
        assert text in str(error), error
        return
    raise AssertionError("not refused: " + text)


def mix_ups():
    """Checkpoints of other runs are refused; after damaged or lost ones a run starts again, and reports it."""
    place = store_cuts.Flash(bytearray(b"\xff" * store_cuts.BLOCK * store_cuts.BLOCKS), NEVER)
    rtc = Rtc()
    run = make("frozen_a", place, rtc)
    for _ in range(20):
        run.step()
    entries = [(entry.name, entry.version) for entry in run.store.list()]
    refused("other settings", "frozen_a", place, rtc, ranks=2)
    refused("other settings", "trainable_a", place)
    refused("other settings", "frozen_a", place, rtc, epochs=3)
    refused("other settings", "frozen_a", place, rate=1)
    refused("other samples", "frozen_a", place, rtc, samples="others.eld")
    refused("samples or more", "frozen_a", place, rtc, samples="few.eld")
    refused("another base", "frozen_a", place, rtc, samples="foreign.eld")
    refused("another base", "frozen_a", place, rtc, held="foreign.eld")
    refused("other held-out samples", "frozen_a", place, rtc, held="held.eld")
    assert entries == [(entry.name, entry.version) for entry in run.store.list()]
    assert make("frozen_a", place, rtc, samples="more.eld").count == run.count  # recorded later: for the next run
    foreign = Rtc()
    foreign.memory(b"the application's own")
    assert make("frozen_a", place, foreign).resumes and foreign.memory() == b"the application's own"

    again = make("frozen_a", place, rtc)
    assert (again.resumes, again.position, again.notice) == (2, 16, "")  # the extra resume is that of more.eld
    again.store.remove(NAME + ".run")
    again = make("frozen_a", place, rtc)
    assert again.position == 0 and "gone" in again.notice
    damaged = bytearray(again.store.read(NAME + ".chk"))
    damaged[50] ^= 1
    again.store.put(NAME + ".chk", damaged)
    again = make("frozen_a", place)
    assert again.position == 0 and "damaged" in again.notice
    again = make("frozen_a", place)
    assert again.position == 0 and not again.notice
    training.discard(again.store, NAME)
    assert not again.store.list()
    assert make("frozen_a", place, epochs=3).position == 0

    # an active adapter that can't be evaluated is not replaced; a run whose best adapter is lost starts again
    place = store_cuts.Flash(blank(None), NEVER)
    model = edgelora.Model("base.elm", ranks=2)
    model.begin(1)
    Store(place, cache=0, adapters=8).put(NAME, model.save())
    refused("can't be validated", "frozen_a", place, held="held.eld")
    place = store_cuts.Flash(blank(None), NEVER)
    run = make("frozen_a", place, held="held.eld")
    while run.judged < 2:
        run.step()
    run.suspend()
    assert make("frozen_a", place, held="held.eld").judged == 2
    run = make("frozen_a", place, held="held.eld")
    run.store.remove(NAME + ".new")
    again = make("frozen_a", place, held="held.eld")
    assert (again.judged, again.updates) == (0, 0) and "gone" in again.notice
    training.discard(again.store, NAME)
    assert not again.store.list()
    print("OK")


def splitting():
    """Views of a file: which samples are held out, what they read, and how many an unfinished run has."""
    model = edgelora.Model("base.elm")
    file = training.SampleFile("many.eld")
    learned, held = training.split(file)
    buffer = bytearray(model.sample_size)
    for part in (learned, held):
        print("PART", [(part.read(i, buffer), buffer[0]) for i in range(part.count)], part.crc(part.count))
    assert training.split(file, 23)[1] is None and training.split(file, 23)[0].count == 23
    store = Store(store_cuts.Flash(blank(None), NEVER), cache=0)
    training.Run(model, learned, store, NAME, held=held)
    assert training.begun(store, NAME) == file.count and training.begun(store, "other") == 0
    print("OK")


def yes_or_no():
    """A run of a network with a single output, of few samples of which it is yes; what is held out of it."""
    learned, held = training.split(training.SampleFile("samples.eld"))
    print("HELD", learned.count, held.count)
    run = finished(new_run())
    print("PLACES", run.count, run.places)
    print("ADAPTER", binascii.hexlify(kept(run)).decode())


def new_run(mode="frozen_a", epochs=EPOCHS):
    memory = bytearray(b"\xff" * store_cuts.BLOCK * store_cuts.BLOCKS)
    return make(mode, store_cuts.Flash(memory, NEVER), epochs=epochs)


class Clock:
    """A clock that advances by 100 microseconds per call, so that a step or a commit takes as long, and in sleep."""

    def __init__(self):
        self.now, self.slept = 0, []

    def ticks_us(self):
        self.now += 100
        return self.now

    def ticks_ms(self):
        return self.now // 1000

    def ticks_diff(self, late, early):
        return late - early

    def sleep_ms(self, ms):
        self.now += 1000 * ms
        self.slept.append(ms)


def scheduling():
    """Windows, budgets, battery, tasks, interrupts; steps with the heap locked."""
    import asyncio

    reference = new_run()
    micropython.heap_lock()  # until the first commit
    for _ in range(15):
        reference.step()
    micropython.heap_unlock()
    wanted = finished(reference).store.read(NAME)

    # the time budget: no window exceeds it; windows have whole micro-batches if they fit, else single steps
    training.time = clock = Clock()
    # (fewer with a commit).
    steps = [5, 10, 15, 19, 23, 28, 32, 37, 40]
    for budget_ms, windows in ((3, [16, 32, 40]), (1, [8, 16, 24, 32, 40]), (0.5, steps)):
        run = new_run()
        scheduler = training.Scheduler(
            run, sleep_ms=1 if budget_ms == 3 else 0, budget_ms=budget_ms, sleep=clock.sleep_ms
        )
        ended = []
        while not run.done:
            for state in scheduler:
                assert state == scheduler.state
            assert scheduler._spent_us <= 1000 * budget_ms
            ended.append(run.position)
        assert ended == windows, (budget_ms, ended)
        assert scheduler.spend() == training.DONE and run.store.read(NAME) == wanted
    assert clock.slept == [1, 1]

    # what passes is what counts: an own function that sleeps longer, or not at all
    for passes_ms, booked_us in ((5, 5000), (0, 0)):
        run = new_run()
        scheduler = training.Scheduler(run, sleep_ms=1, sleep=lambda ms, passes_ms=passes_ms: clock.sleep_ms(passes_ms))
        window = iter(scheduler)
        while run.position <= 8:  # up to the second micro-batch's first step
            next(window)
        assert scheduler._spent_us - run.busy_us == booked_us

    # the energy budget, which can be too small for a step
    run = new_run()
    scheduler = training.Scheduler(run, budget_mj=2, power=lambda hz: 1000, sleep_mw=1)
    assert scheduler.spend() == training.PAUSED and run.position == 16
    assert 1600 <= run.energy_uj == scheduler._spent_uj <= 2000
    scheduler.budget_mj = 0.05
    try:
        scheduler.spend()
        raise AssertionError("a step has no room in it")
    except ValueError:
        pass
    training.time = time

    # low battery: the run is suspended, so that no step is repeated, and resumes later
    run, levels = new_run(), [3.9, 3.8, 3.1, 3.0, 3.9, 3.9]
    scheduler = training.Scheduler(run, battery=lambda: levels.pop(0) if levels else 4.0, battery_floor=3.2)
    assert scheduler.spend() == training.LOW_BATTERY and (run.position, run._generations[0][2]) == (16, 2)
    assert scheduler.spend() == training.LOW_BATTERY and run.position == 16
    assert scheduler.spend() == training.DONE and run.store.read(NAME) == wanted

    # a task among others, which never wait longer than a step
    run, turns = new_run(), [0]
    scheduler = training.Scheduler(run, sleep_ms=1)

    async def others():
        while not run.done:
            turns[0] += 1
            await asyncio.sleep_ms(0)

    async def both():
        await asyncio.gather(scheduler.run(), others())

    asyncio.run(both())
    assert scheduler.state == training.DONE and turns[0] >= run.steps and run.store.read(NAME) == wanted

    # an interrupt anywhere in a step restores the clock
    class Machine:
        clock = 125

        def freq(self, hz=None):
            if hz:
                self.clock = hz
            return self.clock

    training.machine, seen = Machine(), []

    class Stubborn:
        """Samples whose every third read is interrupted."""

        def __init__(self, samples):
            self.count, self.crc, self.turn = samples.count, samples.crc, 0
            self.samples = samples

        def read(self, i, buffer):
            self.turn += 1
            seen.append(training.machine.clock)
            if self.turn % 3 == 0:
                raise KeyboardInterrupt
            return self.samples.read(i, buffer)

    run = new_run()
    run.samples = Stubborn(run.samples)
    scheduler = training.Scheduler(
        run, clock_hz=48, sleep_ms=1, sleep=lambda ms: setattr(training.machine, "clock", 99)
    )
    interrupted = 0
    while not run.done:
        try:
            scheduler.spend()
        except KeyboardInterrupt:
            interrupted += 1
        assert training.machine.clock == 125
    assert interrupted and set(seen) == {48} and run.store.read(NAME) == wanted
    print("OK")


def samples():
    """A sample that a power cut left half-written is ignored, and overwritten by the next one."""
    model = edgelora.Model("base.elm", mode="infer")
    file = training.SampleFile.create("recorded.eld", model)
    window = bytearray(model.sample_size)
    for i in range(3):
        window[0] = i
        file.append(window, i)
    file.close()
    with open("recorded.eld", "rb") as f:
        whole = f.read()
    record = (len(whole) - 32) // 3
    for end in range(32 + 2 * record, len(whole), 97):
        for tail in (b"", b"\xff" * (len(whole) - end)):
            with open("cut.eld", "wb") as f:
                f.write(whole[:end] + tail)
            file = training.SampleFile("cut.eld", append=True)
            assert file.count == 2, (end, tail)
            window[0] = 2
            file.append(window, 2)
            file.close()
            with open("cut.eld", "rb") as f:
                assert f.read() == whole
    file = training.SampleFile("recorded.eld")
    assert [file.read(i, window) for i in range(3)] == [0, 1, 2] and window[0] == 2
    with open("cut.eld", "wb") as f:
        f.write(whole[:40] + b"x" + whole[41:])
    for call in (lambda: training.SampleFile("cut.eld").read(0, window), lambda: file.read(3, window)):
        try:
            call()
            raise AssertionError("a sample that is not there")
        except ValueError:
            pass
    file = training.SampleFile("targets.eld")
    read = [(bytes(file.read(i, window)), bytes(window[:2])) for i in range(2)]
    assert read == [(b"\xfd\xfe\xff", b"\x05\xfb"), (b"\x00\x01\x02", b"\x06\xfa")]
    print("OK")
