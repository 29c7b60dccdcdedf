"""The ledger of a fleet: what each attempt at a round could tell of which boards, for all federations of its site.

    site/ledger.db    SQLite; rows are added, and neither changed nor taken away

    attempts    what was asked for: sigma, clip, least, masks, share (of which z comes), as it was when it began
    asked       the boards that were drawn for it: the index that they had then, and their public key
    charged     the boards whose updates could be seen from then on: before the message that let them be
    ended       whether its average was published. One that was charged and has no end may have been

Boards are known by their public keys: a roster that is made anew buys nothing, and neither does another federation.
Triggers keep programs from changing rows by mistake; who owns the file can write another one. So a ledger that is
missing, or that lacks rounds which a federation has, is an error and never begun anew. Twins have no keys and no site:
their federation's folder has the ledger.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sqlite3
import time
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from edgelora.base.errors import EdgeloraError
from edgelora.core.formats.files import SECRET

from .plan import Plan, noise_in_clips
from .privacy import Spent, check_budget, inverse_square

NAME = "ledger.db"
APPLICATION, VERSION = 0x454C4C31, 1  # "ELL1"
LOCK_SECONDS = 60.0  # that another federation of the site may take to add rows
_BACKUP = (
    "put it back from a backup; without it nobody knows what was told of these boards, and no epsilon holds for them"
)
_TABLES = {
    "boards": "id INTEGER PRIMARY KEY, key BLOB NOT NULL UNIQUE",
    "attempts": "id INTEGER PRIMARY KEY, federation TEXT NOT NULL, step INTEGER NOT NULL, begun REAL NOT NULL, "
    "sigma INTEGER NOT NULL CHECK (sigma >= 0), clip INTEGER NOT NULL CHECK (clip > 0), "
    "least INTEGER NOT NULL CHECK (least > 0), masks INTEGER NOT NULL CHECK (masks IN (0, 1)), "
    "share REAL NOT NULL CHECK (share > 0 AND share <= 1)",
    "asked": "attempt INTEGER NOT NULL, board INTEGER NOT NULL, place INTEGER NOT NULL, PRIMARY KEY (attempt, board)",
    "charged": "attempt INTEGER NOT NULL, board INTEGER NOT NULL, PRIMARY KEY (attempt, board)",
    "ended": "attempt INTEGER PRIMARY KEY, published INTEGER NOT NULL CHECK (published IN (0, 1))",
}
_PRIMARY = {"boards": "id = NEW.id OR key = NEW.key", "attempts": "id = NEW.id", "ended": "attempt = NEW.attempt"}
_ROW = "attempt = NEW.attempt AND board = NEW.board"
_SEEN = (
    "SELECT charged.board, sigma, clip, CASE masks WHEN 1 THEN least ELSE 1 END, count(*) FROM charged "
    "JOIN attempts ON attempts.id = charged.attempt GROUP BY 1, 2, 3, 4"
)
_RELEASED = (
    "SELECT sigma, clip, least, share, count(*) FROM attempts WHERE id IN (SELECT attempt FROM charged) "
    "AND id NOT IN (SELECT attempt FROM ended WHERE NOT published) GROUP BY sigma, clip, least, share"
)


class LedgerError(EdgeloraError, RuntimeError):
    """A ledger is missing, damaged, or another one than the federation's. Nothing was asked of boards."""


class Ledger:
    """A site's, in `folder`. Each method is one transaction, on the disk when it returns. Raises LedgerError, OSError.

    Any number of processes may use one at once.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / NAME

    def begin(self) -> None:
        """Makes the file where there is none. The folder has had no rounds: the caller knows."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            os.close(os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, SECRET))
        with self._changed(begun=False) as db:
            if db.execute("PRAGMA user_version").fetchone()[0] == 0:
                for statement in _schema():
                    db.execute(statement)

    @property
    def there(self) -> bool:
        """Whether there is a file that was begun."""
        return self.path.is_file() and self.path.stat().st_size > 0

    def attempt(self, federation: str, step: int, plan: Plan, asked: Mapping[int, bytes]) -> int:
        """Writes down what is asked for, of which boards (keys by index); its number. It costs nothing yet.

        BudgetSpent, and nothing is written, if it may not be charged to all of them. What this federation has begun
        before and not ended is over: it was not published.
        """
        with self._changed() as db:
            db.execute(
                "INSERT INTO ended SELECT id, 0 FROM attempts WHERE federation = ? "
                "AND id NOT IN (SELECT attempt FROM ended)",
                (federation,),
            )
            settings = (plan.sigma, plan.clip, plan.least, int(plan.masks), plan.share)
            cursor = db.execute(
                "INSERT INTO attempts (federation, step, begun, sigma, clip, least, masks, share) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (federation, step, time.time(), *settings),
            )
            number = int(cursor.lastrowid or 0)
            keys = [(key,) for key in asked.values()]
            db.executemany(
                "INSERT INTO boards (key) SELECT ?1 WHERE NOT EXISTS (SELECT 1 FROM boards WHERE key = ?1)", keys
            )
            rows = [(number, index, key) for index, key in asked.items()]
            db.executemany("INSERT INTO asked SELECT ?1, id, ?2 FROM boards WHERE key = ?3", rows)
            if plan.budget:
                db.execute("SAVEPOINT whether")
                _charge(db, number, asked)
                check_budget(plan, _spent(db))
                db.execute("ROLLBACK TO whether")
        return number

    def charge(self, number: int, boards: Collection[int], plan: Plan | None) -> None:
        """From now on the updates of these boards may be seen; some may be charged already.

        plan: BudgetSpent, and nothing is written, above its budget; None: it has happened already.
        """
        with self._changed() as db:
            _charge(db, number, boards)
            if plan is not None and plan.budget:
                check_budget(plan, _spent(db))

    def end(self, number: int, published: bool) -> None:
        """The attempt is over. What is written down already stays."""
        with self._changed() as db:
            db.execute(
                "INSERT INTO ended SELECT ?1, ?2 WHERE NOT EXISTS (SELECT 1 FROM ended WHERE attempt = ?1)",
                (number, int(published)),
            )

    def spent(self) -> Spent:
        """By all federations of the site."""
        with self._opened() as db:
            return _spent(db)

    def asked(self, federation: str) -> list[list[int]]:
        """The boards of each attempt of a federation, by the index that they had."""
        query = (
            "SELECT attempts.id, asked.place FROM attempts LEFT JOIN asked ON asked.attempt = attempts.id "
            "WHERE federation = ? ORDER BY attempts.id, asked.place"
        )
        found: dict[int, list[int]] = {}
        with self._opened() as db:
            for number, place in db.execute(query, (federation,)):
                found.setdefault(number, []).extend([] if place is None else [place])
        return list(found.values())

    def charged(self, number: int) -> bool:
        """Whether an attempt was charged to anybody."""
        with self._opened() as db:
            return bool(db.execute("SELECT 1 FROM charged WHERE attempt = ? LIMIT 1", (number,)).fetchone())

    def check(self, federation: str, rounds: int) -> None:
        """LedgerError unless it has as many attempts of a federation as that has rounds, which had one each."""
        with self._opened() as db:
            [count] = db.execute("SELECT count(*) FROM attempts WHERE federation = ?", (federation,)).fetchone()
        if count < rounds:
            raise LedgerError(
                f"{self.path} has {count} of the {rounds} rounds that the federation has carried: it is another one, "
                "or an old copy",
                remedy=_BACKUP,
            )

    # --- the file

    @contextlib.contextmanager
    def _changed(self, begun: bool = True) -> Iterator[sqlite3.Connection]:
        """All that is done with it is on the disk at the end, or nothing."""
        with self._opened(begun) as db:
            db.execute("BEGIN IMMEDIATE")
            try:
                yield db
            except BaseException:
                if db.in_transaction:  # a full disk has ended it
                    db.execute("ROLLBACK")
                raise
            db.execute("COMMIT")

    @contextlib.contextmanager
    def _opened(self, begun: bool = True) -> Iterator[sqlite3.Connection]:
        if not self.path.is_file():
            raise LedgerError(f"{self.path} is missing, which has what was told of boards", remedy=_BACKUP)
        try:
            address = f"{self.path.resolve().as_uri()}?mode=rw"
            with contextlib.closing(
                sqlite3.connect(address, timeout=LOCK_SECONDS, isolation_level=None, uri=True)
            ) as db:
                db.execute("PRAGMA trusted_schema = OFF")
                db.execute("PRAGMA synchronous = EXTRA")  # also that a rollback journal is gone
                known = [db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version")]
                if begun and known[1] > VERSION:
                    raise LedgerError(f"{self.path} is of a newer edgelora", remedy="update this one")
                if begun and known != [APPLICATION, VERSION]:
                    raise LedgerError(f"{self.path} is no ledger", remedy=_BACKUP)
                yield db
        except (sqlite3.Error, UnicodeDecodeError, OverflowError) as error:  # the others: of damaged rows
            raise self._told(error) from error

    def _told(self, error: Exception) -> Exception:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code == sqlite3.SQLITE_FULL:
            return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path))
        if code == sqlite3.SQLITE_READONLY:
            return OSError(errno.EACCES, os.strerror(errno.EACCES), str(self.path))
        if code == sqlite3.SQLITE_BUSY:
            return LedgerError(
                f"{self.path} is in use for longer than {LOCK_SECONDS:g} s", remedy="see what holds it, then try again"
            )
        return LedgerError(f"{self.path} can't be used: {error}", remedy=_BACKUP)


def _schema() -> Iterator[str]:
    for name, columns in _TABLES.items():
        yield f"CREATE TABLE {name} ({columns}) STRICT"
        for change in ("UPDATE", "DELETE"):
            yield (
                f"CREATE TRIGGER {name}_{change} BEFORE {change} ON {name} "
                f"BEGIN SELECT RAISE(ABORT, 'rows of a ledger stay as they are'); END"
            )
        yield (  # INSERT OR REPLACE would take a row away, and tell no trigger
            f"CREATE TRIGGER {name}_insert BEFORE INSERT ON {name} "
            f"WHEN EXISTS (SELECT 1 FROM {name} WHERE {_PRIMARY.get(name, _ROW)}) "
            f"BEGIN SELECT RAISE(ABORT, 'rows of a ledger stay as they are'); END"
        )
    yield "CREATE INDEX of_federation ON attempts (federation)"
    yield f"PRAGMA application_id = {APPLICATION}"
    yield f"PRAGMA user_version = {VERSION}"


def _charge(db: sqlite3.Connection, number: int, boards: Collection[int]) -> None:
    """By the indices that they were asked with; those that are charged already are left as they are."""
    asked = dict(db.execute("SELECT place, board FROM asked WHERE attempt = ?", (number,)))
    if strange := set(boards) - set(asked):
        raise sqlite3.DatabaseError(f"attempt {number} lacks boards {sorted(strange)}")
    there = {board for (board,) in db.execute("SELECT board FROM charged WHERE attempt = ?", (number,))}
    rows = [(number, asked[index]) for index in boards if asked[index] not in there]
    db.executemany("INSERT INTO charged VALUES (?, ?)", rows)


def _z(sigma: Any, clip: Any, boards: Any) -> float:
    """Of a row, which may be anything in a file that was not made here."""
    if not all(isinstance(one, int) for one in (sigma, clip, boards)) or sigma < 0 or clip < 1 or boards < 1:
        raise sqlite3.DatabaseError(f"an attempt with sigma {sigma!r}, clip {clip!r}, least {boards!r}")
    return noise_in_clips(sigma, clip, boards)


def _spent(db: sqlite3.Connection) -> Spent:
    seen = defaultdict[int, float](float)
    for board, sigma, clip, summed, times in db.execute(_SEEN):
        seen[board] += times * inverse_square(_z(sigma, clip, summed))
    released = []
    for sigma, clip, least, share, times in db.execute(_RELEASED):
        if not isinstance(share, float) or not 0 < share <= 1:
            raise sqlite3.DatabaseError(f"a share of {share!r}")
        released.append((_z(sigma, clip, least), share, int(times)))
    return Spent(tuple(released), max(seen.values(), default=0.0))
