"""The gateway's mailbox: messages that wait for boards, and the boards' replies; without lines or servers.

The caller has authenticated the sender: the board on a line, a board of this computer, or one that polls with its key.
Only the server can check a reply's content. So a letter keeps one reply for each way to the board, none larger than its
stage allows, and never gives the server a reply again that it has refused.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

from edgelora.base.errors import InputError

from .messages import Stage, Task, index_of, round_of
from .reply_limits import largest_reply, task_in

MAX_TICKETS = 64


@dataclass
class Letter:
    """A message for a board. replies: by sender; given: those that the server has; refused: those that it refused.

    most: largest reply in bytes. waited: the server waits for its reply; False: the board was away at posting.
    """

    message: bytes
    adapter: bytes
    most: int
    replies: dict[str, bytes] = field(default_factory=dict)
    given: set[bytes] = field(default_factory=set)
    refused: set[bytes] = field(default_factory=set)
    failed: bool = False
    waited: bool = True
    posted: float = field(default_factory=time.monotonic)

    def ended(self, seconds: float) -> bool:
        """Whether this letter's round is over for its board: it was the last one, it failed, or `seconds` passed."""
        last = self.message[4] == Stage.UNMASK and bool(self.replies)
        return last or self.failed or time.monotonic() - self.posted > seconds

    @property
    def fresh(self) -> list[bytes]:
        return [reply for reply in self.replies.values() if reply not in self.given]


class Mailbox:
    """Letters by board. All methods are thread-safe. posted: called with the index of each board that gets mail."""

    def __init__(self, posted: Callable[[int], None] = lambda index: None) -> None:
        self._changed = threading.Condition()
        self._letters: dict[int, Letter] = {}
        self._adapters: dict[str, bytes] = {}
        self._tickets: dict[int, list[int]] = {}
        self._tasks: dict[int, Task] = {}  # by round, of the last TASK messages
        self._last = 0
        self._posted = posted

    # --- for the server

    def post(self, messages: Mapping[int, bytes], adapter: bytes = b"", away: Collection[int] = ()) -> int:
        """Posts a message to each of these boards in place of the previous one; a ticket for `replies`.

        `replies` does not wait for boards in `away`, but returns their replies if they come in time. A message that is
        posted again, byte for byte, keeps its replies. Raises InputError, and then nothing has changed.
        """
        for index, message in messages.items():
            if index_of(message) != index:
                raise InputError(f"the message for board {index} is not addressed to it")
        with self._changed:
            tasks = {round_of(message)[1]: task for message in messages.values() if (task := task_in(message))}
            tasks = tasks or self._tasks
            most = {i: largest_reply(message, tasks.get(round_of(message)[1])) for i, message in messages.items()}
            self._tasks = tasks
            for index, message in messages.items():
                there = self._letters.get(index)
                if there is None or there.message != message:
                    self._letters[index] = Letter(message, adapter, most[index], waited=index not in away)
                else:
                    there.failed = False
                    there.refused |= there.given
            if adapter:
                self._adapters = {hashlib.sha256(adapter).hexdigest(): adapter}
            self._last += 1
            self._tickets[self._last] = list(messages)
            for old in list(self._tickets)[:-MAX_TICKETS]:
                del self._tickets[old]
            ticket = self._last
            self._changed.notify_all()
        for index in messages:
            self._posted(index)
        return ticket

    def replies(self, ticket: int, seconds: float) -> tuple[dict[int, list[bytes]], list[int]]:
        """Replies by board, and the boards still missing; returns when none is missing or `seconds` have passed.

        Raises InputError for a ticket that is unknown or too old.
        """
        end = time.monotonic() + seconds
        with self._changed:
            boards = self._tickets.get(ticket)
            if boards is None:
                raise InputError(f"no messages were posted under {ticket}", remedy="post them again")
            while (left := self._left(boards)) and (rest := end - time.monotonic()) > 0:
                self._changed.wait(rest)
            return {index: fresh for index in boards if (fresh := self._letters[index].fresh)}, left

    def _left(self, boards: list[int]) -> list[int]:
        letters = ((index, self._letters[index]) for index in boards)
        return [index for index, letter in letters if letter.waited and not letter.failed and not letter.fresh]

    def given(self, ticket: int) -> None:
        """Marks the replies of this ticket as received by the server; it never gets them again."""
        with self._changed:
            for index in self._tickets.pop(ticket, []):
                self._letters[index].given |= set(self._letters[index].fresh)

    # --- for boards

    def letter(self, index: int) -> Letter | None:
        """The board's current letter."""
        with self._changed:
            return self._letters.get(index)

    def wanted(self, index: int, sender: str) -> Letter | None:
        """The board's current letter, unless this sender has answered it and the server did not refuse that."""
        with self._changed:
            letter = self._letters.get(index)
            answer = letter.replies.get(sender) if letter else None
            return None if letter and answer is not None and answer not in letter.refused else letter

    def adapter(self, sha256: str) -> bytes | None:
        """The global adapter, if it is the current one. sha256: its hash in hex."""
        with self._changed:
            return self._adapters.get(sha256)

    def room(self, index: int) -> int:
        """The most bytes that a board may reply now; 0 if it has no letter."""
        with self._changed:
            letter = self._letters.get(index)
            return letter.most if letter else 0

    def reply(self, index: int, reply: bytes, sender: str) -> bool:
        """Stores a reply and returns True if a letter waits for its stage and round, and it is not too large.

        sender: a way to the board; the last reply of each counts.
        """
        with self._changed:
            letter = self._letters.get(index)
            if letter is None or index_of(reply) != index or len(reply) > letter.most:
                return False
            stage, number = round_of(letter.message)
            if round_of(reply) != (stage + 1, number):
                return False
            letter.replies[sender] = reply
            self._changed.notify_all()
            return True

    def fail(self, letter: Letter) -> None:
        """Marks a letter that the board will not answer: `replies` no longer waits for it."""
        with self._changed:
            letter.failed = True
            self._changed.notify_all()

    def is_current(self, index: int, letter: Letter) -> bool:
        with self._changed:
            return self._letters.get(index) is letter
