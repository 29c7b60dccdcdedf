"""Makes host/edgelora/learn/wake/replay.npz, the replay set of wake words, from synthesized speech alone.

    python tools/wake_replay.py            writes the file
    python tools/wake_replay.py --check    says whether it would be the same

Sayings: each word by other voices. Speech: pieces without it, of tools/wake_speech.tsv: word, number of the
speaker in `wake_speech.SPEAKERS`, seed and number of the utterance, the frame that ends the piece, and the text. These
pieces were searched for among three hours of sentences and made-up words: adapters of four people
of `wake_speech.DEVELOPMENT` took them for the word most confidently, in three rounds, each with those of the earlier
rounds in training.
"""

from __future__ import annotations

import io
import os
import sys
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from edgelora.core.formats.files import write_atomic
from edgelora.core.front_ends import AUDIO_HOP, AudioFrontEnd
from edgelora.learn.wake.replay import FILE, ROWS_AFTER, STEP
from edgelora.model.datasets.wake_speech import PHRASES, REPLAYED, SPEAKERS, phrase_sound

PIECES = Path(__file__).with_name("wake_speech.tsv")
ROWS = 180  # of a piece: 60 frames, the longest memory of the known wake words
Rows = NDArray[np.uint8]


def main(arguments: list[str]) -> int:
    made = packed(replay_set())
    if "--check" in arguments:
        same = FILE.read_bytes() == made
        print(f"{FILE.name}: {'the same' if same else 'DIFFERS'}")
        return not same
    write_atomic(FILE, made)
    print(f"{FILE}: {len(made)} bytes")
    return 0


def replay_set() -> dict[str, NDArray[np.uint8]]:
    """Arrays [pieces, rows, 40] by name: `NAME.sayings` and `NAME.speech` for each word."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        arrays = {
            f"{name}.sayings": np.stack(list(pool.map(_saying, [name] * len(REPLAYED), range(len(REPLAYED)))))
            for name in PHRASES
        }
        lines = [line.split("\t") for line in PIECES.read_text().splitlines()]
        for name in PHRASES:
            mine = [line for line in lines if line[0] == name]
            arrays[f"{name}.speech"] = np.stack(list(pool.map(_piece, mine)))
    return arrays


def _saying(name: str, voice: int) -> Rows:
    """A voice says the word; `ROWS_AFTER` rows follow its end."""
    sound, end = phrase_sound(REPLAYED[voice], PHRASES[name].said, 0, 1)
    rows = AudioFrontEnd().feed(sound)
    return _stored(rows, end // AUDIO_HOP + ROWS_AFTER, ROWS + ROWS_AFTER)


def _piece(line: list[str]) -> Rows:
    _, speaker, seed, number, frame, text = line
    sound, _ = phrase_sound(SPEAKERS[int(speaker)], text, int(number), int(seed))
    return _stored(AudioFrontEnd().feed(sound), 3 * (int(frame) + 1), ROWS)


def _stored(rows: NDArray[np.int16], end: int, count: int) -> Rows:
    """The `count` rows that end before row `end`, of silence where there are none, as bytes."""
    end = min(end, len(rows))
    part = rows[max(end - count, 0) : end]
    silence = np.zeros((count - len(part), rows.shape[1]), np.int16)
    return ((np.concatenate([silence, part]).astype(np.int32) + STEP // 2) // STEP).clip(0, 255).astype(np.uint8)


def packed(arrays: dict[str, NDArray[np.uint8]]) -> bytes:
    """A compressed .npz of these arrays, the same bytes each time."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name, array in arrays.items():
            array_file = io.BytesIO()
            npy.write_array(array_file, array)
            archive.writestr(zipfile.ZipInfo(f"{name}.npy"), array_file.getvalue(), zipfile.ZIP_DEFLATED)
    return content.getvalue()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
