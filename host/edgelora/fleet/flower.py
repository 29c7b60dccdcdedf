"""A federation on Flower: the messages to nodes, our Strategy, and the nodes' answers.

    ServerApp (server_app.py)  --Strategy-->  SuperLink / Ray / PoolGrid  -->  ClientApp (client_app.py)

A node is one SuperNode for each gateway. In each round the server assigns it boards: twins are trained on the node,
which returns their sum; boards behind a gateway exchange messages with the server (`secagg`), which nodes forward but
can't read.
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
from edgelora.learn.training.twin.warm_start import fleet_vector

from .federation import Call, Federation, Judge, RoundRecord, Total, federate
from .plan import Plan
from .roster import Site
from .secagg_rounds import federate_site
from .simulated_boards import boards_of, sum_of
from .web import GatewayClient

STARTING = 30.0  # seconds that a node may take in addition to its boards: every message starts a process
ASKED, ANSWERED = "edgelora.call", "edgelora.total"  # names of the records in a message and in its reply


@dataclass(frozen=True)
class Twins:
    """Boards that nodes run as twins. data: see `simulated_boards.Boards`, `spec`."""

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
    """A node's answer: the sum of its twins' updates, int64 little-endian, and the number of twins.

    Neither losses nor sample counts leave the node.
    """
    asked: Any = message.content.config_records[ASKED]
    plan = Plan.of_json(json.loads(asked["plan"]), "the server's plan")
    boards = boards_of(asked["data"], asked["base"], asked["name"], plan.boards)
    settings = asked["base"], asked["adapter"], asked["rate"], asked["seed"]
    total = sum_of(plan, *settings, boards, asked["boards"])
    answer = ConfigRecord({"sum": total.astype("<i8").tobytes(), "survivors": len(asked["boards"])})
    return Message(RecordDict({ANSWERED: answer}), reply_to=message)


class FleetStrategy(Strategy):  # type: ignore[misc]
    """Federated averaging in exact integers, over any number of nodes, with a checkpoint after each round.

    work: boards that nodes run as twins, or the site whose boards are behind gateways.

    `federate` drives the rounds instead of Flower's loop, for three reasons. Flower's loop begins at round 1 and keeps
    no state, while a federation resumes. The boards of a round must be on disk, and within the budget, before any is
    asked. And a round of boards behind gateways takes several exchanges, in which each board's message depends on the
    replies of others, while `configure_train` and `aggregate_train` make one exchange. So `configure_train` yields
    nothing for a site, and the messages of the only exchange for twins. The result is Flower's `Result`.
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

    def start(self, grid: Grid, stop: int | None = None) -> Result:  # Flower's own arguments can't resume
        """Runs the remaining rounds; the federation's result, including rounds of earlier runs."""
        hooks = self.progress, self.judge, stop
        if isinstance(self.work, Site):
            federate_site(self.federation, self.work, Gateways(grid).deliver, *hooks)
        else:
            federate(self.federation, lambda call: self._exchange(call, grid), None, *hooks)
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
        """A message for each node with boards in this round: boards are assigned to nodes in turn."""
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
        """The sum of the replies, for a caller that runs Flower's own loop."""
        if self._call is None:
            return None, None
        total = self._total(self._call, replies)
        return ArrayRecord([total.vector]), MetricRecord({"survivors": total.survivors})

    def _total(self, call: Call, replies: Iterable[Message]) -> Total:
        """The sum of the nodes' answers, in any order: the first of each node that was asked, no others."""
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
        """No messages: a board's accuracy is private to it."""
        return []

    def aggregate_evaluate(self, server_round: int, replies: Iterable[Message]) -> MetricRecord | None:
        return None


def result_of(federation: Federation) -> Result:
    """A federation as Flower's `Result`. Rounds count from 1; 0 is the base alone, if boards are evaluated.

    Rounds report what the server knows about all boards together, and nothing about one board.
    """
    result = Result(arrays_of(federation.adapter))
    for one in federation.rounds:
        result.train_metrics_clientapp[one.step + 1] = metrics_of(one)
    judged = {0: federation.before} | {one.step + 1: one.accuracies for one in federation.rounds}
    for number, accuracies in judged.items():
        if found := list(accuracies.values()):
            metrics = {"accuracy": sum(found) / len(found), "worst": min(found)}
            result.evaluate_metrics_serverapp[number] = MetricRecord(metrics)
    return result


def metrics_of(one: RoundRecord) -> MetricRecord:
    """A round's numbers: boards asked, survivors, seconds, bytes, the norm of the average, epsilons."""
    numbers = {name: value for name, value in asdict(one).items() if isinstance(value, int | float)}
    return MetricRecord({name: value for name, value in numbers.items() if name != "step"})


def arrays_of(adapter: bytes) -> ArrayRecord:
    """The masters int16 of a global `.ela` by layer: `OP.a` [rank, K] if A trains, `OP.b` [O, rank]."""
    states = {
        f"{layer.op}.{matrix}": state
        for layer in unpack_adapter(adapter).layers
        for matrix, state in (("a", layer.a_state), ("b", layer.b_state))
    }
    return ArrayRecord({name: Array(state.master) for name, state in states.items() if state})


class Gateways:
    """Boards behind gateways, one for each node: forwards each message to the gateway that has the board."""

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
        """Asks each gateway for its boards. A board at several is asked at the first where it is not away."""
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
    """A gateway's replies by board; nothing if it failed or its answer is malformed."""
    if reply.has_error() or ANSWERED not in reply.content.config_records:
        return
    answer: Any = reply.content.config_records[ANSWERED]
    boards, replies = answer.get("boards", []), answer.get("replies", [])
    if isinstance(boards, list) and isinstance(replies, list) and len(boards) == len(replies):
        yield from (
            (index, content) for index, content in zip(boards, replies, strict=True) if isinstance(content, bytes)
        )


def query_boards(message: Message, context: Context) -> Message:
    """The boards that this node's gateway has; and those away, which may come back within the round."""
    boards = _gateway(context).boards()
    away = [board.index for board in boards if board.state == "away"]
    here = [board.index for board in boards if board.state != "away"]
    return Message(RecordDict({ANSWERED: ConfigRecord({"boards": here, "away": away})}), reply_to=message)


def pass_on(message: Message, context: Context) -> Message:
    """Runs one stage: sends messages to boards through the gateway; their replies."""
    asked: Any = message.content.config_records[ASKED]
    messages = dict(zip(asked["boards"], asked["messages"], strict=True))
    found = _gateway(context).exchange(messages, asked["adapter"], asked["seconds"])
    pairs = [(index, reply) for index, replies in found.items() for reply in replies]
    answer = ConfigRecord({"boards": [index for index, _ in pairs], "replies": [reply for _, reply in pairs]})
    return Message(RecordDict({ANSWERED: answer}), reply_to=message)


def _gateway(context: Context) -> GatewayClient:
    path = context.node_config.get("gateway")
    if path is None and (several := context.run_config.get("gateways")):  # nodes of a simulation have only numbers
        path = Path(str(several)) / str(context.node_config["partition-id"])
    if path is None:
        raise InputError(
            "this node has no gateway", remedy="start it with --node-config 'gateway=\"DIR/gateway.json\"'"
        )
    return GatewayClient(Path(str(path)))
