"""What became of a run, in words for people. No pages in here."""

from __future__ import annotations

from dataclasses import dataclass

from .. import training
from ..report import Report
from .prospect import JUDGES


@dataclass(frozen=True)
class Words:
    """A verdict, for people. good: whether the board should use what it learned."""

    good: bool
    title: str
    text: str


def in_words(report: Report) -> Words:
    """What the guard says of a run."""
    judged, count = report.judged, report.held_out
    measure = report.measure
    before, after = measure.shown(measure.before), measure.shown(measure.after)
    what = "samples it did not learn from"
    if JUDGES in report.tested_on:
        what = f"samples held out, which also {JUDGES}, so that new ones may do less well"
    told = f"Named right of the {report.test_samples} {what}: {before} before, {after} now."
    good = bool(report.activated)
    title, text = {
        training.Verdict.BETTER: ("Better than before", f"{told} {count} samples held out of training judged it."),
        training.Verdict.CAUTIOUS: (
            "It looks better, but few samples judged it",
            f"{told} Too few samples were there to hold some out, so the board took shorter steps. Record more.",
        ),
        training.Verdict.WORSE: ("Worse than before", f"{told} What was in use before stays in use."),
        training.Verdict.UNTOLD: (
            "It can't be judged",
            "All samples are of one class, so nobody knows what it did to the others. Record another class.",
        ),
    }.get(
        training.Verdict(judged) if judged in list(training.Verdict) else training.Verdict.NOT_BETTER,
        (
            "No better than before",
            f"{told} By the {count} samples held out of training it is no better than what was in use, which stays. "
            "Record more samples, of the classes that are mixed up above all.",
        ),
    )
    return Words(good, title, text)
