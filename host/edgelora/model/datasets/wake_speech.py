"""Synthetic people who say wake words: owners, other voices, close misses and talk, made offline and repeatable.

A person is a voice of espeak-ng, often one that reads English with the sounds of another language, which wake words
trained on English hear badly. Every utterance has its own speed, pitch, level, room and background noise, drawn from
the person, the phrase and its number: the same everywhere.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .speech import RATE, Voice, Wave, colored_noise, speak

Sound = NDArray[np.int16]  # [time], 16 kHz
BEFORE, AFTER = 3 * RATE // 2, 3 * RATE // 4  # samples of background before and after a phrase


@dataclass(frozen=True)
class Person:
    """A voice with a vocal tract and a pitch of its own.

    stretch: of time and frequency, 1 is the voice's own; pitch: semitones from the voice's; speed: relative to it.
    """

    voice: Voice
    stretch: float = 1.0
    pitch: float = 0.0
    speed: float = 1.0

    @property
    def name(self) -> str:
        return self.voice.identity


@dataclass(frozen=True)
class Phrase:
    """A wake word: what is said, close misses to practise with, and others that only judge."""

    said: str
    misses: tuple[str, ...]
    confusables: tuple[str, ...]


PHRASES = {
    "alexa": Phrase(
        "alexa",
        ("alexis", "electra", "election", "a lexicon", "relax", "alex"),
        ("alexander", "eleven", "a letter", "a taxi", "elastic", "perplexing"),
    ),
    "hey_jarvis": Phrase(
        "hey jarvis",
        ("hey travis", "hey charlie", "hey garbage", "a jar of this", "hey marcus", "hey"),
        ("hey harvey", "hey jason", "hey carlos", "the service", "hey julia", "hay harvest"),
    ),
    "hey_mycroft": Phrase(
        "hey mycroft",
        ("hey microsoft", "hey minecraft", "hey michael", "hey my friend", "aircraft", "hey"),
        ("hey microphone", "hey myra", "hey bancroft", "microwave", "hey mike", "a haircut"),
    ),
    "okay_nabu": Phrase(
        "okay nabu",
        ("okay navy", "okay maybe", "okay nathan", "okay cuckoo", "okay now", "okay"),
        ("okay noble", "okay lady", "okay annie", "a kangaroo", "okay naples", "they canoe"),
    ),
}
TALK = (
    "what is the weather going to be tomorrow",
    "turn on the light in the kitchen please",
    "i would like a cup of coffee",
    "the train is late again today",
    "did you feed the cat this morning",
    "we need bread butter and two apples",
    "play some music in the living room",
    "set the timer to ten minutes",
    "how much does it cost",
    "my brother comes to visit on sunday",
    "please close the window it is cold",
    "i have never been to that city",
    "the garden is full of flowers",
    "call me back after lunch",
    "where did you put the keys",
    "good morning how are you",
)
OTHER_TALK = (
    "the doctor has no time before friday",
    "can you read me the news",
    "they moved into a new house last year",
    "i forgot my umbrella at the office",
    "dinner is ready in half an hour",
    "the movie was longer than expected",
    "who is at the door",
    "switch off the heating in the bathroom",
    "seven eight nine ten eleven twelve",
    "she learned to swim when she was six",
    "let us go for a walk by the river",
    "no thank you maybe next time",
)


def _people(spec: str) -> tuple[Person, ...]:
    """Lines of a voice, stretch, pitch and speed."""
    rows = (line.split() for line in spec.strip().splitlines())
    return tuple(Person(Voice("espeak-ng", who), *map(float, rest)) for who, *rest in rows)


def phrase_sound(person: Person, text: str, number: int, seed: int = 0) -> tuple[Sound, int]:
    """A microphone's signal with the phrase, and the sample at which the phrase ends. number: of the repetition."""
    rng = np.random.default_rng([seed, zlib.crc32(f"{person}: {text}".encode()), number])
    speed, pitch = person.speed * rng.uniform(0.85, 1.2), person.pitch + rng.uniform(-1.5, 1.5)
    spoken = speak(person.voice, text, speed, pitch, person.stretch * rng.uniform(0.98, 1.02))
    spoken = _in_a_room(spoken / np.sqrt(np.mean(spoken**2)), rng)
    level, snr = 10 ** (rng.uniform(-30, -15) / 20), 10 ** (rng.uniform(10, 30) / 20)
    total = BEFORE + len(spoken) + AFTER
    heard = np.resize(colored_noise(rng), total) / snr
    heard[BEFORE : BEFORE + len(spoken)] += spoken
    return _as_counts(heard * level), BEFORE + len(spoken)


def _in_a_room(sound: Wave, rng: np.random.Generator) -> Wave:
    """The sound with echoes that decay by 60 dB within 0.1 to 0.4 s, of the same length."""
    time = np.arange(RATE * 2 // 5) / RATE
    echoes = rng.normal(size=len(time)) * 10 ** (-3 * time / rng.uniform(0.1, 0.4))
    echoes *= rng.uniform(0.1, 0.5) / np.sqrt(np.sum(echoes**2))
    echoes[0] += 1
    size = len(sound) + len(echoes)
    return np.asarray(np.fft.irfft(np.fft.rfft(sound, size) * np.fft.rfft(echoes, size), size)[: len(sound)])


def _as_counts(sound: Wave) -> Sound:
    return np.floor(np.clip(sound, -1, 1) * 32767 + 0.5).astype(np.int16)


def say_all(lines: Sequence[tuple[Person, str, int]], seed: int = 0) -> list[tuple[Sound, int]]:
    """`phrase_sound` of each line, several at a time."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(lambda line: phrase_sound(line[0], line[1], line[2], seed), lines))


def _speaking(languages: str, variants: str, count: int) -> tuple[Person, ...]:
    """So many people, each with a language and a variant in turn, and a throat, pitch and pace of their own."""
    every = languages.split(), variants.split()
    found = []
    for i in range(count):
        language, variant = (names[i % len(names)] for names in every)
        voice = Voice("espeak-ng", f"{language}+{variant}")
        stretch, pitch = (0.93, 1.0, 1.06, 0.97, 1.03)[i % 5], (0.0, 2.0, -2.0)[i % 3]
        found.append(Person(voice, stretch, pitch, (1.0, 0.9, 1.1, 1.0)[i % 4]))
    return tuple(found)


# Settings are chosen on the first; nobody else was listened to for a choice.
DEVELOPMENT = _speaking("pl de fr-fr sv tr el ro id nl", "f1 Annie m3 klatt2 Alex m7 linda", 27)
OWNERS = _speaking(
    "it cs hi es hu fi pt da hr sk et lt af ca is nb sq lv sl eu cy ms sw",
    "f4 Mike Andrea boris m1 Steph2 Denis anika victor f2 grandpa belinda rob Reed m5 Hugo f5 Lee whisper",
    92,
)
ENGLISH = "en-us en-gb en-gb-x-rp en-us-nyc en-gb-scotland en-gb-x-gbclan en-gb-x-gbcwmd en-029"
OTHERS = _speaking(ENGLISH, "m2 f3 Michael Alicia paul aunty m6 Jacky steph max ian", 53)
REPLAYED = _speaking(ENGLISH, "m4 Linda m8 adam david miguel quincy gustave travis", 24)
# Their speech without the word is replayed: non-native speakers reading English, and recorded speakers of flite.
SPEAKERS = (
    *_speaking(
        "en-us pl en-gb de es fr-fr it hi en-029 sv ru-lv tr id",
        "m4 Linda m8 adam david miguel quincy gustave travis klatt",
        40,
    ),
    *(
        Person(Voice("flite", name, tone), stretch, pitch, speed)
        for name, tone in (("slt", 170), ("rms", 105), ("awb", 130), ("kal16", 105))
        for stretch, pitch, speed in ((1, 0, 1), (0.9, 2, 1.1), (1.1, -2, 0.9), (1.05, 3, 1), (0.95, -3, 1.2))
    ),
)
