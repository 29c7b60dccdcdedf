"""A Flower `Grid` over a process pool: the same apps as in a deployment, without its servers.

A pool with a process for each core runs the same ClientApp as Ray, whose workers cost more than a twin's training.
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
FAILED = 1  # code of an error in a reply


class PoolGrid(Grid):  # type: ignore[misc]
    """`nodes` nodes, numbered from 0. The module's `app` answers messages in one of the pool's processes.

    run_config: the app's run config, as from a Flower project.
    """

    def __init__(
        self,
        nodes: int,
        workers: int | None = None,
        client_app: str = CLIENT_APP,
        run_config: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self._nodes, self._app, self._config = nodes, client_app, dict(run_config)
        TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = 0, nodes, 0  # the sender of messages
        self._pool = ProcessPoolExecutor(workers or os.cpu_count(), initializer=begin)
        self._numbers = itertools.count(1)
        self._waiting: dict[str, Future[Message]] = {}

    def __enter__(self) -> PoolGrid:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._pool.shutdown(wait=error is None, cancel_futures=True)

    def set_run(self, run: Any) -> None:
        """Does nothing: this grid has only one run."""

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
        """The replies that have arrived."""
        done = [name for name in message_ids if name in self._waiting and self._waiting[name].done()]
        return [self._waiting.pop(name).result() for name in done]

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:
        names = list(self.push_messages(messages))
        wait([self._waiting[name] for name in names], timeout)
        replies = list(self.pull_messages(names))
        for name in names:  # late replies are dropped
            if late := self._waiting.pop(name, None):
                late.cancel()
        return replies


def answer(client_app: str, message: Message, run_config: dict[str, str]) -> Message:
    """A node's answer, computed in this process; an error of the app becomes the reply."""
    app = importlib.import_module(client_app).app
    node = message.metadata.dst_node_id
    try:
        reply: Message = app(message, Context(0, node, {"partition-id": node}, RecordDict(), run_config))
    except Exception as error:
        reply = Message(Error(FAILED, f"{type(error).__name__}: {error}"), reply_to=message)
    return reply
