"""A board's own adapter, after its fleet's rounds: `edgelora.fleet.personalize`. SPDX-License-Identifier: MIT"""

import struct

from . import _only_absent, hex_id
from .fleet import ADAPTER, WORKING, FleetError, _sha512, hash_of
from .training import (
    Judge,
    Run,
    Scheduler,
    begun,
    better,
    discard,
    split,
    stored,
    unfinished,
    without_classes,
)  # fmt: skip

if False:  # types of annotations: editors and tools/stubs.py read these lines, boards drop them
    from collections.abc import Generator
    from typing import Any

    from . import Model
    from .store import Store

_TRIAL = "trial."  # prefix of the names of the runs that compare the starts


def personalize(
    model: Model, samples: Any, store: Store, name: str, adapter: str | bytes = ADAPTER, seed: int = 0, **pace: Any
) -> Generator[str, None, str | None]:
    """Trains a board's own adapter from the global adapter, or from the base if that is clearly better.

    A run from each start learns from three quarters of the samples; the last quarter of each class validates its best
    epoch. The run from the base wins only with at least two more correct samples. If the winner is better than the base
    alone and the old `name`, a run from its start learns all samples and becomes `name`; else the store is unchanged.
    A generator of short steps. After a reset it continues, or starts again if the global adapter has changed since.
    Returns the best: "global", "base" (a run from the base), `name`, or None: the base alone (use `store.use(None)`).
    ValueError if there are too few samples for validation, or if `name` has added classes.
    """
    without_classes(store, name, model)
    mark = hex_id(_sha512(hash_of(adapter) or b"", struct.pack("<I", seed))[:4])
    starts = (_TRIAL + "g." + mark, adapter), (_TRIAL + "b." + mark, None)
    trials = [trial for trial, _ in starts]
    stale = [entry.name for entry in store.list() if entry.name.startswith(_TRIAL) and mark not in entry.name]
    best, run = None, None
    if unfinished(store, name):
        best, run = _going_on(model, samples, store, name, starts, seed, stale)
    if stale:
        store.remove(*stale)
    if not run:
        learned, held = split(samples, max(begun(store, trial) for trial in trials))
        if held is None:
            raise FleetError("too few samples to validate: record more")
        for trial, start in starts:
            tried = store.find(trial) or store.find(trial + ".new") and not unfinished(store, trial)
            if not tried:
                yield from _through(Run(model, learned, store, trial, seed=seed, held=held, start=start), pace)
        judge, judged = Judge(model, held), []
        for what in [None, name] + trials:
            found = what and stored(store, what, model)
            if found or what is None:
                model.load(found) if found else model.use(None)
                judge.restart()
                while not judge.step():
                    yield WORKING
                judged.append((what, judge.right, judge.loss))
        best = _best(judged, trials)
        for trial, start in starts:
            if best == trial:
                run = Run(model, samples, store, name, seed=seed, start=start)
    if run:
        yield from _through(run, pace)
    left = [entry.name for entry in store.list() if entry.name.startswith(_TRIAL)]
    if left:
        store.remove(*left)
    return ("global", "base")[trials.index(best)] if run else best


def _best(judged, trials):
    # The best of (what, correct, loss). One more correct sample of so few is chance; with targets, none is correct.
    runs = [one for one in judged if one[0] in trials]
    if len(runs) == 2:
        together, alone = runs
        clear = alone[1] > together[1] + 1 or not together[1] + alone[1] and alone[2] < together[2]
        judged.remove(together if clear else alone)
    best = judged[0]
    for one in judged[1:]:
        if better(*one[1:], *best[1:]):
            best = one
    return best[0]


def _going_on(model, samples, store, name, starts, seed, stale):
    # (trial, run) of the final run, which had begun; (None, None) if the global adapter has changed: it is discarded.
    failure = None
    for trial, start in starts:
        try:
            return trial, Run(model, samples, store, name, seed=seed, start=start)
        except (OSError, ValueError) as error:
            if isinstance(error, OSError):
                _only_absent(error)
            failure = error
    if not stale:
        raise failure  # not a run of `personalize`
    discard(store, name)
    return None, None


def _through(run, pace):
    scheduler = Scheduler(run, **pace)
    while not run.done:
        yield from scheduler
