"""The roster: signed, written atomically; rosters of others are refused."""

from __future__ import annotations

import random
import stat
from pathlib import Path

import pytest
from commands import edgelora, result
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from edgelora.core.formats.elu import public_bytes
from edgelora.core.formats.files import SECRET, write_atomic
from edgelora.fleet.roster import REVOKED, Roster, RosterError, Site, parse_public


def board_key() -> bytes:
    return X25519PrivateKey.generate().public_key().public_bytes_raw()


@pytest.fixture
def key() -> Ed25519PrivateKey:
    return Ed25519PrivateKey.generate()


@pytest.fixture
def site(tmp_path: Path, key: Ed25519PrivateKey) -> Site:
    return Site.create(tmp_path / "fleet", "band", key)


def test_boards_come_and_go(site: Site, key: Ed25519PrivateKey) -> None:
    publics = [board_key() for _ in range(4)]
    for number, public in enumerate(publics):
        assert site.enroll(public, f"b{number}", key)[1] == number
    before = site.roster()
    made, row = site.revoke("b1", key)
    assert (row.index, row.name) == (1, "b1") and made == site.roster()
    assert made.number == before.number + 1 == 6
    assert made.keys == (publics[0], REVOKED, publics[2], publics[3]) and made.active == [0, 2, 3]
    assert made.index_of(publics[3]) == 3 and made.index_of(publics[1]) is None and made.index_of(REVOKED) is None
    with pytest.raises(RosterError, match="was revoked"):
        site.enroll(publics[1], "", key)
    assert site.enroll(publics[1], "b1", key, again=True)[1] == 4  # an index is never reused
    with pytest.raises(RosterError, match="enrolled already, as 0 b0"):
        site.enroll(publics[0], "", key)
    with pytest.raises(RosterError, match="another board is named b0"):
        site.enroll(board_key(), "b0", key)
    with pytest.raises(RosterError, match="already revoked"):
        site.find("1")
    with pytest.raises(RosterError, match="no board"):
        site.find("")


def test_only_the_owners_roster_counts(site: Site, key: Ed25519PrivateKey) -> None:
    site.enroll(board_key(), "a", key)
    data, trusted = site.data(), [public_bytes(key)]
    with pytest.raises(RosterError, match="sign with the fleet's original key"):
        site.enroll(board_key(), "b", Ed25519PrivateKey.generate())
    assert site.data() == data  # unchanged
    with pytest.raises(RosterError, match="not trusted here"):
        Roster.read(data, [public_bytes(Ed25519PrivateKey.generate())])
    drawn = random.Random(1)
    for _ in range(300):
        bad = bytearray(data)
        bad[drawn.randrange(len(bad))] ^= 1 << drawn.randrange(8)
        for damaged in (bytes(bad), data[: drawn.randrange(len(data))], data + bytes(32)):
            with pytest.raises(RosterError):
                Roster.read(damaged, trusted)
    site.path.write_bytes(data[:-1])
    with pytest.raises(RosterError, match="damaged"):
        site.enroll(board_key(), "b", key)


def test_keys_without_a_shared_secret_are_refused(site: Site, key: Ed25519PrivateKey) -> None:
    order_8 = bytes.fromhex("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800")
    for bad in (bytes(32), bytes([1, *bytes(31)]), order_8, b"", bytes(31)):
        with pytest.raises(RosterError, match="not a board's public key"):
            site.enroll(bad, "", key)
    good = board_key()
    assert parse_public(good) == parse_public(good.hex().encode() + b"\n") == good
    for text in (b"zz", good.hex().encode()[:-1], good * 2):
        with pytest.raises(RosterError):
            parse_public(text)


def test_commands(tmp_path: Path) -> None:
    release, folder = tmp_path / "release.pem", tmp_path / "fleet"
    edgelora("keygen", release)
    publics = [board_key() for _ in range(3)]
    (tmp_path / "board.pub").write_bytes(publics[0])
    first = ["fleet", "enroll", folder, "--key", release, "--public", tmp_path / "board.pub"]
    assert "begin a fleet with --target" in edgelora(*first, code=1)
    assert result(*first, "--target", "band", "--name", "kitchen")["index"] == 0
    assert "the fleet is for band" in edgelora(*first, "--target", "other", code=1)
    for public in publics[1:]:
        edgelora("fleet", "enroll", folder, "--key", release, "--public", public.hex())
    assert stat.S_IMODE((folder / "server.key").stat().st_mode) == 0o600
    gone = result("fleet", "revoke", folder, "kitchen", "--key", release)
    assert (gone["index"], gone["boards"], gone["roster"]) == (0, 2, 5)
    listed = result("fleet", "roster", folder)
    assert [(row["index"], row["revoked"]) for row in listed["rows"]] == [(0, True), (1, False), (2, False)]
    assert listed["rows"][1]["key"] == publics[1].hex()
    assert "2 boards of 3" in edgelora("fleet", "roster", folder)
    (folder / "boards.json").write_text('{"names": {"a": 3}, "revoked": []}')
    assert "boards.json is damaged" in edgelora("fleet", "roster", folder, code=1)


def test_a_federation_with_noise_draws_its_own_seed(tmp_path: Path) -> None:
    """Who is asked must be secret, and so must the file that determines it, from its first byte on."""
    init = ("fleet", "init", tmp_path / "federation", "--data", "har", "--noise", 1)
    assert "omit --seed" in edgelora(*init, "--seed", 5, code=1)
    secret = tmp_path / "secret"
    secret.write_bytes(b"old")
    secret.chmod(0o644)
    for path in (secret, tmp_path / "new"):
        write_atomic(path, b"x", SECRET)
        assert (path.read_bytes(), path.stat().st_mode & 0o777) == (b"x", 0o600)
