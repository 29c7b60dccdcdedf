"""A run's conclusion, in the same words for the terminal, the page, the studio and lists of runs.

Only this module combines the evidence of the host twin, of samples held out from training and of test samples.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Literal

from edgelora.learn.training.judge.early_stopping import Verdict

from . import page
from .statistics import NO_DIFFERENCE

if TYPE_CHECKING:
    from .record import Report


class State(StrEnum):
    """The conclusion in a few words, for lists and programs.

    UNPROVEN: better on held-out samples, with no measurable difference on test samples, or on test samples used in
    training; UNJUDGED: there was no evidence.
    """

    BETTER = "better"
    UNPROVEN = "better on held-out samples only"
    UNCHANGED = NO_DIFFERENCE
    NOT_BETTER = "not better"
    WORSE = "worse"
    UNJUDGED = "not validated"
    DIFFERS = "the host twin differs"


TITLES = {
    State.BETTER: "Better than before",
    State.UNPROVEN: "Better on held-out samples only",
    State.UNCHANGED: "No measurable difference",
    State.NOT_BETTER: "Not better than before",
    State.WORSE: "Worse than before",
    State.UNJUDGED: "Not validated",
    State.DIFFERS: "Not reliable: the board differs from its host twin",
}


@dataclass(frozen=True)
class Conclusion:
    """state: see `State`; activated: whether the board uses the adapter, None: not recorded.

    judges: the evidence; kept: which epoch's adapter was chosen; advice: what to do, or "".
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
        """The title, and whether the adapter is inactive."""
        unused = self.activated is False and self.state is not State.DIFFERS
        return f"{self.title}: not activated" if unused else self.title

    @property
    def short(self) -> str:
        """For a line or a cell: the state, and an unusual activation."""
        if self.state is State.DIFFERS or self.activated is None:
            return self.state
        usual = self.state in (State.BETTER, State.UNPROVEN, State.UNJUDGED, State.UNCHANGED)
        if self.activated and not usual:
            return f"{self.state}, activated anyway"
        return self.state if self.activated else f"{self.state}, not activated"

    @property
    def tone(self) -> Literal["good", "bad", "neutral"]:
        if self.state in (State.DIFFERS, State.WORSE) or self.activated is False:
            return "bad"
        return "good" if self.state is State.BETTER else "neutral"

    @property
    def text(self) -> str:
        """The whole conclusion, in sentences."""
        use = {True: "The board uses the adapter.", False: "The board keeps its adapter.", None: ""}[self.activated]
        return " ".join(part for part in (self.judges, self.kept, use, self.advice) if part)


def conclude(report: Report) -> Conclusion:
    """The conclusion of a run's record."""
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
    if report.judged == Verdict.UNJUDGED:
        return State.UNJUDGED
    if proven:
        return State.BETTER
    return State.UNJUDGED if report.judged or tested is None else State.UNCHANGED


def _judges(report: Report, state: State) -> str:
    if state is State.DIFFERS:
        return "The board's adapter differs from the one that this computer trained on the same samples."
    said = []
    if report.own_rows:
        said.append("It is own rows of the classes, made without training; each sample was judged without itself.")
    elif report.held_out:
        better: dict[str, str] = {Verdict.BETTER: "is better", Verdict.NOT_BETTER: "is not better"}
        if report.judged in better:
            held = page.count(report.held_out, "sample")
            said.append(f"On {held} held out from training it {better[report.judged]}.")
    elif report.judged == Verdict.SINGLE_CLASS:
        said.append("All samples are of one class, so its effect on other classes is unknown.")
    elif report.judged == Verdict.UNJUDGED:
        said.append("There were too few samples to judge it by.")
    elif report.judged == Verdict.CAUTIOUS:
        said.append("There were too few samples to hold some out, so training used a lower learning rate.")
    said.append(_tests(report))
    return " ".join(part for part in said if part)


def _tests(report: Report) -> str:
    measure = report.measure
    change = f"{measure.shown(measure.before)} before, {measure.shown(measure.after)} after"
    samples = page.count(report.test_samples, "test sample") if report.test_samples else "the test samples"
    seen = ""
    if report.tested_on_seen:
        which = "all" if report.tested_on_seen >= report.test_samples else f"{report.tested_on_seen:,}"
        seen = f" Training used {which} of these: accuracy on new samples may be lower."
    reason = f" ({measure.why.rstrip('.')})" if measure.why else ""
    return f"{measure.title} on {samples}: {change}{reason}.{seen}"


def _kept(report: Report) -> str:
    if not report.best_epoch:
        return ""
    lead = "Not used" if report.activated is False else "Kept"
    judges = page.count(report.held_out, "held-out sample")
    if not report.final_epochs:
        return f"{lead}: the adapter of epoch {report.best_epoch}, chosen by {judges}."
    everything = f"all {report.samples + report.held_out:,} samples"
    epochs = page.count(report.final_epochs, "epoch")
    fresh = f"a fresh adapter, trained for {epochs} on {everything}"
    return f"{lead}: {fresh}, after one without the {judges} was better on these."


def _advice(report: Report, state: State) -> str:
    if state is State.DIFFERS:
        return "Don't use it: train again. If it happens again, reinstall or reflash the board's EdgeLoRA."
    if report.judged == Verdict.SINGLE_CLASS:
        return "Record another class."
    if state is State.NOT_BETTER:
        return "Record more samples, especially of classes that are confused."
    return "Record more samples." if report.judged in (Verdict.CAUTIOUS, Verdict.UNJUDGED) else ""
