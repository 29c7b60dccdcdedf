"""Every way in which a lying server can lead small cohorts, asked of the members in C: is there one that opens too
little?

The server's choices, and why these are all that matter:

- *Task, number, cohort.* What a board authenticates covers all three, so that boards which were told different ones
  are in rounds of their own (`test_parts_of_another_round_are_refused` sends each part across). A board that the
  server leaves alone can do no more for it than one that it may lead as it likes. So one cohort with everybody in
  it, of every size, is searched.
- *PEERS.* Whoever is listed gets a share and may still be left out of INPUT, where masks are decided: the full list
  gives the server all that any other does (`test_shorter_lists_of_peers` tries the others).
- *INPUT.* Any subset of the others for any board. More entries make a board hold more shares and agree more
  easily; they only harm if a mask stays in a vector that the server wants to open. So for boards whose vector is
  not used all are listed, and for the others the largest lists whose masks can be taken away, which `_settle`
  finds: it begins with all and leaves out what can't be taken away until nothing changes. What boards do is
  monotone in these lists, so what is left contains every list that works.
- *SURVIVORS.* Any set that has the board itself, for any board, or none, as if it were off from then on. Boards
  with one set are a group. A confirmed set that opens nothing changes nothing, so groups of which no member opens a
  share, even if all survive, are not made.
- *UNMASK.* All tags that there are: more tags never harm the server.
- *Restarts.* A board that was reset takes no message of a round that it has sent anything of (`test_restarts`): it
  is off.
- *Order.* Replies depend on messages to that board alone, and a message needs parts of replies of the stage before
  only.

What is taken, and what comes out, is told by the members (`Adversary`). A way that works is shown twice more: by
linear algebra over the masks that are unknown (`exposed`), and by the sum itself, which `Adversary.recover`
computes.
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
    """What the server did and what it can compute: the sum of `targets` alone."""

    targets: Included
    included: Mapping[int, Included]
    views: Mapping[int, Included]
    opened: Mapping[int, Mapping[int, str]]

    def __str__(self) -> str:
        lists = {i: sorted(self.included[i]) for i in sorted(self.targets)}
        views = {i: sorted(view) for i, view in sorted(self.views.items())}
        opened = {i: dict(parts) for i, parts in sorted(self.opened.items())}
        return f"opens {sorted(self.targets)}: INPUT {lists} (others: all); SURVIVORS {views}; opened {opened}"


# ---- what can be computed


def known_keys(a: Adversary, opened: Mapping[int, Mapping[int, str]]) -> dict[str, Included]:
    """Boards whose b and whose e the server has shares enough of."""
    mates = {w: len(a.boards[w].listed & set(a.colluders)) for w in a.honest}
    count = {kind: {w: mates[w] + sum(o.get(w) == kind for o in opened.values()) for w in a.honest} for kind in "be"}
    return {kind: frozenset(w for w in a.honest if count[kind][w] >= a.boards[w].threshold) for kind in "be"}


def unknown_masks(
    a: Adversary, rows: Iterable[int], included: Mapping[int, Included], opened: Mapping[int, Mapping[int, str]]
) -> np.ndarray:
    """A row for each masked vector: how often it has each mask that the server does not know."""
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
    """Modulo a prime."""
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
    """Whether some combination of these boards' updates alone is free of unknown masks."""
    rows = sorted(targets)
    return rank(unknown_masks(a, rows, included, opened)) < len(rows)


# ---- every way


@dataclass
class Search:
    """For sums of fewer than `need` honest boards; of those that have board `of`, if given. tried: views so far."""

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
            known = known_keys(self.a, self._opened(self.full, views))["b"]  # with less listed it is less
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
        """Of each subset of the boards."""
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
        """A member of the group opens shares when the group and colluders alone confirm that all survive."""
        return bool(self._opened(self.full, dict.fromkeys(group, frozenset(self.a.cohort))))

    def _opened(self, included: Mapping[int, Included], views: Mapping[int, Included]) -> dict[int, dict[int, str]]:
        confirmed = {i: got for i, view in views.items() if (got := self.a.confirmed(i, included[i], view))}
        opened = {}
        for i in confirmed:
            tags = {
                j: confirmed[j].tags[i]
                for j in included[i] & views[i]
                if j in confirmed and views[j] == views[i] and i in confirmed[j].tags
            }
            got = self.a.opened(i, included[i], views[i], tags)
            if got is not None:
                opened[i] = got
        return opened

    def _settle(self, targets: Included, views: Mapping[int, Included]) -> Way | None:
        """The way with the largest lists for these targets, if there is one."""
        included = dict(self.full)
        while True:
            opened = self._opened(included, views)
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
        """The same, after it was shown by algebra and by the sum itself."""
        assert exposed(self.a, way.targets, way.included, way.opened), way
        assert np.array_equal(self.a.recover(way.targets, way.included, way.opened), self.a.truth(way.targets)), way
        return way
