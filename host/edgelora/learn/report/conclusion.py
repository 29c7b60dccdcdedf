"""What became of a run, in the same words for the terminal, the page, the studio and lists of runs.

The host twin, the samples held out from training and the test samples each say something. Here, and nowhere else, they
are put together.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Literal

from edgelora.learn.training.early_stopping import Verdict

from . import page
from .statistics import NO_DIFFERENCE

if TYPE_CHECKING:
    from .record import Report


class State(StrEnum):
    """The conclusion in a few words, for a list and for programs.

    UNPROVEN: better by the samples held out, with no measurable difference on the test samples, or by test samples that
    training has seen; UNJUDGED: nothing could judge it.
    """

    BETTER = "better"
    UNPROVEN = "better on held-out samples only"
    UNCHANGED = NO_DIFFERENCE
    NOT_BETTER = "not better"
    WORSE = "worse"
    UNJUDGED = "not judged"
    DIFFERS = "the host twin differs"


TITLES = {
    State.BETTER: "Better than before",
    State.UNPROVEN: "Better on held-out samples only",
    State.UNCHANGED: "No measurable difference",
    State.NOT_BETTER: "No better than before",
    State.WORSE: "Worse than before",
    State.UNJUDGED: "Not judged",
    State.DIFFERS: "Not reliable: the board differs from its host twin",
}


@dataclass(frozen=True)
class Conclusion:
    """state: see `State`; activated: whether the board infers with the adapter, None: nobody recorded it.

    judges: what judged the adapter; kept: which adapter it is; advice: what to do, "" if nothing.
    """

    state: State
    activated: bool | None
    judges: str
    kept: str
    advice: str

    @property
    def title(self) -> str:
        return TITLES[self.state]

    @property
    def headline(self) -> str:
        """The title, and whether the adapter is out of use."""
        unused = self.activated is False and self.state is not State.DIFFERS
        return f"{self.title}: not activated" if unused else self.title

    @property
    def short(self) -> str:
        """For a line or a cell: the state, and what is unusual about the activation."""
        if self.state is State.DIFFERS or self.activated is None:
            return self.state
        usual = self.state in (State.BETTER, State.UNPROVEN, State.UNJUDGED, State.UNCHANGED)
        if self.activated and not usual:
            return f"{self.state}, activated all the same"
        return self.state if self.activated else f"{self.state}, not activated"

    @property
    def tone(self) -> Literal["good", "bad", "neutral"]:
        if self.state in (State.DIFFERS, State.WORSE) or self.activated is False:
            return "bad"
        return "good" if self.state is State.BETTER else "neutral"

    @property
    def text(self) -> str:
        """Everything, in sentences."""
        use = {True: "The board uses the adapter.", False: "The board keeps what it had.", None: ""}[self.activated]
        return " ".join(part for part in (self.judges, self.kept, use, self.advice) if part)


def conclude(report: Report) -> Conclusion:
    """What a run's record says of its adapter."""
    state = _state(report)
    return Conclusion(state, report.activated, _judges(report, state), _kept(report), _advice(report, state))


def _state(report: Report) -> State:
    tested = report.verdict
    proven = tested == "better" and not report.tested_on_seen
    if report.host_twin_identical is False:
        return State.DIFFERS
    if tested == "worse":
        return State.WORSE
    if report.judged in (Verdict.NOT_BETTER, Verdict.WORSE):
        return State.NOT_BETTER
    if report.judged == Verdict.BETTER:
        return State.BETTER if proven else State.UNPROVEN
    if proven:
        return State.BETTER
    return State.UNJUDGED if report.judged or tested is None else State.UNCHANGED


def _judges(report: Report, state: State) -> str:
    if state is State.DIFFERS:
        return "The board's adapter is not the one that this computer made of the same samples."
    said = []
    if report.held_out:
        better: dict[str, str] = {Verdict.BETTER: "is better", Verdict.NOT_BETTER: "is no better"}
        if report.judged in better:
            held = page.count(report.held_out, "sample")
            said.append(f"On {held} held out from training it {better[report.judged]}.")
    elif report.judged == Verdict.SINGLE_CLASS:
        said.append("All samples are of one class, so nothing shows what it did to the others.")
    elif report.judged == Verdict.CAUTIOUS:
        said.append("Too few samples were there to hold some out, so training took shorter steps.")
    said.append(_tests(report))
    return " ".join(part for part in said if part)


def _tests(report: Report) -> str:
    measure = report.measure
    change = f"{measure.shown(measure.before)} before, {measure.shown(measure.after)} after"
    samples = page.count(report.test_samples, "test sample") if report.test_samples else "the test samples"
    seen = ""
    if report.tested_on_seen:
        which = "all" if report.tested_on_seen >= report.test_samples else f"{report.tested_on_seen:,}"
        seen = f" Training has seen {which} of these: new samples may do less well."
    told = f" ({measure.why.rstrip('.')})" if measure.why else ""
    return f"{measure.title} on {samples}: {change}{told}.{seen}"


def _kept(report: Report) -> str:
    if not report.best_epoch:
        return ""
    lead = "Not used" if report.activated is False else "Kept"
    judges = page.count(report.held_out, "held-out sample")
    kept = f"{lead}: the adapter of epoch {report.best_epoch}, chosen by {judges}"
    if not report.final_epochs:
        return f"{kept}."
    everything = f"all {report.samples + report.held_out:,} samples, held-out ones included"
    return f"{kept}, then trained for {page.count(report.final_epochs, 'more epoch')} on {everything}."


def _advice(report: Report, state: State) -> str:
    if state is State.DIFFERS:
        return "Don't rely on it: train again, and install or flash the board's EdgeLoRA anew if it happens again."
    if report.judged == Verdict.SINGLE_CLASS:
        return "Record another class."
    if state is State.NOT_BETTER:
        return "Record more samples, above all of the classes that are mixed up."
    return "Record more samples." if report.judged == Verdict.CAUTIOUS else ""
