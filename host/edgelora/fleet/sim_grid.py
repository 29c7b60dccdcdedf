"""A Flower `Grid` over processes of this computer: the same apps as in a deployment, without its servers.

Ray's workers cost more than a twin's training; a pool of as many processes as cores runs the same ClientApp.
"""

from __future__ import annotations

import importlib
import itertools
import os
from collections.abc import Iterable, Mapping
from concurrent.futures import Future, ProcessPoolExecutor, wait
from types import MappingProxyType, TracebackType
from typing import Any

from flwr.app import Context, Error, Message, RecordDict
from flwr.serverapp import Grid
from flwr.supercore.task_identity import TaskIdentity

from edgelora.base.workers import begin

CLIENT_APP = "edgelora.fleet.client_app"
FAILED = 1  # of an error that a reply tells


class PoolGrid(Grid):  # type: ignore[misc]
    """So many nodes, numbered from 0. A message is answered by the module's `app`, in one of the processes.

    run_config: what a Flower project would tell the app.
    """

    def __init__(
        self,
        nodes: int,
        workers: int | None = None,
        client_app: str = CLIENT_APP,
        run_config: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self._nodes, self._app, self._config = nodes, client_app, dict(run_config)
        TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = 0, nodes, 0  # who writes messages here
        self._pool = ProcessPoolExecutor(workers or os.cpu_count(), initializer=begin)
        self._numbers = itertools.count(1)
        self._waiting: dict[str, Future[Message]] = {}

    def __enter__(self) -> PoolGrid:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._pool.shutdown(wait=error is None, cancel_futures=True)

    def set_run(self, run: Any) -> None:
        """Flower's runs have numbers; this grid has one run."""

    @property
    def run(self) -> Any:
        return None

    def create_message(
        self, content: RecordDict, message_type: str, dst_node_id: int, group_id: str, ttl: float | None = None
    ) -> Message:
        return Message(content, dst_node_id=dst_node_id, message_type=message_type, group_id=group_id, ttl=ttl)

    def get_node_ids(self) -> Iterable[int]:
        return range(self._nodes)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        names = []
        for message in messages:
            name = str(next(self._numbers))
            vars(message.metadata)["_message_id"] = name  # as Flower's own grids do
            self._waiting[name] = self._pool.submit(answer, self._app, message, self._config)
            names.append(name)
        return names

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Those that are there by now."""
        done = [name for name in message_ids if name in self._waiting and self._waiting[name].done()]
        return [self._waiting.pop(name).result() for name in done]

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:
        names = list(self.push_messages(messages))
        wait([self._waiting[name] for name in names], timeout)
        replies = list(self.pull_messages(names))
        for name in names:  # too late: nobody asks for them again
            if late := self._waiting.pop(name, None):
                late.cancel()
        return replies


def answer(client_app: str, message: Message, run_config: dict[str, str]) -> Message:
    """What a node answers, in this process; an error of the app is the reply."""
    app = importlib.import_module(client_app).app
    node = message.metadata.dst_node_id
    try:
        reply: Message = app(message, Context(0, node, {"partition-id": node}, RecordDict(), run_config))
    except Exception as error:
        reply = Message(Error(FAILED, f"{type(error).__name__}: {error}"), reply_to=message)
    return reply
