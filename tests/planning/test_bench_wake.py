"""`edgelora bench wake`: words take turns, and a folder keeps what is done."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("pymicro_wakeword")
from benchmarks import wake
from benchmarks.wake import Told, bench_wake
from edgelora.base.errors import InputError

WORDS = ("okay_nabu", "alexa")


def told(name: str, owner: str, enrolments: int) -> Told:
    shares = (0.0, 1.0), (0.5, 0.75), (0.0, 0.1), (0.0, 0.0), (0.0, 0.25)
    return Told(name, owner, enrolments, True, 0.97, 13, *shares, 2.4, 1.0)


@pytest.fixture
def taught(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """The pairs that are taught, in order, in place of teaching them."""
    done: list[tuple[str, str]] = []

    def teach(name: str, person: wake.Person, enrolments: int, languages: tuple[str, ...]) -> Told:
        done.append((name, person.name))
        return told(name, person.name, enrolments)

    monkeypatch.setattr(wake, "_teach_and_score", teach)
    monkeypatch.setattr(wake, "_unheard", lambda word, people, after, count: list(people[after : after + count]))
    return done


def test_words_take_turns_and_are_told_together(taught: list[tuple[str, str]]) -> None:
    found = bench_wake(WORDS, owners=2, after=1).as_json()
    names = [person.name for person in wake.OWNERS[1:3]]
    assert taught == [(word, name) for name in names for word in WORDS]
    assert [row["word"] for row in found["rows"]] == ["okay_nabu"] * 2 + ["alexa"] * 2
    assert found["words"]["alexa"]["owners"] == 2
    assert found["words"]["alexa"]["recall"] == {"base": 0.0, "adapted": 1.0}


def test_a_folder_keeps_what_is_done(
    taught: list[tuple[str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = bench_wake(WORDS, owners=1, keep=tmp_path)
    assert len(taught) == 2
    assert bench_wake(WORDS, owners=2, keep=tmp_path).rows[0] == first.rows[0] and len(taught) == 4
    bench_wake(WORDS, owners=1, enrolments=5, keep=tmp_path)
    assert len(taught) == 6, "other enrolments are another result"
    monkeypatch.setattr(wake, "_sources", lambda: "changed")
    bench_wake(WORDS, owners=1, keep=tmp_path)
    assert len(taught) == 8, "what other sources made is not taken"


def test_prompts_are_some_of_those_that_judge(taught: list[tuple[str, str]]) -> None:
    assert bench_wake(WORDS[:1], 1, prompts=["it"]).rows and len(taught) == 1
    with pytest.raises(InputError, match="es, fr, it"):
        bench_wake(WORDS[:1], 1, prompts=["en"])
