"""A board that acts on its own: outputs, requests and keys on desktop MicroPython, and when it says "nothing"."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fresh import fresh_seeds
from programs import desktop
from sensing import adapters, motion_base

from edgelora.learn.streaming.main_program import KEYS
from edgelora.learn.training.data.base import Base, adapter_ranks
from edgelora.learn.training.heads.known import Known, Looker, Rule
from edgelora.model.datasets import har
from edgelora.model.datasets.dataset import Dataset


def run(folder: Path, call: str) -> list[str]:
    return desktop(folder, f"import acting_suite; acting_suite.{call}").splitlines()


def test_outputs_follow_the_class(tmp_path: Path) -> None:
    """Each output acts when its class is seen after another one; Hold releases on another class; no decision changes
    nothing."""
    line, told, refused = run(tmp_path, "pins()")
    assert line == "seen b" and "no class x" in refused
    done = json.loads(told)
    seen = [(i, one) for i, one in enumerate(done) if not isinstance(one, list)]
    assert [one for _, one in seen] == ["a", "a", None, "b", "b", "c", "a"]
    between = [done[at + 1 : (seen[k + 1][0] if k + 1 < len(seen) else len(done))] for k, (at, _) in enumerate(seen)]
    assert between[0][:4] == [[1, 1], [2, 1], [3, 1], [4, 1]] and [4, 0] in [*between[0], *between[1]]
    assert not between[2] and between[3] == [[1, 0], [2, 0]] and not between[4] and not between[5]
    assert between[6][:4] == [[1, 1], [2, 1], [3, 0], [4, 1]], "a pin that was toggled is low again"
    assert [1, 0] in between[6] and [4, 0] in between[6], "what it holds or pulses is let go at the end"


class Server:
    """Listens on a port and records what arrives; `answers` returns the response once the request is complete."""

    def __init__(self, answers: Callable[[bytes], bytes]) -> None:
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.port, self.came = self.listening.getsockname()[1], []
        self._answers = answers
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            connection, _ = self.listening.accept()
            with connection:
                connection.settimeout(20)
                data, answered = b"", False
                while more := connection.recv(4096):
                    data += more
                    if not answered and (answer := self._answers(data)):
                        answered = True
                        connection.sendall(answer)
                        if answer.startswith(b"HTTP"):
                            break
                self.came.append(data)


def _http(data: bytes) -> bytes:
    head, _, body = data.partition(b"\r\n\r\n")
    whole = b"\r\n\r\n" in data and (b"POST" not in head or len(body) >= 3)
    return b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n" if whole else b""


def test_requests_do_not_delay_recognition(tmp_path: Path) -> None:
    """HTTP and MQTT bytes as sent; an address without a server is reported, and the run continues."""
    web, broker = Server(_http), Server(lambda data: b"\x20\x02\x00\x00")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        deaf = taken.getsockname()[1]
    said = run(tmp_path, f"talk({web.port}, {broker.port}, {deaf})")
    assert said[-1] == '"done"' and any(f":{deaf}: " in line for line in said[:-1]), said
    requests = sorted(web.came)
    assert requests[0].startswith(b"GET /lamp?on=1 HTTP/1.0\r\n")
    assert requests[1].startswith(b"POST /log HTTP/1.0\r\n") and requests[1].endswith(b"\r\n\r\nh\xc3\xa9")
    assert b"Content-Length: 3\r\n" in requests[1]
    hello = b"\x10\x14\x00\x04MQTT\x04\x02\x00\x3c\x00\x08edgelora"
    topic = b"home/lamp"
    message = b"\x30" + b"\xd3\x01" + len(topic).to_bytes(2, "big") + topic + b"x" * 200
    assert broker.came == [hello + message + b"\xe0\x00"]


def test_a_truncated_answer_is_not_said_to_resume(tmp_path: Path) -> None:
    """Downloads of updates resume, requests of actions don't: the message must not promise it."""
    server = Server(lambda data: b"HTTP/")
    assert run(tmp_path, f"cut({server.port})") == [f"127.0.0.1:{server.port}: the server ended the connection"]


def test_a_keyboard_is_described_as_usb_has_it(tmp_path: Path) -> None:
    told, pressed, written, refused = (json.loads(line) for line in run(tmp_path, "keyboard()"))
    config, hid, report, idle, other = told
    assert config[2] | config[3] << 8 == len(config) == 75 + 25 and config[4] == 3
    interface, descriptor, endpoint = config[75:84], config[84:93], config[93:]
    assert interface == [9, 4, 2, 0, 1, 3, 1, 1, 0] and descriptor == hid and endpoint[:4] == [7, 5, 0x83, 3]
    assert hid[7] == len(report) and report[-1] == 0xC0 and idle is True and other is False
    reports = [one for one in pressed if isinstance(one, list)]
    assert reports == [[0x83, [0, 0, 5, 0, 0, 0, 0, 0]], [0x83, [0] * 8]]
    keys = [report[:3] for _, report in written]
    assert keys[::2] == [[0, 0, 4], [2, 0, 5], [0, 0, 42], [2, 0, 56]] and keys[1::2] == [[0, 0, 0]] * 4
    assert "F13" in refused and set(KEYS[36:]) == set(refused.partition("one of ")[2].split(", "))


def test_ctrl_c_leaves_no_temporary_output(tmp_path: Path) -> None:
    """A pulse ends, a key is released and a request is abandoned: no output stays in a temporary state."""
    server = Server(lambda data: b"")
    outputs, over = (json.loads(line) for line in run(tmp_path, f"stopped({server.port})"))
    pins = [one for one in outputs if one[0] == 4]
    reports = [one for one in outputs if one[0] == 0x83]
    assert pins == [[4, 1], [4, 0]] and over is True
    assert reports == [[0x83, [0, 0, 5, 0, 0, 0, 0, 0]], [0x83, [0] * 8]]


# --- nothing


@pytest.fixture(scope="module")
def person() -> tuple[Base, Dataset, np.ndarray]:
    """The studio's base, four of a person's exercises by name, and a recording: an exercise, rest, another exercise."""
    base, data = motion_base(), har.load_har(3)
    own = data.train.only([data.train.labels[i] for i in (0, 2, 4, 6)])
    signal = base.model.signal
    assert signal is not None
    own = replace(own, signal=signal)
    moving = signal.counts(data.test.x.reshape(-1, signal.window, signal.channels))
    rest = np.broadcast_to(np.round(moving[0].mean(0)), (500, signal.channels)).astype(np.int16)
    return base, own, np.concatenate([moving[0], moving[1], rest, *moving[-6:]])


def said_by_twin(base: Base, adapter: bytes | None, rule: Rule, counts: np.ndarray) -> list[str]:
    signal = base.model.signal
    assert signal is not None
    from edgelora.model.datasets.recordings import inputs_of

    starts = range(0, len(counts) - signal.window + 1, signal.hop)
    x = np.array([inputs_of(counts[at : at + signal.window], signal) for at in starts])
    seen = Looker(base, adapter).look(base.model.input.quantize(x))
    like = rule.accepts(seen)
    return [base.model.labels[k] if ok else "nothing" for k, ok in zip(seen.said, like, strict=True)]


@pytest.mark.parametrize("how", ["bare", "adapter", "few"])
def test_a_board_decides_nothing_where_the_twin_does(tmp_path: Path, person: Any, how: str) -> None:
    base, data, counts = person
    other = adapters(base, 1)[0]
    adapter = other if how == "adapter" else None
    rule = Known(base, adapter, data if how != "few" else data.only(data.labels[:2])).rule
    assert rule is not None
    (tmp_path / "base.elm").write_bytes(base.elm)
    for name in ("mine.ela", "other.ela"):
        (tmp_path / name).write_bytes(other)
    (tmp_path / "rule.json").write_text(rule.text())
    counts.astype("<i2").tofile(tmp_path / "mine.s16")
    case: dict[str, Any] = {"base": "base.elm", "adapter": "mine.ela" if adapter else "", "recording": "mine.s16"}
    case |= {"rule": "rule.json", "ranks": list(adapter_ranks(base, other)), "said": json.loads(rule.text())}
    (tmp_path / "case.json").write_text(json.dumps(case))
    said, *refused = (json.loads(line) for line in run(tmp_path, "known('case.json')"))
    assert said == said_by_twin(base, adapter, rule, counts)
    others = ["base", "adapter", "adapter"]  # the last: the base alone instead of the adapter, or the other way round
    assert refused == [f"the rule of nothing is for another {other}: save it again" for other in others]
    rest = said[len(said) // 2 - 3 : len(said) // 2 + 1]
    assert set(rest) == {"nothing"}, said
    if how == "bare":
        assert set(said) - {"nothing"}, "and what it knows it says"


def test_a_still_sensor_is_nothing_and_own_samples_are_not(person: Any) -> None:
    base, data, _ = person
    shares = Known(base, None, data).shares
    assert shares is not None
    assert shares.still == (0, len(data)) and shares.own[0] >= 0.8 * shares.own[1] > 0
    assert shares.unknown[0] < shares.own[0] * shares.unknown[1] / shares.own[1]


@pytest.mark.parametrize("seed", fresh_seeds(2))
def test_few_samples_give_a_valid_rule_or_none(person: Any, seed: int) -> None:
    """For any number of samples of each class, a rule's numbers are in the device's range."""
    base, data, _ = person
    rng = np.random.default_rng(seed)
    picked = rng.permutation(len(data))[: int(rng.integers(1, 9))]
    few = Dataset(data.x[picked], data.y[picked], data.labels, data.signal)
    rule = Known(base, None, few).rule
    counts = np.bincount(few.y)
    assert (rule is None) == (counts.max() < 2)
    if rule:
        said = json.loads(rule.text())
        assert said["classes"] == sorted({base.model.labels.index(data.labels[k]) for k in few.y})
        for near in (said["last"], said["moves"]):
            assert min(near["gains"]) >= 1 and max(near["gains"]) <= 32767 and min(near["limits"]) >= 0
            assert np.abs(near["means"]).max() <= 32768
