"""The privacy ledger of a fleet: what each attempt at a round may reveal of each board, in all federations of a site.

    site/ledger.db    SQLite, append-only

    attempts    the settings when it began: sigma, clip, least, masks, share; z is computed from them
    asked       the boards sampled for it: their index at that time, and their public key
    charged     the boards whose updates became visible; written before the message that exposes them
    ended       whether the average was published. A charged attempt without an end counts as published

The ledger identifies boards by public key, so neither a new roster nor another federation resets their budget.
Triggers keep programs from changing rows by mistake, but the file's owner can replace it. So a ledger that is missing,
or that lacks rounds of a federation, is an error and never recreated. Twins have no keys and no site: their ledger is
in their federation's folder.
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
LOCK_SECONDS = 60.0  # that another federation of the site may hold the lock
_BACKUP = (
    "restore it from a backup; without it, what was revealed of these boards is unknown, and no epsilon holds for them"
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
    """A ledger is missing, damaged, or not the federation's. No board was asked."""


class Ledger:
    """The ledger in `folder`. Each method is one transaction, on disk when it returns. Raises LedgerError, OSError.

    Several processes may use a ledger at once.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / NAME

    def begin(self) -> None:
        """Makes the file if it is missing. The caller has checked that the site has had no rounds."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            os.close(os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, SECRET))
        with self._changed(begun=False) as db:
            if db.execute("PRAGMA user_version").fetchone()[0] == 0:
                for statement in _schema():
                    db.execute(statement)

    @property
    def there(self) -> bool:
        """Whether the file exists and is not empty."""
        return self.path.is_file() and self.path.stat().st_size > 0

    def attempt(self, federation: str, step: int, plan: Plan, asked: Mapping[int, bytes]) -> int:
        """Records an attempt and the boards it asks (keys by index); its number. It charges nobody yet.

        BudgetSpent, and nothing is written, if charging all of them would exceed the budget. This federation's earlier
        attempts without an end are ended as not published.
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
        """Charges boards, whose updates may be visible from now on; a board that is charged already stays so.

        plan: BudgetSpent, and nothing is written, above its budget; None: charge without a check, after the fact.
        """
        with self._changed() as db:
            _charge(db, number, boards)
            if plan is not None and plan.budget:
                check_budget(plan, _spent(db))

    def end(self, number: int, published: bool) -> None:
        """Ends an attempt; an end that is recorded already stays."""
        with self._changed() as db:
            db.execute(
                "INSERT INTO ended SELECT ?1, ?2 WHERE NOT EXISTS (SELECT 1 FROM ended WHERE attempt = ?1)",
                (number, int(published)),
            )

    def spent(self) -> Spent:
        """The privacy cost of all federations of the site."""
        with self._opened() as db:
            return _spent(db)

    def asked(self, federation: str) -> list[list[int]]:
        """The boards of each attempt of a federation, by their index at that time."""
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
        """LedgerError if the ledger has fewer attempts of a federation than that has rounds."""
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
        """One atomic transaction, on disk at the end."""
        with self._opened(begun) as db:
            db.execute("BEGIN IMMEDIATE")
            try:
                yield db
            except BaseException:
                if db.in_transaction:  # SQLite itself rolls back on a full disk
                    db.execute("ROLLBACK")
                raise
            db.execute("COMMIT")

    @contextlib.contextmanager
    def _opened(self, begun: bool = True) -> Iterator[sqlite3.Connection]:
        if not self.path.is_file():
            raise LedgerError(f"{self.path} is missing: it records what was revealed of boards", remedy=_BACKUP)
        try:
            address = f"{self.path.resolve().as_uri()}?mode=rw"
            with contextlib.closing(
                sqlite3.connect(address, timeout=LOCK_SECONDS, isolation_level=None, uri=True)
            ) as db:
                db.execute("PRAGMA trusted_schema = OFF")
                db.execute("PRAGMA synchronous = EXTRA")  # also syncs the removal of the rollback journal
                known = [db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version")]
                if begun and known[1] > VERSION:
                    raise LedgerError(f"{self.path} was made by a newer edgelora", remedy="update this one")
                if begun and known != [APPLICATION, VERSION]:
                    raise LedgerError(f"{self.path} is not a ledger", remedy=_BACKUP)
                yield db
        except (sqlite3.Error, UnicodeDecodeError, OverflowError) as error:  # the last two come from damaged rows
            raise self._ledger_error(error) from error

    def _ledger_error(self, error: Exception) -> Exception:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code == sqlite3.SQLITE_FULL:
            return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path))
        if code == sqlite3.SQLITE_READONLY:
            return OSError(errno.EACCES, os.strerror(errno.EACCES), str(self.path))
        if code == sqlite3.SQLITE_BUSY:
            return LedgerError(
                f"{self.path} has been in use for {LOCK_SECONDS:g} s",
                remedy="close the program that holds it, then try again",
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
        yield (  # INSERT OR REPLACE would delete a row without the DELETE trigger
            f"CREATE TRIGGER {name}_insert BEFORE INSERT ON {name} "
            f"WHEN EXISTS (SELECT 1 FROM {name} WHERE {_PRIMARY.get(name, _ROW)}) "
            f"BEGIN SELECT RAISE(ABORT, 'rows of a ledger stay as they are'); END"
        )
    yield "CREATE INDEX of_federation ON attempts (federation)"
    yield f"PRAGMA application_id = {APPLICATION}"
    yield f"PRAGMA user_version = {VERSION}"


def _charge(db: sqlite3.Connection, number: int, boards: Collection[int]) -> None:
    """Charges boards, by their indices in the attempt; those that are charged already stay as they are."""
    asked = dict(db.execute("SELECT place, board FROM asked WHERE attempt = ?", (number,)))
    if strange := set(boards) - set(asked):
        raise sqlite3.DatabaseError(f"attempt {number} lacks boards {sorted(strange)}")
    there = {board for (board,) in db.execute("SELECT board FROM charged WHERE attempt = ?", (number,))}
    rows = [(number, asked[index]) for index in boards if asked[index] not in there]
    db.executemany("INSERT INTO charged VALUES (?, ?)", rows)


def _z(sigma: Any, clip: Any, boards: Any) -> float:
    """z of a row. Raises on values that a damaged or foreign file may have."""
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
