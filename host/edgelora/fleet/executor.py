"""Flower's executor of app processes without their tokens in sight: `python -m edgelora.fleet.executor`.

Whoever has the token of an app acts as that app. Flower passes it on the command line, which every account of the
computer can read; we pass it as standard input, a file without a name. If a Flower release passes it in another way,
no app starts. Its arguments are those of `flower-superexec`.
"""

from __future__ import annotations

import subprocess
import tempfile
from types import SimpleNamespace
from typing import Any


def start(command: list[str], **options: Any) -> subprocess.Popen[bytes]:
    """Starts an app process; its command line names standard input in place of the token."""
    place = command.index("--token")
    shown = [*command[:place], "--token-file", "/dev/stdin", *command[place + 2 :]]
    with tempfile.TemporaryFile() as file:
        file.write(command[place + 1].encode())
        file.seek(0)
        return subprocess.Popen(shown, stdin=file, **options)


def main() -> None:
    from flwr.supercore.cli.flower_superexec import flower_superexec
    from flwr.supercore.superexec.executor import subprocess_executor

    subprocess_executor.subprocess = SimpleNamespace(Popen=start, DEVNULL=subprocess_executor.subprocess.DEVNULL)
    flower_superexec()


if __name__ == "__main__":
    main()
