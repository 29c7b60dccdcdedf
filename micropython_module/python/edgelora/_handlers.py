"""Requests that need the package's other modules: model, training, store, updates (SPEC.md, section 10)."""

import binascii
import gc
import struct
import time
from array import array

import micropython

import edgelora

_LOCK_HEAP, _LOGITS = 1, 2
_ANEW, _RECORD = 2, 4  # flags of LISTEN_DATA: start a new stream, keep the window
_DECISION = 12  # bytes of a decision without outputs
_MOST_ADDED = 16  # most classes that an adapter adds
_NONE = 65535  # in a decision: no class, no probability
_MOST_SLEEP_MS = 60000  # of a run between its steps, during which nobody can reach the board
_ROOM = 32000  # bytes for base and arena on a fleet's board with little memory


class _Cache:
    """Features of up to `count` samples, which arrive in order, in RAM or, given a path, in a file."""

    def __init__(self, size, count, path):
        self.path = path
        self._size, self._count, self._kept = size, count, 0
        self._file = open(path, "w+b") if path else None
        try:
            self._slots = [bytearray(size) for _ in range(1 if path else count)]
        except MemoryError:
            raise MemoryError(f"no room for a feature cache of {size * count} bytes in RAM; keep it in flash")

    def slot(self, i):
        """Returns the buffer for the features of the next sample."""
        if i != self._kept or i >= self._count:
            raise ValueError(f"sample {i} does not come next: {self._kept} of {self._count} are in the feature cache")
        return self._slots[0 if self._file else i]

    def store(self):
        if self._file:
            self._file.write(self._slots[0])
        self._kept += 1

    def check(self, i):
        if i >= self._kept:
            raise ValueError(f"sample {i} is not in the feature cache of {self._kept}")

    def sync(self):
        if self._file:
            self._file.flush()

    def load(self, i):
        """Returns the features of a checked sample; from a file, they are valid until the next `load`."""
        if not self._file:
            return self._slots[i]
        self._file.seek(i * self._size)
        self._file.readinto(self._slots[0])
        return self._slots[0]

    def close(self):
        if self._file:
            self._file.close()


class Handlers:
    """Handles requests by op, as `agent` does. Each handler receives the size of the request in `line.body`."""

    def __init__(self, agent):
        self._agent = agent
        self.line = agent.line
        self.model = None
        self.trained = 0  # samples since begin or load
        self._cache = None
        self._store = self._place = None  # kept until a model, which may need the memory, is opened or the host goes
        self._update = None
        self._scheduler = None  # of a run that the board does on its own
        self._window = None  # the scheduler's current window
        self._sensor = None  # `SensorHandlers`, after the first request about the board's own sensor
        self._pipeline = self._certain = None  # of samples from the link or the sensor; its probabilities, if any
        self._of_sensor = False  # whether the samples are from the board's own sensor
        self._tells_all = False  # whether it reports the probabilities of all classes instead of outputs
        self.chunk = self.decision_size = 0  # most samples per request, bytes per decision
        self._monitor = None  # the pipeline's monitor, if it watches a machine
        self._learned = []  # what the run has learned since the host last asked: (loss, microseconds)
        self._fleet = None  # `FleetHandlers`, after the first request about a fleet
        self._words = None  # `WordsHandlers`, after the first request about a text
        self.by_op = {
            0x20: self._model,
            0x21: self._begin,
            0x22: self._load,
            0x23: self._train,
            0x24: self._evaluate,
            0x25: self._flush,
            0x26: self._save,
            0x27: self._use,
            0x28: self._bench,
            0x29: self._cache_open,
            0x2A: self._cache_put,
            0x2B: self._train_cached,
            0x2C: self._judge,
            0x2D: self._listen_open,
            0x2E: self._listen_data,
            0x2F: self._monitored,
            0x30: self._in_store,
            0x31: self._class,
            0x32: lambda size: self._sensor_handlers().open(size),
            0x33: lambda size: self._sensor_handlers().data(size),
            0x34: self._update_open,
            0x35: self._update_data,
            0x36: self._update_done,
            0x37: self._update_state,
            0x38: self._run_start,
            0x39: self._run_go,
            0x3A: self._run_suspend,
            0x3B: lambda size: self._fleet_handlers().say(size),
            0x3C: lambda size: self._fleet_handlers().data(size),
            0x3D: lambda size: self._sensor_handlers().watch(size),
            0x3E: lambda size: self._words_handlers().say(size),
        }

    def pause(self):
        """Closes an unfinished update, which flash keeps, and the store, which programs may change meanwhile."""
        self._store = None
        if self._words:
            self._words.drop()  # it writes to that store
        if self._update:
            self._update.close()
            self._update = None

    def forget(self, path):
        """Closes the feature cache if it is in this file, which is about to be removed."""
        if self._cache and self._cache.path == path:
            self._drop_cache()

    # --- model

    def _opened(self):
        if self.model is None:
            raise ValueError("no model is open: open one first")
        return self.model

    def close_model(self):
        self._drop_cache()
        if self._fleet:
            self._fleet.drop()
        if self._words:
            self._words.drop()
        self.model = self._scheduler = self._window = self._store = self._pipeline = self._monitor = None
        self.trained = 0
        gc.collect()

    def open_model(self, make):
        """Closes the open model, then opens the one that `make` returns."""
        self.close_model()
        self.model = make()
        gc.collect()
        return self.model

    def _model(self, size):
        request = self._agent.json(size)
        path = request.pop("path")
        for name in ("ranks", "recompute"):
            if isinstance(request.get(name), list):
                request[name] = bytes(request[name])
        model = self.open_model(lambda: edgelora.Model(path, **request))
        return {
            "arena": len(model.arena),
            "base_id": binascii.hexlify(model.base_id).decode(),
            "input_size": model.input_size,
            "sample_size": model.sample_size,
            "output_size": model.output_size,
            "feature_size": model.feature_size,
            "ranks": list(model.ranks),
            "mode": model.mode,
            "labels": list(model.labels),
            "free": gc.mem_free(),
        }

    def _begin(self, size):
        self._opened().begin(self._agent.json(size)["seed"])
        self.trained = 0
        return {}

    def _load(self, size):
        self._opened().load(self._agent.json(size)["path"])
        self.trained = 0
        return {}

    def _windows(self, start, size, stride, skip):
        # Returns views of the windows in a request, created before the heap is locked.
        if size <= start or (size - start) % stride:
            raise ValueError(f"{size - start} bytes are not a whole number of samples of {stride}")
        return [self.line.body[at + skip : at + stride] for at in range(start, size, stride)]

    def _train(self, size):
        model = self._opened()
        label = model.target_size or 1
        stride = label + model.sample_size
        windows = self._windows(4, size, stride, label)
        return self._train_each(model.train, lambda i: windows[i], stride, len(windows))

    def _cache_open(self, size):
        request = self._agent.json(size)
        model = self._opened()
        self._drop_cache()
        gc.collect()
        self._cache = _Cache(model.feature_size, request["count"], request["path"])
        return {"feature_size": model.feature_size}

    def _drop_cache(self):
        cache, self._cache = self._cache, None
        if cache:
            cache.close()

    def _cached(self):
        if not self._cache:
            raise ValueError("no feature cache is open: open one first")
        return self._cache

    def _cache_put(self, size):
        model, cache = self._opened(), self._cached()
        first = struct.unpack_from("<H", self.line.body)[0]
        for i, window in enumerate(self._windows(4, size, model.sample_size, 0)):
            model.features(window, cache.slot(first + i))
            cache.store()
            self.line.alive()
        return {}

    def _train_cached(self, size):
        model, cache = self._opened(), self._cached()
        label = model.target_size or 1
        samples = self._windows(4, size, label + 2, label)
        for sample in samples:  # check while memory for an error message is available
            cache.check(sample[0] | sample[1] << 8)
        cache.sync()
        return self._train_each(
            model.train_features, lambda i: cache.load(samples[i][0] | samples[i][1] << 8), label + 2, len(samples)
        )

    def _train_each(self, train, fetch, stride, count):
        # Trains on samples whose labels are `stride` bytes apart in the request.
        learning_rate, flags = struct.unpack_from("<HB", self.line.body)
        if 8 + 4 * count > self.line.max_payload:
            raise ValueError(f"{count} samples are too many for one request")
        line, body = self.line, self.line.body
        target = self.model.target_size  # 0: a label
        labels = [body[at : at + target] if target else body[at] for at in range(4, 4 + count * stride, stride)]
        losses = array("i", bytes(4 * count))
        gc.collect()
        if flags & _LOCK_HEAP:
            micropython.heap_lock()
        try:
            start = time.ticks_us()
            for i in range(count):
                losses[i] = train(fetch(i), labels[i], learning_rate)
                self.trained += 1
                line.alive()
            elapsed = time.ticks_diff(time.ticks_us(), start)
        finally:
            if flags & _LOCK_HEAP:
                micropython.heap_unlock()
        struct.pack_into("<II", self.line.payload, 0, self.trained, elapsed)
        self.line.payload[8 : 8 + 4 * count] = bytes(losses)
        return 8 + 4 * count

    def _evaluate(self, size):
        model, line = self._opened(), self.line
        flags = self.line.body[0]
        windows = self._windows(4, size, model.sample_size, 0)
        count = len(windows)
        out = self.line.payload
        width = model.output_size
        answer = 4 + count + (count * width if flags & _LOGITS else 0)
        if answer > self.line.max_payload:
            raise ValueError(f"{count} samples are too many for one request")
        logits = [out[at : at + width] for at in range(4 + count, answer, width)]
        raw = memoryview(model.output) if logits else None
        gc.collect()
        elapsed = 0
        if flags & _LOCK_HEAP:
            micropython.heap_lock()
        try:
            for i in range(count):
                start = time.ticks_us()
                out[4 + i] = model.infer_sample(windows[i])
                elapsed += time.ticks_diff(time.ticks_us(), start)
                if logits:
                    row = logits[i]
                    for j in range(width):
                        row[j] = raw[j] & 255
                line.alive()
        finally:
            if flags & _LOCK_HEAP:
                micropython.heap_unlock()
        struct.pack_into("<I", out, 0, elapsed)
        return answer

    def _judge(self, size):
        model, line = self._opened(), self.line
        target = model.target_size  # 0: a label
        skip = target or 1
        stride = skip + model.sample_size
        windows = self._windows(4, size, stride, skip)
        count = len(windows)
        if 4 + 5 * count > line.max_payload:
            raise ValueError(f"{count} samples are too many for one request")
        labels = [line.body[at : at + target] if target else line.body[at] for at in range(4, size, stride)]
        out = line.payload
        losses = [out[at : at + 4] for at in range(4 + count, 4 + 5 * count, 4)]
        gc.collect()
        if line.body[0] & _LOCK_HEAP:
            micropython.heap_lock()
        try:
            start = time.ticks_us()
            for i in range(count):
                out[4 + i] = model.evaluate(windows[i], labels[i], losses[i])
                line.alive()
            elapsed = time.ticks_diff(time.ticks_us(), start)
        finally:
            if line.body[0] & _LOCK_HEAP:
                micropython.heap_unlock()
        struct.pack_into("<I", out, 0, elapsed)
        return 4 + 5 * count

    # --- raw samples over the link

    def _listen_open(self, size):
        from edgelora.pipeline import Pipeline
        from edgelora.sources import Host

        request = self._agent.json(size)
        model = self._opened()
        self._pipeline = self._monitor = None
        self._drop_done_run()
        signal = model.signal
        if signal is None:
            raise ValueError("the base doesn't describe its signal: make it from data that does")
        # A chunk fits into a request, and its decisions fit into an answer.
        payload, self._tells_all = self.line.max_payload, bool(request.get("all"))
        told = 2 + 2 * (model.output_size + _MOST_ADDED) if self._tells_all else model.output_size
        self.decision_size = _DECISION + told
        decisions = (payload - 8) // self.decision_size
        chunk = min((payload - 4) // (2 * signal.channels), (decisions - 1) * signal.hop)
        if chunk < 1:
            raise ValueError("a sample, or its result, does not fit a request")
        vote, path = request.get("vote"), request.get("path")
        self.chunk = chunk
        self._of_sensor = bool(request.get("sensor"))
        if request.get("monitor"):
            from edgelora.monitor import Monitor

            model = self._monitor = Monitor(model, **request["monitor"])
        own = self._sensor_handlers().opened() if self._of_sensor else None
        source = Host(own.rate, own.channels, chunk, own.scales) if own else Host(signal.rate, signal.channels, chunk)
        if path:
            from edgelora.recorder import Recorder
            from edgelora.training import SampleFile

            self._pipeline = Recorder(model, source, SampleFile.create(path, model), chunk=chunk)
        else:
            self._pipeline = Pipeline(model, source, vote=vote and tuple(vote), chunk=chunk)
        self._certain = None
        try:
            self._certain = model.probabilities()
        except ValueError:
            pass  # its outputs are values, not probabilities
        gc.collect()
        return {"chunk": chunk, "path": path, "all": self._tells_all}

    def _listen_data(self, size):
        line = self.line
        self._agent.check_least(size, 4)
        end, elapsed = self.hear(line.body[4:size], line.body[0], 8, line.body[1])
        struct.pack_into("<II", line.payload, 0, elapsed, self._pipeline.clipped)
        return end

    def hear(self, data, flags, at, label=0):
        """Passes samples to the pipeline, and writes its decisions into the answer from offset `at` on.

        Returns the answer's end and the elapsed microseconds.
        """
        pipeline, line = self._pipeline, self.line
        if not pipeline:
            raise ValueError("nothing listens: open that first")
        channels = pipeline.source.channels
        out, elapsed = line.payload, 0
        recorder = pipeline if hasattr(pipeline, "take") else None
        if flags & _RECORD and not recorder:
            raise ValueError("samples are kept where listening was opened with a path")
        if flags & _ANEW:
            pipeline.reset()
        if len(data) % (2 * channels) or pipeline.source.put(data) != len(data) // (2 * channels):
            raise ValueError(f"{len(data)} bytes are not whole samples of {channels} channels, or too many")
        gc.collect()
        if self._certain is not None:
            self._certain = pipeline.model.probabilities()  # the adapter in use now may have other classes
        if flags & _LOCK_HEAP:
            micropython.heap_lock()
        try:
            while True:
                start = time.ticks_us()
                new = pipeline.step()
                elapsed += time.ticks_diff(time.ticks_us(), start)
                if recorder:
                    line.alive()
                elif new:
                    at = self._tell(out, at)
                    line.alive()
                if not new and not pipeline.pending:
                    break
        finally:
            if flags & _LOCK_HEAP:
                micropython.heap_unlock()
        if flags & _RECORD and not recorder.take(label):
            raise ValueError("no complete window has come yet: send more samples first")
        return at, elapsed

    def _tell(self, out, at):
        # Writes a decision into the answer; returns its end.
        pipeline = self._pipeline
        model, seen, label = pipeline.model, pipeline.seen, pipeline.label
        chance, p = _NONE, ()
        if self._certain is not None:
            p = model.probabilities()
            chance = max(p) if len(p) > 1 else p[0] if seen else 32768 - p[0]
        score = self._monitor.score if self._monitor else 0
        struct.pack_into("<IHHHH", out, at, pipeline.end, seen, _NONE if label is None else label, chance, score)
        at += _DECISION
        if not self._tells_all:
            edgelora._core.take(out, at, model.output, 0, 1, model.output_size, 1)
            return at + model.output_size
        struct.pack_into("<H", out, at, len(p))
        if p:
            edgelora._core.take(out, at // 2 + 1, p, 0, 1, len(p), 2)
        return at + 2 + 2 * len(p)

    def _monitored(self, size):
        from edgelora.training import SampleFile

        request, monitor = self._agent.json(size), self._monitor
        if not monitor:
            raise ValueError("no monitor listens: open that first")
        do, path = request["do"], request.get("path")
        gc.collect()
        if do == "calibrate":
            samples = SampleFile.create(path, self.model) if path else None
            monitor.calibrate(request["stage"], request.get("windows", 0), samples)
        elif do == "save":
            edgelora.write(path, monitor.adapter().buffer)
        elif do == "use":
            monitor.use(self.model.adapter(path))
        elif do != "state":
            raise ValueError(f"unknown request {do} for a monitor")
        return {"stage": monitor.stage, "left": monitor.left, "threshold": monitor.threshold}

    # --- samples from the board's own sensor

    def _sensor_handlers(self):
        if self._sensor is None:
            gc.collect()
            from edgelora._sensor_handlers import SensorHandlers

            self._sensor = SensorHandlers(self._agent, self)
        return self._sensor

    def _words_handlers(self):
        if self._words is None:
            from edgelora._words_handlers import WordsHandlers  # into the lowest gaps, below two large arenas

            self._words = WordsHandlers(self._agent, self)
        return self._words

    def watching(self):
        """Returns the pipeline that processes the sensor's samples; None if there is none."""
        return self._pipeline if self._of_sensor else None

    # --- training runs on the board

    def _run_start(self, size):
        from edgelora import training

        request = self._agent.json(size)
        model, name = self._opened(), request["name"]
        self._scheduler = self._window = None
        if not self._monitor:
            self._pipeline = None  # a monitor's pipeline continues after the run
        gc.collect()
        if not 0 <= request.get("sleep_ms", 0) <= _MOST_SLEEP_MS:
            raise ValueError(f"sleep_ms of {request['sleep_ms']}: 0 to {_MOST_SLEEP_MS} over the link")
        store = self.opened_store()
        if not request.get("resume"):
            training.discard(store, name)
        resumed = training.unfinished(store, name)
        settings = [request[key] for key in ("epochs", "seed", "learning_rate", "commit_every")]
        held = request.get("held")
        held = held and training.SampleFile(held)
        run = training.Run(model, training.SampleFile(request["path"]), store, name, *settings, held=held)
        milliwatts = request.get("power_mw")
        self._scheduler = training.Scheduler(
            run,
            clock_hz=request.get("clock_hz"),
            sleep_ms=request.get("sleep_ms", 0),
            budget_ms=request.get("budget_ms"),
            budget_mj=request.get("budget_mj"),
            power=milliwatts and (lambda hz: milliwatts),
            sleep_mw=request.get("sleep_mw", 0),
            sleep=time.sleep_ms,  # light sleep could lose what the host sends
        )
        self._window = iter(self._scheduler)
        run.watch = lambda run: self._learned.append((run.loss, run.step_us))
        return {"resumed": resumed, "notice": run.notice} | self._progress()

    def _run_go(self, size):
        until = time.ticks_add(time.ticks_ms(), self._agent.json(size)["ms"])
        self._running()
        for _ in self._window:
            self.line.alive()
            if len(self._learned) >= 200 or time.ticks_diff(time.ticks_ms(), until) >= 0:
                break
        return self._progress()

    def _run_suspend(self, size):
        self._running()
        self._scheduler.suspend()
        return self._progress()

    def _running(self):
        if not self._scheduler:
            raise ValueError("no run has been started: start one, or resume it")
        return self._scheduler.training

    def _drop_done_run(self):
        # The buffers of a finished run would fragment a small heap.
        if self._scheduler and self._scheduler.training.done:
            self._scheduler = self._window = None
        gc.collect()

    def _progress(self):
        run = self._running()
        self.trained = run.position
        learned, self._learned = self._learned, []
        return {
            "state": self._scheduler.state,
            "losses": [loss for loss, _ in learned],
            "times_us": [us for _, us in learned],
            "samples": run.position,
            "updates": run.updates,
            "pending": run.pending,
            "resumes": run.resumes,
            "busy_us": run.busy_us,
            "energy_uj": run.energy_uj,
            "checkpoint": run.checkpoint_size,
            "better": run.better,
            "judged": run.judged,
            "best_epoch": run.best_epoch,
            "before": run.before,
            "best": run.best,
            "crc": run.store.find(run.name + (".new" if run.better is False else "")).crc if run.done else None,
        }

    def _flush(self, size):
        self._opened().flush(self._agent.json(size)["learning_rate"])
        return {}

    def _save(self, size):
        request = self._agent.json(size)
        self._drop_done_run()
        self._opened().save(request["path"], request["state"])
        return {"trained": self.trained}

    def _use(self, size):
        path = self._agent.json(size)["path"]
        model = self._opened()
        model.use(model.adapter(path) if path else None)
        return {}

    def _bench(self, size):
        request = self._agent.json(size)
        count = min(request["n"], 1000)
        if count < 1:
            raise ValueError(f"{count} runs: 1 at least")
        call, steps = self._measured(request)
        total = worst = 0
        best = 1 << 30
        clock, usual, ticks = request.get("clock_hz"), None, time.ticks_us  # few look-ups between two readings
        if clock:
            import machine

            if not hasattr(machine, "freq"):
                raise ValueError("this board's clock can't be set: leave clock_hz out")
            usual = machine.freq()
            machine.freq(clock)
        try:
            for i in range(count):
                step = steps[i % len(steps)]
                gc.collect()
                start = ticks()
                call(step)
                end = ticks()
                took = time.ticks_diff(end, start)
                total += took
                best = min(best, took)
                worst = max(worst, took)
                self.line.alive()
        finally:
            if usual:
                machine.freq(usual)
        return {"n": count, "total_us": total, "min_us": best, "max_us": worst}

    def _measured(self, request):
        # Returns what a benchmark calls, and the arguments that it cycles through.
        model, what = self._opened(), request["what"]
        window = bytearray(model.input_size)
        label = bytearray(model.target_size) if model.target_size else 0
        first, end = request.get("ops", (0, 0))
        if what == "infer":
            call, steps = model.infer, (window,)
        elif what == "ops":
            call, steps = (lambda x: model.forward_range(x, first, end)), (window,)
        elif what == "backward":
            call, steps = (lambda x: model.backward_range(x, first, end)), (window,)
        elif what == "train":
            call, steps = (lambda x: model.train(x, label, 0)), (bytearray(model.sample_size),)
        elif what == "train_features":
            call, steps = (lambda x: model.train_features(x, label, 0)), (bytearray(model.feature_size),)
        elif what == "merge":
            call, steps = model.merge, (first,)
        elif what == "add_class":
            call, steps = (lambda windows: model.add_class("bench", windows)), ([window] * end,)
        elif what == "swap":
            call, steps = model.use, [model.adapter(path) for path in request["paths"]]
        elif what == "swap_file":
            call, steps = model.use_file, [edgelora.AdapterFile(path) for path in request["paths"]]
        elif what == "swap_store":
            self._store = None
            store = self.opened_store(request.get("place"), request["cache"])
            store.open(model)
            call, steps = store.use, request["names"]
            for name in steps:
                call(name)
        else:
            raise ValueError(f"unknown measurement {what}")
        return call, steps

    # --- classes

    def _class(self, size):
        request = self._agent.json(size)
        do, model, found = request["do"], self._opened(), {}
        if do in ("add", "own"):
            from edgelora.training import SampleFile

            samples = SampleFile(request["path"])
            try:
                if (samples.base_id, samples.sample_size) != (model.base_id, model.sample_size):
                    raise ValueError("the samples are for another base, or of another size: make them again")
                if do == "own":
                    found = self._own_rows(model, samples)
                else:
                    model.add_class(request["class"], self._each(samples, bytearray(model.sample_size)))
            finally:
                samples.close()
        elif do == "remove":
            model.remove_class(request["class"])
        elif do != "get":
            raise ValueError(f"a class can't {do}: add, own, remove or get")
        data = model.used.buffer if model.used else b""
        return self._agent.download(":class", data) if do == "get" else {"size": len(data)} | found

    def _own_rows(self, model, samples):
        from edgelora.rows import OwnRows

        used = model.used
        rows = OwnRows(model, samples, used and used.buffer)
        for _ in rows.judge():
            self.line.alive()
        rows.adapter()
        return {"doubt": rows.doubt, "before": rows.before, "after": rows.after}

    def _each(self, samples, window):
        for i in range(samples.count):
            samples.read(i, window)
            self.line.alive()
            yield window

    # --- store

    def opened_store(self, place=None, cache=8192):
        # Opens the board's own store, or the one in a folder.
        if self._store is None or self._place != place:
            module, self._store = self._agent.imported("store"), None
            gc.collect()
            self._store = module.Store(place or module.default_place(), cache)
            self._place = place
        return self._store

    def _in_store(self, size):
        request = self._agent.json(size)
        do, name = request["do"], request.get("name")
        if name is None and do not in ("list", "activate"):
            raise ValueError(f"{do} needs a name")
        store = self.opened_store(request.get("place"))
        if do == "put":
            data = edgelora.read(request["path"])
            gc.collect()
            return {"version": store.put(name, data, request.get("version"))}
        if do == "get":
            return self._agent.download(":" + name, store.read(name))
        if do == "activate":
            if self.model:
                store.open(self.model)
            store.activate(name)
        elif do == "rename":
            store.rename(name, request["to"])
        elif do == "remove":
            store.remove(name)
        elif do == "pin":
            store.pin(name, request["on"])
        elif do != "list":
            raise ValueError(f"unknown request {do} for the store")
        return self._store_list(store, request.get("skip", 0))

    def _store_list(self, store, skip):
        entries = store.list()
        room = self.line.max_payload - 1024
        rows = []
        while room > 0 and skip + len(rows) < len(entries):
            rows.append(_row(entries[skip + len(rows)]))
            room -= 120
        return {
            "adapters": rows,
            "more": skip + len(rows) < len(entries),
            "active": store.active,
            "free": store.free(),
            "place": store.place,
            "notices": store.notices,
        }

    # --- a fleet

    def _fleet_handlers(self):
        if self._fleet is None:
            gc.collect()
            room = bytearray(min(_ROOM, gc.mem_free() // 2))  # reserves one block for a model while modules load
            for name in ("_fleet", "training", "store", "fleet", "_fleet_handlers"):
                try:
                    module = __import__("edgelora." + name, None, None, ("FleetHandlers",))
                except MemoryError:
                    room = None
                    gc.collect()
                    module = __import__("edgelora." + name, None, None, ("FleetHandlers",))
                gc.collect()
            del room
            self._fleet = module.FleetHandlers(self._agent, self)
        return self._fleet

    # --- updates

    def _update_open(self, size):
        self.close_model()  # the check of the received update opens its base
        from edgelora.update import Updater, trusted

        self._update = Updater(self.opened_store(), *trusted())
        return {"offset": self._update.begin(bytes(self.line.body[:size]))}

    def _updating(self):
        if not self._update:
            raise ValueError("no update has begun: send the bundle again, it continues where it was")
        return self._update

    def _update_data(self, size):
        self._agent.check_least(size, 4)
        update = self._updating()
        offset = struct.unpack_from("<I", self.line.body)[0]
        if offset != update.kept:
            raise ValueError(f"the update is at offset {update.kept}, not {offset}")
        update.write(self.line.body[4:size])
        struct.pack_into("<I", self.line.payload, 0, update.kept)
        return 4

    def _update_done(self, size):
        update = self._updating()
        gc.collect()
        for _ in update.finish():
            self.line.alive()
        return {"name": update.name, "version": update.version}

    def _update_state(self, size):
        from edgelora._trust import UpdateError, key_id, trusted

        store = self.opened_store()
        confirmed = store.confirm() if self._agent.json(size)["confirm"] else []
        try:
            keys, target = trusted()
        except UpdateError:
            keys, target = [], ""
        return {
            "target": target,
            "keys": [edgelora.hex_id(key_id(key)) for key in keys],
            "adapters": [_row(entry) for entry in store.list()],
            "active": store.active,
            "confirmed": confirmed,
            "notices": store.notices,
            "declined": store.declined(),
        }


def _row(entry):
    # Returns what the host receives about an adapter in the store.
    base = edgelora.hex_id(entry.base_id)
    return entry.name, entry.version, entry.size, base, entry.pinned, entry.trial
