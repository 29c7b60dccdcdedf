# EdgeLoRA: learning for years, from samples as they come (SPEC.md, section 13). SPDX-License-Identifier: MIT
#
#     learner = Learner(model, Reservoir("/samples.elr"), Store("/adapters"), "me")
#     learner.learn(window, label)       # one update: of this sample and of three that came before
#     for run in learner.consolidate():  # when idle: the adapter anew, one bounded step at a time
#         feed_the_watchdog()
#
# What infers is what did best on the samples that judge. Nothing worse ever takes its place.

from edgelora import core_draw
from edgelora.training import Judge, Run, better, discard, stored, unfinished

_STREAM = 131073  # of draws
REPLAYED = 3  # samples learned again with each new one
HORIZON = 64  # updates after which the rate is half of what it was


class Learner:
    """Learns each sample once with `REPLAYED` of the reservoir, and keeps the best adapter as `name` in the store.

    model: in a mode that trains, with micro-batches of more than `REPLAYED`. It infers with what is in use: the store's
    adapter `name`, or the bare base. judge_every: updates after which what was learned is judged against that, by the
    reservoir's held samples; until there are enough of them, nothing takes its place. learning_rate 0: the mode's.

    in_use: the bytes of the adapter, or None; judged: (right, sum of losses) of it, and of what was learned, when they
    were last compared.
    """

    def __init__(self, model, reservoir, store, name, seed=0, learning_rate=0, judge_every=16):
        if model.micro_batch <= REPLAYED:
            raise ValueError("micro_batch of %d: a learner takes %d or more" % (model.micro_batch, REPLAYED + 1))
        if (reservoir.base_id, reservoir.sample_size) != (model.base_id, model.sample_size):
            raise ValueError("the reservoir is for another base, or its samples have another size: create another one")
        self.model, self.reservoir, self.store, self.name = model, reservoir, store, name
        self.seed, self.learning_rate = seed, learning_rate or model.learning_rate
        self.judge_every, self.judged = judge_every, None
        self._buffer = bytearray(model.sample_size)
        self._go_on()

    def _go_on(self):
        # What is in use is the training adapter, too.
        model, self.in_use = self.model, stored(self.store, self.name, self.model)
        if self.in_use:
            model.load(self.in_use)
            self._activate()  # where the power went before that
        else:
            model.begin(self.seed)
        self.updates = 0
        self._use(self.in_use)

    def _use(self, adapter):
        self.model.use(adapter and self.model.adapter(adapter))

    @property
    def rate(self):
        """Of the next update."""
        return max(1, self.learning_rate * HORIZON // (HORIZON + self.updates))

    def learn(self, sample, label):
        """Learns a sample, int8 [sample_size], and puts it into the reservoir. Its loss before; None if it will judge.

        Every `judge_every` updates it takes the time to infer all held samples twice. ValueError while a consolidation
        is unfinished.
        """
        if unfinished(self.store, self.name):
            raise ValueError("a consolidation is unfinished: go on with consolidate(), or give it up with discard()")
        loss = None
        if not self.reservoir.judges(label):
            loss = self._update(sample, label)
        self.reservoir.add(sample, label)
        if loss is not None and self.updates % self.judge_every == 0:
            self.judge()
        return loss

    def _update(self, sample, label):
        model, reservoir, rate = self.model, self.reservoir, self.rate
        loss = model.train(sample, label, rate)
        learned = reservoir.parts()[0]
        for turn in range(REPLAYED if learned.count else 0):
            at = core_draw(reservoir.seed, _STREAM, REPLAYED * sum(reservoir.seen) + turn, learned.count)
            old = learned.read(at, self._buffer)
            model.train(self._buffer, old, rate)
        model.flush(rate)
        self.updates += 1
        return loss

    def judge(self):
        """Whether what was learned is better than what is in use, which it then takes the place of. None: too few
        samples judge."""
        held = self.reservoir.parts()[1]
        if not held:
            return None
        learned = self.model.save()
        self.judged = self._judged(self.in_use, held), self._judged(learned, held)
        is_better = better(*self.judged[1], *self.judged[0])
        if is_better:
            self.store.put(self.name, learned)
            self.in_use = learned
            self._activate()
        self._use(self.in_use)
        return is_better

    def _judged(self, adapter, held):
        self._use(adapter)
        judge = Judge(self.model, held)
        while not judge.step():
            pass
        return judge.right, judge.loss

    def _activate(self):
        if self.store.active != self.name:
            self.store.activate(self.name)

    def consolidate(self, epochs=0, commit_every=32):
        """Trains an adapter anew from the reservoir: a generator of its `training.Run`, one bounded step at a time.

        At the end it is in use if it is better than what was. Begun and not ended, by a reset too, it goes on when it
        is called with the same epochs again. ValueError if too few samples judge.
        """
        learned, held = self.reservoir.parts()
        if not held:
            raise ValueError("too few samples to judge by: consolidate when more have come, of two classes at least")
        settings = (epochs, self.seed, self.learning_rate, commit_every)
        run = Run(self.model, learned, self.store, self.name, *settings, held=held)
        while not run.done:
            run.step()
            yield run
        self._settled(run.better)

    def _settled(self, is_better):
        if is_better:
            self._activate()
        elif self.store.find(self.name + ".new"):
            self.store.remove(self.name + ".new")
        self._go_on()

    def discard(self):
        """Gives an unfinished consolidation up."""
        discard(self.store, self.name)
        self._go_on()
