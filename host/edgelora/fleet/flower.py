"""Flower's side of a federation: what a message to a node holds, our Strategy, and what a node answers.

    ServerApp (server_app.py)  --Strategy-->  SuperLink / Ray / PoolGrid  -->  ClientApp (client_app.py)

A node, one SuperNode a gateway, is told in each round which boards it speaks for. Boards that live on a node as twins
are trained there, and their sum goes back; boards behind a gateway have messages of their own (`secagg`), which nodes
carry and can't read.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from logging import INFO
from pathlib import Path
from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.common import log
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Result, Strategy

from edgelora.base.errors import InputError
from edgelora.base.progress import Progress, no_progress
from edgelora.core.formats.ela import unpack_adapter
from edgelora.learn.training.warm_start import fleet_vector

from .federation import Call, Federation, Judge, RoundRecord, Total, federate
from .plan import Plan
from .roster import Site
from .secagg_rounds import federate_site
from .simulated_boards import boards_of, sum_of
from .web import GatewayClient

STARTING = 30.0  # seconds that a node may take beside what its boards have: every message starts a process
ASKED, ANSWERED = "edgelora.call", "edgelora.total"  # records of a message and of its reply


@dataclass(frozen=True)
class Twins:
    """Boards that nodes have as twins. data: as `simulated_boards.Boards` has it."""

    data: str
    plan: Plan
    elm: bytes
    name: str

    def message(self, call: Call, boards: Sequence[int]) -> RecordDict:
        return RecordDict(
            {
                ASKED: ConfigRecord(
                    {
                        "plan": json.dumps(self.plan.as_json()),
                        "data": self.data,
                        "name": self.name,
                        "base": self.elm,
                        "adapter": call.adapter,
                        "step": call.step,
                        "rate": call.rate,
                        "seed": call.seed,
                        "boards": list(boards),
                    }
                )
            }
        )


def train(message: Message, context: Context) -> Message:
    """A node's answer: the sum of its twins' updates, int64 little-endian, and of how many. Neither losses nor counts
    of samples leave it."""
    asked: Any = message.content.config_records[ASKED]
    plan = Plan.of_json(json.loads(asked["plan"]), "the server's plan")
    boards = boards_of(asked["data"], asked["base"], asked["name"], plan.boards)
    settings = asked["base"], asked["adapter"], asked["rate"], asked["seed"]
    total = sum_of(plan, *settings, boards, asked["boards"])
    answer = ConfigRecord({"sum": total.astype("<i8").tobytes(), "survivors": len(asked["boards"])})
    return Message(RecordDict({ANSWERED: answer}), reply_to=message)


class FleetStrategy(Strategy):  # type: ignore[misc]
    """Federated averaging in exact integers, over nodes of any number, with a checkpoint after each round.

    work: boards that nodes have as twins, or the site whose boards are behind gateways.

    Rounds are the federation's own and not those of Flower's loop, for three reasons: that loop begins at round 1 and
    forgets, and a federation goes on where it stands; who is asked has to be on the disk, and within the budget, before
    anybody is; and a round of boards behind gateways is several exchanges, in which each board's message comes of
    others' replies, where `configure_train` and `aggregate_train` are one. So with a site `configure_train` has nothing
    to say; with twins it makes the messages of the one exchange that there is. What comes of it all is Flower's
    `Result`.
    """

    def __init__(
        self, federation: Federation, work: Twins | Site, progress: Progress = no_progress, judge: Judge | None = None
    ) -> None:
        self.federation, self.work, self.progress, self.judge = federation, work, progress, judge
        self._call: Call | None = None
        self._sent: dict[int, list[int]] = {}
        self._down = 0

    def summary(self) -> None:
        """Logs the settings, as Flower's strategies do."""
        settings = self.federation.plan.as_json()
        log(INFO, "\t└──> FleetStrategy, %s:", "boards behind gateways" if isinstance(self.work, Site) else "twins")
        for name, value in settings.items():
            log(INFO, "\t\t├── %s: %s", name, value)

    def start(self, grid: Grid, stop: int | None = None) -> Result:  # other arguments than Flower's, which can't resume
        """All rounds that are left; what the federation has come to, rounds of earlier runs included."""
        told = self.progress, self.judge, stop
        if isinstance(self.work, Site):
            federate_site(self.federation, self.work, Gateways(grid).deliver, *told)
        else:
            federate(self.federation, lambda call: self._exchange(call, grid), None, *told)
        return result_of(self.federation)

    def _exchange(self, call: Call, grid: Grid) -> Total:
        self._call = call
        messages = list(self.configure_train(call.number, ArrayRecord(), ConfigRecord(), grid))
        if messages:
            call.charge([index for mine in self._sent.values() for index in mine])
        replies = list(grid.send_and_receive(messages, timeout=self.federation.plan.deadline))
        return self._total(call, replies)

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """A message for each node that has boards in this round: they are dealt out in turn."""
        call = self._call
        nodes = sorted(grid.get_node_ids())
        if call is None or not nodes or isinstance(self.work, Site):
            return
        self._sent, self._down = {}, 0
        for place, node in enumerate(nodes[: len(call.boards)]):
            mine = call.boards[place :: len(nodes)]
            self._sent[node] = mine
            self._down += len(call.adapter) * len(mine)
            yield Message(
                self.work.message(call, mine), dst_node_id=node, message_type="train", group_id=str(server_round)
            )

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """For a caller that has a loop of its own: what they add up to."""
        if self._call is None:
            return None, None
        total = self._total(self._call, replies)
        return ArrayRecord([total.vector]), MetricRecord({"survivors": total.survivors})

    def _total(self, call: Call, replies: Iterable[Message]) -> Total:
        """The sum of what nodes answered: in any order, each once, none but those that were asked."""
        size = len(fleet_vector(call.adapter))
        vector, survivors, up, left = np.zeros(size, np.int64), 0, 0, dict(self._sent)
        for reply in replies:
            mine = left.pop(reply.metadata.src_node_id, None)
            if mine is None or reply.has_error():
                continue
            answer: Any = reply.content.config_records.get(ANSWERED, {})
            raw, count = answer.get("sum", b""), answer.get("survivors", -1)
            if not isinstance(raw, bytes) or len(raw) != 8 * size or not isinstance(count, int) or count != len(mine):
                continue
            vector += np.frombuffer(raw, "<i8")
            survivors += count
            up += 4 * size * count
        return Total(vector, survivors, self._down, up)

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Nothing: how well a board does is the board's own to know."""
        return []

    def aggregate_evaluate(self, server_round: int, replies: Iterable[Message]) -> MetricRecord | None:
        return None


def result_of(federation: Federation) -> Result:
    """A federation in Flower's own words. Rounds count from 1; 0 is the bare base, where boards are judged.

    What rounds report there is what the server knows of all boards together, no board's own.
    """
    result = Result(arrays_of(federation.adapter))
    for one in federation.rounds:
        result.train_metrics_clientapp[one.step + 1] = metrics_of(one)
    judged = {0: federation.before} | {one.step + 1: one.accuracies for one in federation.rounds}
    for number, accuracies in judged.items():
        if found := list(accuracies.values()):
            told = {"accuracy": sum(found) / len(found), "worst": min(found)}
            result.evaluate_metrics_serverapp[number] = MetricRecord(told)
    return result


def metrics_of(one: RoundRecord) -> MetricRecord:
    """The numbers of a round: who was asked and survived, seconds, bytes, the norm of the average, epsilons."""
    numbers = {name: value for name, value in asdict(one).items() if isinstance(value, int | float)}
    return MetricRecord({name: value for name, value in numbers.items() if name != "step"})


def arrays_of(adapter: bytes) -> ArrayRecord:
    """The masters int16 of a global `.ela` by layer: `OP.a` [rank, K] where A trains, `OP.b` [O, rank]."""
    states = {
        f"{layer.op}.{matrix}": state
        for layer in unpack_adapter(adapter).layers
        for matrix, state in (("a", layer.a_state), ("b", layer.b_state))
    }
    return ArrayRecord({name: Array(state.master) for name, state in states.items() if state})


class Gateways:
    """Boards behind gateways, one a node: what `stages` hands over goes to the gateway that has the board."""

    def __init__(self, grid: Grid) -> None:
        self._grid, self._node_of = grid, dict[int, int]()

    def deliver(self, messages: dict[int, bytes], adapter: bytes, seconds: float) -> dict[int, list[bytes]]:
        if adapter:
            self._look(seconds)
        asked: dict[int, list[int]] = {}
        for index in messages:
            if index in self._node_of:
                asked.setdefault(self._node_of[index], []).append(index)
        replies = self._grid.send_and_receive(
            [
                Message(letters(messages, mine, adapter, seconds), dst_node_id=node, message_type="train.stage")
                for node, mine in asked.items()
            ],
            timeout=seconds + STARTING,
        )
        found: dict[int, list[bytes]] = {}
        for reply in replies:
            mine = asked.get(reply.metadata.src_node_id, [])
            for index, content in opened(reply):
                if index in mine:
                    found.setdefault(index, []).append(content)
        return found

    def _look(self, seconds: float) -> None:
        """Who is where: a board that is at two gateways is asked at the first that has it there now."""
        nodes = sorted(self._grid.get_node_ids())
        ask = [Message(RecordDict(), dst_node_id=node, message_type="query.boards") for node in nodes]
        self._node_of.clear()
        replies = list(self._grid.send_and_receive(ask, timeout=min(seconds, STARTING)))
        replies.sort(key=lambda reply: reply.metadata.src_node_id)
        for reply, which in ((reply, which) for which in ("boards", "away") for reply in replies):
            if not reply.has_error() and ANSWERED in reply.content.config_records:
                for index in reply.content.config_records[ANSWERED].get(which, []):
                    self._node_of.setdefault(int(index), reply.metadata.src_node_id)


def letters(messages: dict[int, bytes], mine: list[int], adapter: bytes, seconds: float) -> RecordDict:
    """A stage's messages to the boards of one gateway."""
    contents = [messages[index] for index in mine]
    record = ConfigRecord({"boards": mine, "messages": contents, "adapter": adapter, "seconds": seconds})
    return RecordDict({ASKED: record})


def opened(reply: Message) -> Iterator[tuple[int, bytes]]:
    """A gateway's replies by board; nothing where it failed or sent what is none."""
    if reply.has_error() or ANSWERED not in reply.content.config_records:
        return
    answer: Any = reply.content.config_records[ANSWERED]
    boards, replies = answer.get("boards", []), answer.get("replies", [])
    if isinstance(boards, list) and isinstance(replies, list) and len(boards) == len(replies):
        yield from (
            (index, content) for index, content in zip(boards, replies, strict=True) if isinstance(content, bytes)
        )


def query_boards(message: Message, context: Context) -> Message:
    """Which boards the gateway of this node has; which it had, and may have again within the round."""
    boards = _gateway(context).boards()
    away = [board.index for board in boards if board.state == "away"]
    here = [board.index for board in boards if board.state != "away"]
    return Message(RecordDict({ANSWERED: ConfigRecord({"boards": here, "away": away})}), reply_to=message)


def pass_on(message: Message, context: Context) -> Message:
    """One stage: messages to boards through the gateway, and what they said."""
    asked: Any = message.content.config_records[ASKED]
    messages = dict(zip(asked["boards"], asked["messages"], strict=True))
    found = _gateway(context).exchange(messages, asked["adapter"], asked["seconds"])
    pairs = [(index, reply) for index, replies in found.items() for reply in replies]
    answer = ConfigRecord({"boards": [index for index, _ in pairs], "replies": [reply for _, reply in pairs]})
    return Message(RecordDict({ANSWERED: answer}), reply_to=message)


def _gateway(context: Context) -> GatewayClient:
    path = context.node_config.get("gateway")
    if path is None and (several := context.run_config.get("gateways")):  # nodes of a simulation have numbers alone
        path = Path(str(several)) / str(context.node_config["partition-id"])
    if path is None:
        raise InputError(
            "this node has no gateway", remedy="start it with --node-config 'gateway=\"DIR/gateway.json\"'"
        )
    return GatewayClient(Path(str(path)))
