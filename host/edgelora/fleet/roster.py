"""The roster of a fleet (SPEC.md, section 17), the signed list of its boards; and the folder that holds it.

site/roster.elg     the signed roster, which every board gets
site/release.pub    public keys whose signatures are trusted
site/server.key     the X25519 secret of the server that sums updates; only its owner may read it
site/last-round     the highest round number given to boards
site/ledger.db      the privacy ledger (`ledger`)
site/boards.json    names of boards, and revoked keys; for the host only

The release key, which signs rosters, is not in the folder, so the folder can be copied to the server.
"""

from __future__ import annotations

import hashlib
import json
import re
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from edgelora.base.errors import EdgeloraError
from edgelora.core.formats.elu import TARGET_SIZE, key_id, public_bytes
from edgelora.core.formats.files import SECRET, read_bounded, write_atomic, write_new

MAGIC, VERSION = b"ELG1", 1
KEY_SIZE = 32
MAX_BOARDS = 65535  # 65535 as an index is the server's
HEADER = struct.Struct("<4sHHII8s24s32s16s")
SIGNATURE_SIZE = 64
HEADER_SIZE = HEADER.size + SIGNATURE_SIZE
MAX_ROSTER = HEADER_SIZE + MAX_BOARDS * KEY_SIZE
MAX_NAMES = 16 << 20
MAX_NUMBER = 12  # bytes of last-round
REVOKED = bytes(KEY_SIZE)
BOARD_NAME = re.compile(r"[A-Za-z0-9._-]{1,32}")
SERVER = 0xFFFF  # the server's index


class RosterError(EdgeloraError, ValueError):
    """A roster or its folder can't be used or changed; the message says why. Files are unchanged."""


@dataclass(frozen=True)
class Roster:
    """A roster with a verified signature, or one to be signed.

    number: rises with every change. keys: X25519 public keys, 32 bytes each, by index; `REVOKED` for a revoked board.
    server: the server's X25519 public key. release: the Ed25519 public key that verifies the signature, 32 bytes.
    """

    number: int
    target: str
    server: bytes
    release: bytes
    keys: tuple[bytes, ...] = ()

    @property
    def fleet(self) -> bytes:
        """The fleet's id, 8 bytes, to which its messages are bound."""
        named = self.target.encode().ljust(TARGET_SIZE, b"\0")
        return hashlib.sha512(b"edgelora fleet" + self.release + named).digest()[:8]

    @property
    def active(self) -> list[int]:
        """Indices of boards that are not revoked."""
        return [index for index, key in enumerate(self.keys) if key != REVOKED]

    @property
    def members(self) -> dict[int, bytes]:
        """Public keys of boards that are not revoked, by index."""
        return {index: self.keys[index] for index in self.active}

    def index_of(self, key: bytes) -> int | None:
        return self.keys.index(key) if key in self.keys and key != REVOKED else None

    def pack(self, key: Ed25519PrivateKey) -> bytes:
        """The signed file. Raises RosterError."""
        if public_bytes(key) != self.release:
            raise RosterError(
                f"the roster is signed by key {key_id(self.release).hex()}, not of {key_id(public_bytes(key)).hex()}",
                remedy="sign with the fleet's original key",
            )
        if not 0 < self.number < 1 << 32 or len(self.keys) > MAX_BOARDS:
            raise RosterError(f"number {self.number}, {len(self.keys)} boards: a roster has at most {MAX_BOARDS}")
        head = HEADER.pack(
            MAGIC,
            VERSION,
            HEADER_SIZE,
            self.number,
            len(self.keys),
            key_id(self.release),
            self.target.encode(),
            self.server,
            bytes(16),
        )
        entries = b"".join(self.keys)
        return head + key.sign(head + hashlib.sha512(entries).digest()) + entries

    @classmethod
    def read(cls, data: bytes, trusted: Sequence[bytes], where: str = "roster") -> Roster:
        """Reads a roster signed by one of the trusted keys (Ed25519, 32 bytes each). Raises RosterError."""
        if len(data) < HEADER_SIZE or data[:4] != MAGIC:
            raise RosterError(f"{where} is not a roster", remedy="`edgelora fleet enroll` makes one")
        _, version, size, number, count, signer, target, server, zeros = HEADER.unpack_from(data)
        if (version, size) != (VERSION, HEADER_SIZE):
            raise RosterError(f"{where} has format {version}", remedy="a newer edgelora made it: update this one")
        entries = data[HEADER_SIZE:]
        if len(entries) != count * KEY_SIZE or not count <= MAX_BOARDS or any(zeros) or not number:
            raise RosterError(f"{where} is damaged", remedy="copy it again from where it was signed")
        release = next((key for key in trusted if key_id(key) == signer), None)
        if release is None:
            raise RosterError(
                f"{where} is signed by key {signer.hex()}, which is not trusted here",
                remedy="it is another owner's; use the fleet's own",
            )
        try:
            Ed25519PublicKey.from_public_bytes(release).verify(
                data[HEADER.size : HEADER_SIZE], data[: HEADER.size] + hashlib.sha512(entries).digest()
            )
            name = target.rstrip(b"\0").decode()
        except (InvalidSignature, ValueError):
            raise RosterError(f"{where} has a wrong signature", remedy="it was changed: copy it again") from None
        keys = tuple(entries[at : at + KEY_SIZE] for at in range(0, len(entries), KEY_SIZE))
        return cls(number, name, server, release, keys)


def is_public(key: bytes) -> bool:
    """Whether these 32 bytes are a usable X25519 public key."""
    try:
        X25519PrivateKey.generate().exchange(X25519PublicKey.from_public_bytes(key))
    except ValueError:
        return False
    return True


def check_public(key: bytes) -> None:
    """Raises RosterError unless these are a usable public key, 32 bytes."""
    if not is_public(key):
        raise RosterError(
            f"{len(key)} bytes that are not a board's public key",
            remedy="give its 32 bytes, or 64 hex digits",
        )


def parse_public(content: bytes) -> bytes:
    """A board's public key, given as 32 bytes or as hex. Raises RosterError."""
    key = content
    if len(content) != KEY_SIZE:
        try:
            key = bytes.fromhex(content[:200].decode().strip())
        except ValueError:
            key = b""
    check_public(key)
    return key


@dataclass(frozen=True)
class _Notes:
    """Notes about boards that only the host keeps. names: by public key in hex; revoked: public keys in hex."""

    names: dict[str, str] = field(default_factory=dict)
    revoked: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Board:
    """A row of the roster. key: in hex, "" if revoked."""

    index: int
    name: str
    key: str
    revoked: bool


class Site:
    """The folder of a fleet. Its files are verified whenever they are read."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / "roster.elg"

    @classmethod
    def create(cls, folder: Path, target: str, key: Ed25519PrivateKey) -> Site:
        """Makes a fleet without boards. Raises RosterError if the folder has one already, or an OSError."""
        if not 0 < len(target.encode()) <= TARGET_SIZE or "\0" in target:
            raise RosterError(f"target {target!r}: give 1 to {TARGET_SIZE} bytes, the product that its boards are")
        site = cls(folder)
        if site.path.exists():
            raise RosterError(f"{site.path} already exists", remedy="a fleet keeps its roster; choose another folder")
        folder.mkdir(parents=True, exist_ok=True)
        secret = folder / "server.key"
        if not secret.exists():
            write_new(secret, X25519PrivateKey.generate().private_bytes_raw(), SECRET)
        write_atomic(folder / "release.pub", public_bytes(key))
        server = X25519PrivateKey.from_private_bytes(site.secret()).public_key().public_bytes_raw()
        write_atomic(site.path, Roster(1, target, server, public_bytes(key)).pack(key))
        return site

    # --- what it holds

    def data(self) -> bytes:
        """The signed roster's file, as boards get it. Raises RosterError or an OSError."""
        data = read_bounded(self.path, MAX_ROSTER)
        Roster.read(data, self.trusted(), str(self.path))
        return data

    def roster(self) -> Roster:
        return Roster.read(self.data(), self.trusted(), str(self.path))

    def secret(self) -> bytes:
        """The server's X25519 secret, 32 bytes."""
        path = self.folder / "server.key"
        secret = read_bounded(path, KEY_SIZE)
        if len(secret) != KEY_SIZE:
            raise RosterError(f"{path} is not a server's key", remedy="copy it again from where the fleet began")
        return secret

    @property
    def has_had_rounds(self) -> bool:
        """Whether boards of this fleet were given a round number."""
        return (self.folder / "last-round").exists()

    def next_number(self, number: int) -> int:
        """A round number above all earlier ones: `number` if possible. It is saved on disk. Raises RosterError."""
        path = self.folder / "last-round"
        try:
            number = max(number, int(read_bounded(path, MAX_NUMBER)) + 1)
        except FileNotFoundError:
            pass
        except ValueError:
            raise RosterError(f"{path} is damaged", remedy="remove it: then rounds are numbered by the clock") from None
        write_atomic(path, b"%d\n" % number)
        return number

    def boards(self) -> list[Board]:
        names = self._notes().names
        return [
            Board(index, names.get(key.hex(), ""), "" if key == REVOKED else key.hex(), key == REVOKED)
            for index, key in enumerate(self.roster().keys)
        ]

    def find(self, board: str) -> Board:
        """A board by name, index or public key in hex. Raises RosterError."""
        rows = self.boards()
        for row in rows:
            if board in (row.name, str(row.index), row.key) and not row.revoked:
                return row
        if board.isdecimal() and int(board) < len(rows):
            raise RosterError(f"board {board} is already revoked")
        raise RosterError(f"no board {board!r}", remedy="`edgelora fleet roster` lists names and indices")

    # --- changes

    def enroll(self, public: bytes, name: str, key: Ed25519PrivateKey, again: bool = False) -> tuple[Roster, int]:
        """Adds a board by its X25519 public key, 32 bytes; its permanent index. Raises RosterError or an OSError.

        again: accept a key that was revoked.
        """
        made = self.enroll_all([(public, name)], key, again)
        return made, len(made.keys) - 1

    def enroll_all(self, boards: Sequence[tuple[bytes, str]], key: Ed25519PrivateKey, again: bool = False) -> Roster:
        """Adds all boards, by public key and name ("": none), in one new roster, or none of them. See `enroll`."""
        notes, roster = self._notes(), self.roster()
        keys, names, revoked = dict.fromkeys(roster.keys), dict(notes.names), set(notes.revoked)
        called = {names[known.hex()] for known in keys if known.hex() in names}
        for public, name in boards:
            check_public(public)
            if name and (not BOARD_NAME.fullmatch(name) or name.isdecimal()):
                raise RosterError(f"name {name!r}: give 1 to 32 letters, digits, - _ . and not digits alone")
            if public in keys:
                known = names.get(public.hex(), "")
                raise RosterError(f"this board is enrolled already, as {roster.index_of(public)} {known}".rstrip())
            if name and name in called:
                raise RosterError(f"another board is named {name}", remedy="choose another --name")
            if public.hex() in revoked and not again:
                raise RosterError(
                    "this board's key was revoked",
                    remedy="have the board make a new key, or say --again if you mean it",
                )
            keys[public] = None
            if name:
                names[public.hex()] = name
                called.add(name)
            revoked.discard(public.hex())
        added = tuple(public for public, _ in boards)
        made = replace(roster, number=roster.number + 1, keys=roster.keys + added)
        self._write(_Notes(names, sorted(revoked)), made, key)
        return made

    def revoke(self, board: str, key: Ed25519PrivateKey) -> tuple[Roster, Board]:
        """Revokes a board, by name, index or key; its index is not used again. Raises RosterError or an OSError."""
        row, roster, notes = self.find(board), self.roster(), self._notes()
        keys = (*roster.keys[: row.index], REVOKED, *roster.keys[row.index + 1 :])
        names = {known: name for known, name in notes.names.items() if known != row.key}
        made = replace(roster, number=roster.number + 1, keys=keys)
        self._write(_Notes(names, [*notes.revoked, row.key]), made, key)
        return made, row

    def _write(self, notes: _Notes, roster: Roster, key: Ed25519PrivateKey) -> None:
        signed = roster.pack(key)
        text = json.dumps({"names": notes.names, "revoked": notes.revoked}, indent=1)
        write_atomic(self.folder / "boards.json", text.encode())  # first: names of keys outside the roster are harmless
        write_atomic(self.path, signed)

    # --- parts

    def trusted(self) -> list[bytes]:
        """The Ed25519 public keys that are trusted, 32 bytes each. Raises RosterError or an OSError."""
        path = self.folder / "release.pub"
        trusted = read_bounded(path, KEY_SIZE * 16)
        if not trusted or len(trusted) % KEY_SIZE:
            raise RosterError(f"{path} holds no public key", remedy="copy there the .pub file of `edgelora keygen`")
        return [trusted[at : at + KEY_SIZE] for at in range(0, len(trusted), KEY_SIZE)]

    def _notes(self) -> _Notes:
        path = self.folder / "boards.json"
        try:
            found = json.loads(read_bounded(path, MAX_NAMES))
        except FileNotFoundError:
            return _Notes()
        except (ValueError, RecursionError):
            found = None
        if not _are_notes(found):
            raise RosterError(f"{path} is damaged", remedy="remove it: names of boards are lost, nothing else")
        return _Notes(found["names"], found["revoked"])


def _are_notes(found: Any) -> bool:
    text: Callable[[Any], bool] = lambda value: isinstance(value, str)  # noqa: E731
    return (
        isinstance(found, dict)
        and isinstance(found.get("names"), dict)
        and all(text(name) and BOARD_NAME.fullmatch(name) for name in found["names"].values())
        and isinstance(found.get("revoked"), list)
        and all(map(text, found["revoked"]))
    )
