"""Wake words that learn their owner, on this computer: rules, streams, the judgement, the replay set."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgelora.base.errors import InputError
from edgelora.core.formats.elm import pack_model
from edgelora.core.formats.network import Op, QuantModel, Tensor
from edgelora.core.front_ends import heard_as
from edgelora.learn.training.data.base import Base
from edgelora.learn.training.recipe import Recipe
from edgelora.learn.wake import guard
from edgelora.learn.wake.guard import FalseAccepts, Recall, Streams, StreamScore
from edgelora.learn.wake.learning import learn, owner_parts
from edgelora.learn.wake.replay import FOLDS, Replay, shipped
from edgelora.learn.wake.teaching import Owner, Recorded
from edgelora.learn.wake.word import Rule, WakeWord

QUICK = Recipe(rank=1, placement="all", epochs=1)
OUTPUT = Tensor((1, 1, 1), 1 / 256, -128)


def loud_word() -> WakeWord:
    """A network with history whose output is the mean of its input's newest frames: loud sound is the word."""
    tensors = [Tensor((1, 3, 40), 0.1, -128), Tensor((3, 3, 40), 0.1, -128), Tensor((1, 1, 1), 0.1, 0), OUTPUT]
    weights = np.ones((1, 1, 1, 360), np.int8)
    dense = Op("dense", 1, 2, weights=weights, bias=np.array([-360 * 90], np.int32))
    dense.multiplier, dense.shift = np.array([1 << 30], np.int32), np.array([-7], np.int8)
    steps = np.arange(-128, 128)
    curve = 256 / (1 + np.exp(-steps * 0.1)) - 128
    table = Op("lookup", 2, 3, table=np.clip(np.rint(curve), -128, 127).astype(np.int8))
    table.slope, table.shift = np.full(256, 64, np.int8), np.array([0], np.int8)
    model = QuantModel(tensors, [Op("history", 0, 1), dense, table], loss="binary_cross_entropy")
    model.signal = heard_as("firmware", Tensor((1, 3, 40), 0.10196078568696976, -128))
    return WakeWord(Base("loud.elm", pack_model(model, "loud"), model), Rule(0.5, 2))


def frames(*loudness: int) -> np.ndarray:
    """A stream of frames of these values, 0 to 255."""
    return (np.repeat(np.array(loudness), 120).reshape(-1, 120) - 128).astype(np.int8)


def test_a_rule_wakes_once_a_word() -> None:
    outputs = np.array([0, 255, 255, 255, 0, 0, 0, 255, 255], np.uint8)
    assert Rule(0.6, 2).wakes(outputs) == [2, 8]
    assert Rule(0.5, 3).wakes(outputs) == [2, 8]
    assert Rule(0.9, 4).wakes(outputs) == []
    assert str(Rule(0.9, 4)) == "cutoff 0.90, window 4"


def test_recall_and_false_accepts_have_intervals() -> None:
    low, high = Recall(9, 10).interval or (0, 0)
    assert 0.59 < low < 0.6 and 0.98 < high < 0.99 and Recall(9, 10).share == 0.9
    assert Recall(0, 0).interval is None and Recall(0, 0).share == 0
    none = FalseAccepts(0, 2.0)
    assert none.per_hour == 0 and none.interval is not None
    assert none.interval.low == 0 and none.interval.high == pytest.approx(3.689 / 2, abs=0.001)
    five = FalseAccepts(5, 1.0).interval
    assert five is not None and five == pytest.approx((1.623, 11.668), abs=0.001)
    assert FalseAccepts(0, 0.0).interval is None


USUAL = Rule(0.9, 5)


def score(own: int, others: int = 8, misses: int = 0, speech: int = 0, rule: Rule = USUAL) -> StreamScore:
    return StreamScore(rule, Recall(own, 3), Recall(others, 10), Recall(misses, 2), FalseAccepts(speech, 0.1))


def test_an_adapter_is_better_only_if_nobody_else_pays() -> None:
    def reason(now: StreamScore) -> str:
        return guard._reason(score(1), score(1), now)

    assert reason(score(3)) == ""
    assert reason(score(3, speech=1)) == ""
    assert reason(score(3, speech=2)) == "it takes other speech for the word 2 times, the base 0 times"
    assert reason(score(3, misses=1)) == ""
    assert reason(score(3, misses=2)) == "it accepts 2 of 2 close phrases, the base 0"
    assert reason(score(3, others=7)) == "it hears 7 of 10 other voices, the base 8"
    assert reason(score(0)) == "it hears the owner 0 of 3 times, the base 1"
    assert reason(score(1)) == "the base hears the owner as often: 1 of 3 times"
    assert guard._reason(score(2), score(1), score(2)) == "", "as often by a stricter rule"
    assert guard._reason(score(2), score(1), score(1)) != ""


@pytest.mark.parametrize(("accepted", "of", "refused"), [(2, 6, False), (3, 6, True), (4, 12, False), (5, 12, True)])
def test_few_close_phrases_are_no_proof(accepted: int, of: int, refused: bool) -> None:
    """As often as one in twenty adapters that accept .15 of them do, or less often."""
    none, every = FalseAccepts(0, 1.0), Recall(10, 10)
    base = StreamScore(USUAL, Recall(0, 10), every, Recall(0, of), none)
    now = StreamScore(USUAL, every, every, Recall(accepted, of), none)
    assert ("close phrases" in guard._cost(base, now)) == refused


class Told:
    """Outputs in place of a network's."""

    def __init__(self, own: list[list[int]], others: list[list[int]], speech: list[list[int]]) -> None:
        parts = ([np.array(one, np.uint8) for one in part] for part in (own, others, [], speech))
        self.heard = guard.Heard(*parts, 1.0)

    def best(self, usual: Rule, base: StreamScore | None = None) -> StreamScore:
        return guard._at_best(self.heard, base or self.heard.score(usual), usual)


def test_the_strictest_rule_that_hears_the_owner_is_chosen() -> None:
    long, short = [0] * 5 + [250] * 9 + [0] * 5, [0] * 5 + [250] * 7 + [0] * 5
    chosen = Told([long], [long], [[0] * 20]).best(USUAL)
    assert chosen.own.heard == chosen.others.heard == 1 and chosen.rule == Rule(0.97, 9)
    assert Told([long], [short], [[0] * 20]).best(USUAL).rule == Rule(0.97, 7), "others are heard as before"


def test_one_recording_may_be_lost_to_strictness() -> None:
    long, short, none = [0] * 5 + [250] * 9 + [0] * 5, [0] * 5 + [250] * 7 + [0] * 5, [0] * 19
    deaf = Told([none] * 5, [long], [none]).heard.score(USUAL)
    assert Told([short, *[long] * 4], [long], [none]).best(USUAL, deaf).rule == Rule(0.97, 9)
    assert Told([short, *[long] * 3], [long], [none]).best(USUAL, deaf).rule == Rule(0.97, 7), "a tenth, rounded"
    assert Told([short, short, *[long] * 3], [long], [none]).best(USUAL, deaf).rule == Rule(0.97, 7)
    hears = Told([none, *[long] * 4], [long], [none]).heard.score(USUAL)
    assert Told([short, *[long] * 4], [long], [none]).best(USUAL, hears).own.heard == 5, "the base hears four"


def test_a_rule_may_not_accept_more_speech_than_the_base() -> None:
    long, blip = [0] * 5 + [250] * 9 + [0] * 5, [0] * 5 + [250] * 6 + [0] * 9
    base = Told([[0] * 19], [long], [[0] * 20]).heard.score(USUAL)
    chosen = Told([long], [long], [blip, blip]).best(USUAL, base)
    assert chosen.speech.count == 0 and chosen.own.heard == 1 and chosen.rule.window > 5


def test_no_rule_is_looser_than_the_authors() -> None:
    found = guard.rules(Rule(0.85, 5))
    asked = [rule.cutoff * rule.window for rule in found]
    assert asked == sorted(asked) and found[0] == Rule(0.85, 5) and found[-1] == Rule(0.97, 13)
    assert guard.rules(Rule(0.97, 20)) == [Rule(0.97, 20)]


def test_a_word_hears_streams_from_a_reset_state() -> None:
    word = loud_word()
    assert word.frames == 3 and word.frame_seconds == 0.03
    quiet, loud = word.outputs(None, [frames(0, 0, 0, 0), frames(250, 250, 250, 250)])
    assert quiet.max() < 40 and loud.max() > 200
    again = word.outputs(None, [frames(250, 250, 250, 250), frames(0, 0, 0, 0)])
    assert (again[1] == quiet).all() and (again[0] == loud).all()
    judged = guard.scored(word, None, Streams([frames(*[250] * 9)], [], [], [frames(*[0] * 40, *[250] * 9)]))
    assert judged.own.heard == 1 and judged.speech.count == 1
    assert judged.speech.hours == pytest.approx(49 * 0.03 / 3600)


def test_what_is_no_wake_word_is_refused() -> None:
    base = loud_word().base
    base.model.signal = None
    with pytest.raises(InputError, match="doesn't say how it hears"):
        WakeWord(base, Rule(0.5, 2))
    base.model.loss = "cross_entropy"
    with pytest.raises(InputError, match="is no wake word"):
        WakeWord(base, Rule(0.5, 2))


def test_each_recording_judges_once() -> None:
    every = [Recorded(str(i), np.zeros(0, np.int16)) for i in range(7)]
    parts = [owner_parts(Owner(every, every[:2], every[:3]), fold) for fold in range(FOLDS)]
    assert sorted(one.name for _, held in parts for one in held.enrolments) == [str(i) for i in range(7)]
    assert [len(known.enrolments) for known, _ in parts] == [5, 5, 6, 6, 6]
    assert [len(held.misses) for _, held in parts] == [1, 1, 0, 0, 0]
    with pytest.raises(InputError, match="2 enrolments: give 3 or more"):
        learn(loud_word(), Owner(every[:2]), Replay())


def test_few_enrolments_count_as_much_as_ten() -> None:
    rng = np.random.default_rng(3)
    said = [np.concatenate([np.zeros(8000), rng.normal(0, 3000, 8000)]).astype(np.int16) for _ in range(10)]
    every = [Recorded(f"{i}.wav", sound) for i, sound in enumerate(said)]
    five, ten = (learn(loud_word(), Owner(every[:count]), Replay(), recipe=QUICK) for count in (5, 10))
    assert five.windows == ten.windows > 10


def test_silence_is_no_enrolment() -> None:
    silent = [Recorded(f"{i}.wav", np.zeros(16000 + i, np.int16)) for i in range(3)]
    with pytest.raises(InputError, match="1.wav: no word can be heard in it"):
        learn(loud_word(), Owner(silent), Replay())


def test_the_replay_set_has_voices_and_speech() -> None:
    known, unknown = shipped("okay_nabu"), shipped("my own word")
    assert len(known.sayings) >= 20 and not unknown.sayings
    assert len(unknown.speech) == sum(
        len(shipped(name).speech) for name in ("alexa", "hey_jarvis", "hey_mycroft", "okay_nabu")
    )
    learned, judging = known.split(1)
    assert len(learned.sayings) + len(judging.sayings) == len(known.sayings)
    assert learned.speech == known.speech and not judging.speech
    word = loud_word()
    samples = known.samples(word)
    assert samples is not None and samples.x.shape[1:] == (3, 1, 3, 40)
    assert 0 < samples.y.mean() < 0.7 and (samples.given_targets == samples.y[:, None]).all()
    assert Replay().samples(word) is None


def test_the_replay_set_is_what_its_tool_makes() -> None:
    """One saying and one piece of speech anew; the whole file by `python tools/wake_replay.py --check`."""
    pytest.importorskip("tools.wake_replay")
    from tools import wake_replay

    stored = shipped("alexa")
    assert (wake_replay._saying("alexa", 3).astype(np.int16) * 16 == stored.sayings[3]).all()
    line = next(line for line in wake_replay.PIECES.read_text().splitlines() if line.startswith("alexa\t"))
    assert (wake_replay._piece(line.split("\t")).astype(np.int16) * 16 == stored.speech[0]).all()
    assert Path(wake_replay.FILE).stat().st_size < 900_000
