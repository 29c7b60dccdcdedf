"""Exhaustive search of a malicious server's strategies against small cohorts of members in C: does any of them open a
sum of too few boards?

The server's choices, and why these cover all strategies:

- *Task, number, cohort.* Boards authenticate all three, so boards that get different ones are in separate rounds
  (`test_parts_of_another_round_are_refused` sends each part across). A board that gets no messages helps the server no
  more than one that it controls through messages. So the search covers one cohort of all boards, for each size.
- *PEERS.* A listed board gets a share and may still be left out of INPUT, where masks are decided: so the full list
  gives the server everything that a shorter one does (`test_shorter_lists_of_peers` tries those).
- *INPUT.* Any subset of the other boards, for each board. With more entries a board holds more shares and agrees more
  easily; they only harm the server if a mask remains in a vector that it wants to open. So boards whose vector is not
  used get the full list. The others get the largest lists whose masks can be removed, which `_settle` finds: it starts
  with the full lists and drops entries whose masks can't be removed until nothing changes. The boards' behavior is
  monotone in these lists, so the result contains every list that works.
- *SURVIVORS.* For each board any set that contains it, or none, as if it were off from then on. Boards with the same
  set form a group. A confirmed set that opens nothing changes nothing, so the search skips groups of which no member
  opens a share even if all survive.
- *UNMASK.* All available tags: more tags never harm the server.
- *Restarts.* After a reset a board refuses all messages of a round in which it has sent anything (`test_restarts`): it
  is off.
- *Order.* A reply depends only on messages to that board, and a message only on replies of the previous stage.

The members themselves decide which messages they accept and what they reply (`Adversary`). A strategy that works is
verified twice: by linear algebra over the unknown masks (`exposed`), and by the sum that `Adversary.recover` computes.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
from fleet_adversary import Adversary, Included

PRIME = 1_000_003


@dataclass(frozen=True)
class Way:
    """A strategy of the server by which it can compute the sum of only `targets`."""

    targets: Included
    included: Mapping[int, Included]
    views: Mapping[int, Included]
    opened: Mapping[int, Mapping[int, str]]

    def __str__(self) -> str:
        lists = {i: sorted(self.included[i]) for i in sorted(self.targets)}
        views = {i: sorted(view) for i, view in sorted(self.views.items())}
        opened = {i: dict(parts) for i, parts in sorted(self.opened.items())}
        return f"opens {sorted(self.targets)}: INPUT {lists} (others: all); SURVIVORS {views}; opened {opened}"


# ---- what the server can compute


def known_keys(a: Adversary, opened: Mapping[int, Mapping[int, str]]) -> dict[str, Included]:
    """The boards whose b, and those whose e, the server has enough shares of."""
    mates = {w: len(a.boards[w].listed & set(a.colluders)) for w in a.honest}
    count = {kind: {w: mates[w] + sum(o.get(w) == kind for o in opened.values()) for w in a.honest} for kind in "be"}
    return {kind: frozenset(w for w in a.honest if count[kind][w] >= a.boards[w].threshold) for kind in "be"}


def unknown_masks(
    a: Adversary, rows: Iterable[int], included: Mapping[int, Included], opened: Mapping[int, Mapping[int, str]]
) -> np.ndarray:
    """A row for each masked vector: the coefficient of each mask that the server does not know."""
    keys, columns = known_keys(a, opened), {}
    entries = []
    for row, i in enumerate(rows):
        if i not in keys["b"]:
            entries.append((row, ("b", i), 1))
        for j in included[i] & frozenset(a.honest):
            if not {i, j} & keys["e"]:
                entries.append((row, ("pair", min(i, j), max(i, j)), 1 if i < j else -1))
    for _, mask, _ in entries:
        columns.setdefault(mask, len(columns))
    matrix = np.zeros((len(list(rows)), len(columns)), np.int64)
    for row, mask, sign in entries:
        matrix[row, columns[mask]] = sign
    return matrix


def rank(matrix: np.ndarray) -> int:
    """The rank of a matrix modulo a prime."""
    m, found = matrix % PRIME, 0
    for column in range(m.shape[1]):
        pivot = next((row for row in range(found, m.shape[0]) if m[row, column]), None)
        if pivot is None:
            continue
        m[[found, pivot]] = m[[pivot, found]]
        m[found] = m[found] * pow(int(m[found, column]), -1, PRIME) % PRIME
        for row in range(m.shape[0]):
            if row != found:
                m[row] = (m[row] - m[row, column] * m[found]) % PRIME
        found += 1
    return found


def exposed(
    a: Adversary, targets: Included, included: Mapping[int, Included], opened: Mapping[int, Mapping[int, str]]
) -> bool:
    """Whether some linear combination of only these boards' vectors is free of unknown masks."""
    rows = sorted(targets)
    return rank(unknown_masks(a, rows, included, opened)) < len(rows)


def opened_by(
    a: Adversary, included: Mapping[int, Included], views: Mapping[int, Included]
) -> dict[int, dict[int, str]]:
    """The shares that boards open if each gets its set of survivors and all available tags."""
    confirmed = {i: got for i, view in views.items() if (got := a.confirmed(i, included[i], view))}
    opened = {}
    for i in confirmed:
        same = [j for j in included[i] & views[i] if j in confirmed and views[j] == views[i]]
        tags = {j: confirmed[j].tags[i] for j in same if i in confirmed[j].tags}
        got = a.opened(i, included[i], views[i], tags)
        if got is not None:
            opened[i] = got
    return opened


# ---- all strategies


@dataclass
class Search:
    """Searches for sums of fewer than `need` honest boards; with board `of`, if given. tried: views tried so far."""

    a: Adversary
    need: int
    of: int | None = None
    tried: int = 0
    full: dict[int, Included] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.full = {i: self.a.near(i) for i in self.a.honest}

    def ways(self) -> Iterator[Way]:
        for views in self._all_views():
            self.tried += 1
            known = known_keys(self.a, opened_by(self.a, self.full, views))["b"]  # shorter lists give fewer
            for target in self._targets(known):
                way = self._settle(target, views)
                if way:
                    yield way

    def _targets(self, known: Included) -> Iterator[Included]:
        for size in range(1, min(self.need, len(known) + 1)):
            for target in itertools.combinations(sorted(known), size):
                if self.of is None or self.of in target:
                    yield frozenset(target)

    def hole(self) -> Way | None:
        return next(self.ways(), None)

    def _all_views(self) -> Iterator[dict[int, Included]]:
        for groups in self._partitions(self.a.honest):
            if groups and all(map(self._can_open, groups)):
                for number in range(2 ** sum(len(self.a.cohort) - len(group) for group in groups)):
                    yield self._views(groups, number)

    def _views(self, groups: list[list[int]], number: int) -> dict[int, Included]:
        views = {}
        for group in groups:
            view = set(group)
            for j in self.a.cohort:
                if j not in group:
                    number, bit = divmod(number, 2)
                    view |= {j} if bit else set()
            views |= dict.fromkeys(group, frozenset(view))
        return views

    def _partitions(self, boards: list[int]) -> Iterator[list[list[int]]]:
        """All partitions of each subset of the boards."""
        if not boards:
            yield []
            return
        first, rest = boards[0], boards[1:]
        for groups in self._partitions(rest):
            yield groups
            yield [[first], *groups]
            for n in range(len(groups)):
                yield [*groups[:n], [first, *groups[n]], *groups[n + 1 :]]

    def _can_open(self, group: list[int]) -> bool:
        """Whether a member of the group opens shares if only the group and colluders confirm that all survive."""
        return bool(opened_by(self.a, self.full, dict.fromkeys(group, frozenset(self.a.cohort))))

    def _settle(self, targets: Included, views: Mapping[int, Included]) -> Way | None:
        """The strategy with the largest lists for these targets, if there is one."""
        included = dict(self.full)
        while True:
            opened = opened_by(self.a, included, views)
            keys = known_keys(self.a, opened)
            if not targets <= keys["b"]:
                return None
            free = targets | keys["e"] | frozenset(self.a.colluders)
            lists = {i: included[i] if i in keys["e"] else included[i] & free for i in targets}
            if any(self.a.taken(i, lists[i]) is None for i in targets):
                return None
            if all(lists[i] == included[i] for i in targets):
                return self._shown(Way(targets, included, views, opened))
            included |= lists

    def _shown(self, way: Way) -> Way:
        """Verifies a strategy by algebra and by the sum itself, and returns it."""
        assert exposed(self.a, way.targets, way.included, way.opened), way
        assert np.array_equal(self.a.recover(way.targets, way.included, way.opened), self.a.truth(way.targets)), way
        return way
