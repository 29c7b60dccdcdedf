"""What waits for boards and what they have answered: the gateway's middle, without lines, servers or clocks of its own.

Who replies was proven before: it is the board on a line, one of this computer, or one that polls and has its key.
Whether a reply is right only the server can tell. So a letter keeps one for each way that the board has, none larger
than its stage can have, and those that the server did not take are not given to it again.
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
    """A message for a board. replies: by sender; given: those that the server has; refused: those it did not take.

    most: bytes of a reply. waited: for its reply; else the board was away when it was posted.
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
        """Whether the round of this letter is over for its board: no other follows, or has within so many seconds."""
        last = self.message[4] == Stage.UNMASK and bool(self.replies)
        return last or self.failed or time.monotonic() - self.posted > seconds

    @property
    def fresh(self) -> list[bytes]:
        return [reply for reply in self.replies.values() if reply not in self.given]


class Mailbox:
    """Letters by board. Every method may be called from any thread. posted: is told of boards that have mail now."""

    def __init__(self, posted: Callable[[int], None] = lambda index: None) -> None:
        self._changed = threading.Condition()
        self._letters: dict[int, Letter] = {}
        self._adapters: dict[str, bytes] = {}
        self._tickets: dict[int, list[int]] = {}
        self._tasks: dict[int, Task] = {}  # by round: of the last that began here
        self._last = 0
        self._posted = posted

    # --- for the server

    def post(self, messages: Mapping[int, bytes], adapter: bytes = b"", away: Collection[int] = ()) -> int:
        """Puts a message before each of these boards, in place of what lay there; a ticket for `replies`.

        Nobody waits for those of `away`, which reply in time or not. The bytes that lie there already keep their
        replies. Raises InputError, and then nothing has changed.
        """
        for index, message in messages.items():
            if index_of(message) != index:
                raise InputError(f"what is to go to board {index} is no message to it")
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
        """Replies by board, and the boards that are waited for, when there are none or the time has passed.

        Raises InputError for a ticket that there never was, or that is too old.
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
        """The server has the replies of this ticket; those that it does not take it will not get again."""
        with self._changed:
            for index in self._tickets.pop(ticket, []):
                self._letters[index].given |= set(self._letters[index].fresh)

    # --- for boards

    def letter(self, index: int) -> Letter | None:
        """What lies before a board."""
        with self._changed:
            return self._letters.get(index)

    def wanted(self, index: int, sender: str) -> Letter | None:
        """What lies before a board, unless this sender has answered it and was not refused."""
        with self._changed:
            letter = self._letters.get(index)
            answer = letter.replies.get(sender) if letter else None
            return None if letter and answer is not None and answer not in letter.refused else letter

    def adapter(self, sha256: str) -> bytes | None:
        """The global adapter of this hash, in hex, if it is the one of now."""
        with self._changed:
            return self._adapters.get(sha256)

    def room(self, index: int) -> int:
        """The most bytes that a board may reply now; 0 where it has no letter."""
        with self._changed:
            letter = self._letters.get(index)
            return letter.most if letter else 0

    def reply(self, index: int, reply: bytes, sender: str) -> bool:
        """Takes a reply if a letter waits for its stage and round, and it is no larger than those are; else False.

        sender: a way that the board has, of which the last reply counts.
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

    def fail(self, index: int, letter: Letter) -> None:
        """The board will not answer this letter: nobody needs to wait for it."""
        with self._changed:
            letter.failed = True
            self._changed.notify_all()

    def is_current(self, index: int, letter: Letter) -> bool:
        with self._changed:
            return self._letters.get(index) is letter
