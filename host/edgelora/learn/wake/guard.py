"""The judgement on streams: recall and false accepts by the deployed rule, on what an adapter did not learn from.

    enrolments, other voices, each held out once  ->  recall, with Wilson's interval
    speech, close misses, each held out once      ->  false accepts, an hour with Poisson's interval
                                           |
       the strictest rule (cutoff, window) by which the owner is still heard, and others as with the base
                                           |
    better: the owner is heard more often than with the base and its author's rule, at no cost to others; or as often,
    and more often than with the base by the chosen rule

The minutes of speech here say little about false accepts an hour. So no rule is looser than the author's, and the
strictest is taken: most false accepts are short, while a word's probability stays high for about as long as the learned
windows last. A single false accept says as little, and the adapter that is judged for it did not learn from that
sentence; the one that is used does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edgelora.learn.report.statistics import SIGNIFICANT, Interval, at_least, most_events, wilson

from .word import Frames, Outputs, Rule, WakeWord

TOLERANCE = 0.03  # of the recall of other voices
CLOSE = 0.15  # share of close phrases that may be accepted beyond the base's; few are no proof of more
ACCEPTS = 0.3  # false accepts an hour, and at least one, that there may be beyond those of the base
STRICT = (0.95, 0.97)  # cutoffs that are tried, if they are above the author's
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
    """The base with its author's rule, and the adapter with the rule chosen for it.

    reason: why the adapter is not better; empty if it is.
    """

    base: StreamScore
    adapted: StreamScore
    reason: str

    @property
    def better(self) -> bool:
        return not self.reason

    @property
    def unknown(self) -> str:
        """What nothing judged; empty if all was."""
        if self.adapted.speech.hours:
            return ""
        return "no other speech judged it: how often it wakes by mistake is unknown"


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

    def __add__(self, other: Heard) -> Heard:
        return Heard(
            [*self.own, *other.own],
            [*self.others, *other.others],
            [*self.misses, *other.misses],
            [*self.speech, *other.speech],
            self.hours + other.hours,
        )

    def score(self, rule: Rule) -> StreamScore:
        def recall(part: Sequence[Outputs]) -> Recall:
            return Recall(sum(bool(rule.wakes(outputs)) for outputs in part), len(part))

        accepts = FalseAccepts(sum(len(rule.wakes(outputs)) for outputs in self.speech), self.hours)
        return StreamScore(rule, recall(self.own), recall(self.others), recall(self.misses), accepts)


def scored(word: WakeWord, adapter: bytes | None, streams: Streams) -> StreamScore:
    """How an adapter, or the base alone, does with the word's own rule."""
    return Heard.of(word, adapter, streams).score(word.rule)


def judged(usual: Rule, base: Heard, adapted: Heard) -> Judgement:
    """Compares adapters, with the best rule for them, with the base and its author's rule."""
    before = base.score(usual)
    now = _at_best(adapted, before, usual)
    return Judgement(before, now, _reason(before, base.score(now.rule), now))


def rules(usual: Rule) -> list[Rule]:
    """The author's, and stricter ones: in order of the sum of probabilities that they ask for."""
    windows = range(usual.window, max(usual.window, LONGEST) + 1, 2)
    cutoffs = {max(usual.cutoff, cutoff) for cutoff in (0.0, *STRICT)}
    found = [Rule(cutoff, window) for cutoff in cutoffs for window in windows]
    return sorted(found, key=lambda rule: (rule.cutoff * rule.window, rule.window))


def _at_best(heard: Heard, base: StreamScore, usual: Rule) -> StreamScore:
    """The score with the strictest rule that hears the owner about as often as any, at no cost to others.

    A tenth of what is heard, rounded, may be lost to strictness, unless the base hears as much. If every rule costs
    others something, that with the fewest false accepts.
    """
    scores = [heard.score(rule) for rule in rules(usual)]
    free = [score for score in scores if not _cost(base, score)]
    if not free:
        return min(scores, key=lambda score: (score.accepted, -score.own.heard))
    most = max(score.own.heard for score in free)
    least = max(most - (most + 5) // 10, min(most, base.own.heard + 1))
    return [score for score in free if score.own.heard >= least][-1]


def _cost(base: StreamScore, now: StreamScore) -> str:
    """What others lose; empty if nothing."""
    if now.speech.count > base.speech.count + max(1, ACCEPTS * now.speech.hours):
        return f"it takes other speech for the word {now.speech.count} times, the base {base.speech.count} times"
    if at_least(now.misses.heard, now.misses.of, min(1.0, base.misses.share + CLOSE)) < SIGNIFICANT:
        return f"it accepts {now.misses.heard} of {now.misses.of} close phrases, the base {base.misses.heard}"
    if now.others.share < base.others.share - TOLERANCE:
        return f"it hears {now.others.heard} of {now.others.of} other voices, the base {base.others.heard}"
    return ""


def _reason(base: StreamScore, as_strict: StreamScore, now: StreamScore) -> str:
    """Why the adapter is not better; as_strict: the base with the adapter's rule."""
    if cost := _cost(base, now):
        return cost
    if now.own.heard < base.own.heard:
        return f"it hears the owner {now.own.heard} of {now.own.of} times, the base {base.own.heard}"
    if now.own.heard > min(base.own.heard, as_strict.own.heard) or now.accepted < base.accepted:
        return ""
    return f"the base hears the owner as often: {base.own.heard} of {base.own.of} times"
