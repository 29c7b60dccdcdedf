"""The judgement on streams: recall and false accepts by the deployed rule, on what an adapter did not learn from.

    held-out enrolments, other voices  ->  recall, with Wilson's interval
    held-out speech, close misses      ->  false accepts, an hour with Poisson's interval
                                           |
       the strictest rule (cutoff, window) by which the owner is heard best, and others as with the base
                                           |
    better: the owner is heard more often than with the base at its best rule, at no cost to others

The hours of speech here are few, so that a rule is chosen for its strictness: most false accepts are short, while a
word's probability stays high for about as long as the learned windows last.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edgelora.learn.report.statistics import Interval, most_events, wilson

from .word import Frames, Outputs, Rule, WakeWord

TOLERANCE = 0.03  # of the recall of other voices
CUTOFFS = (0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.93, 0.95, 0.97)
LONGEST = 13  # frames of a window that is tried


@dataclass(frozen=True)
class Recall:
    """How many of the recordings the word was heard in."""

    heard: int
    of: int

    @property
    def share(self) -> float:
        return self.heard / self.of if self.of else 0.0

    @property
    def interval(self) -> Interval | None:
        """95 %, Wilson's; None without recordings."""
        return wilson(self.share, self.of)

    def __str__(self) -> str:
        if self.interval is None:
            return "-"
        low, high = self.interval
        return f"{self.heard} of {self.of} ({low:.0%} to {high:.0%})"


@dataclass(frozen=True)
class FalseAccepts:
    """How often speech without the word was taken for it."""

    count: int
    hours: float

    @property
    def per_hour(self) -> float:
        return self.count / self.hours if self.hours else 0.0

    @property
    def interval(self) -> Interval | None:
        """95 %, of the mean in an hour if they are independent (Poisson); None without speech."""
        if not self.hours:
            return None
        low = most_events(self.count - 1, 0.025) if self.count else 0.0
        return Interval(low / self.hours, most_events(self.count, 0.975) / self.hours)

    def __str__(self) -> str:
        if self.interval is None:
            return "-"
        low, high = self.interval
        return f"{self.count} in {self.hours:.2f} h ({low:.1f} to {high:.1f} an hour)"


@dataclass(frozen=True)
class Streams:
    """What judges: the word by its owner and by others; close misses by the owner; other speech."""

    own: Sequence[Frames]
    others: Sequence[Frames]
    misses: Sequence[Frames]
    speech: Sequence[Frames]


@dataclass(frozen=True)
class StreamScore:
    """How an adapter (or the base) does on `Streams` with a rule."""

    rule: Rule
    own: Recall
    others: Recall
    misses: Recall
    speech: FalseAccepts

    @property
    def accepted(self) -> int:
        """False accepts of both kinds."""
        return self.misses.heard + self.speech.count


@dataclass(frozen=True)
class Judgement:
    """The base with its author's rule and at its best, and the adapter at its best.

    reason: why the adapter is not better; empty if it is.
    """

    base: StreamScore
    base_at_best: StreamScore
    adapted: StreamScore
    reason: str

    @property
    def better(self) -> bool:
        return not self.reason


@dataclass(frozen=True)
class Heard:
    """The outputs for `Streams`, and how long the speech among them is."""

    own: Sequence[Outputs]
    others: Sequence[Outputs]
    misses: Sequence[Outputs]
    speech: Sequence[Outputs]
    hours: float

    @classmethod
    def of(cls, word: WakeWord, adapter: bytes | None, streams: Streams) -> Heard:
        own, others = word.outputs(adapter, streams.own), word.outputs(adapter, streams.others)
        misses, speech = word.outputs(adapter, streams.misses), word.outputs(adapter, streams.speech)
        return cls(own, others, misses, speech, sum(map(len, streams.speech)) * word.frame_seconds / 3600)

    def score(self, rule: Rule) -> StreamScore:
        def recall(part: Sequence[Outputs]) -> Recall:
            return Recall(sum(bool(rule.wakes(outputs)) for outputs in part), len(part))

        accepts = FalseAccepts(sum(len(rule.wakes(outputs)) for outputs in self.speech), self.hours)
        return StreamScore(rule, recall(self.own), recall(self.others), recall(self.misses), accepts)


def scored(word: WakeWord, adapter: bytes | None, streams: Streams) -> StreamScore:
    """How an adapter, or the base alone, does with the word's own rule."""
    return Heard.of(word, adapter, streams).score(word.rule)


def judged(word: WakeWord, adapter: bytes, streams: Streams) -> Judgement:
    """Compares an adapter with the base, each with the best cutoff for it."""
    base, adapted = Heard.of(word, None, streams), Heard.of(word, adapter, streams)
    now = base.score(word.rule)
    best, found = _at_best(base, now, word.rule), _at_best(adapted, now, word.rule)
    return Judgement(now, best, found, _reason(now, best, found))


def rules(usual: Rule) -> list[Rule]:
    """All that are tried, from the least strict: by the sum of probabilities that they ask for."""
    windows = range(usual.window, max(usual.window, LONGEST) + 1, 2)
    found = [Rule(cutoff, window) for cutoff in {usual.cutoff, *CUTOFFS} for window in windows]
    return sorted(found, key=lambda rule: (rule.cutoff * rule.window, rule.window))


def _at_best(heard: Heard, base: StreamScore, usual: Rule) -> StreamScore:
    """The score with the strictest rule that hears the owner most often, among those that cost others nothing.

    If every rule costs others something, that with the fewest false accepts.
    """
    scores = [heard.score(rule) for rule in rules(usual)]
    free = [score for score in scores if not _cost(base, score)]
    if not free:
        return min(scores, key=lambda score: (score.accepted, -score.own.heard))
    most = max(score.own.heard for score in free)
    return [score for score in free if score.own.heard == most][-1]


def _cost(base: StreamScore, now: StreamScore) -> str:
    """What others lose; empty if nothing."""
    if now.accepted > base.accepted:
        return f"it accepts other speech {now.accepted} times, the base {base.accepted} times"
    if now.others.share < base.others.share - TOLERANCE:
        return f"it hears {now.others.heard} of {now.others.of} other voices, the base {base.others.heard}"
    return ""


def _reason(base: StreamScore, best: StreamScore, now: StreamScore) -> str:
    if cost := _cost(base, now):
        return cost
    if now.own.heard < best.own.heard:
        return f"it hears the owner {now.own.heard} of {now.own.of} times, the base {best.own.heard}"
    if now.own.heard == best.own.heard and now.accepted >= best.accepted:
        rule = f" with {best.rule}" if best.rule != base.rule else ""
        return f"the base{rule} hears the owner as often: {best.own.heard} of {best.own.of} times"
    return ""
