"""The process of one virtual board; see `virtual_board.start`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from edgelora.base import resources
from edgelora.board import uf2
from edgelora.board.profiles import load_board
from edgelora.board.uf2 import Uf2Error
from edgelora.board.virtual_boards import SimError

from .console import log
from .pico import Pico
from .qemu import Qemu
from .session import Ended, Session
from .unix import Unix


def main() -> int:
    """The process of one virtual board; see `start`."""
    parser = argparse.ArgumentParser(prog="python -m edgelora.board.sim", description="Run a virtual board.")
    parser.add_argument("board")
    parser.add_argument("state_dir", type=Path)
    parser.add_argument("--firmware", type=Path, help="what to write to its flash first")
    parser.add_argument("--bootloader", action="store_true", help="start in the boot loader")
    parser.add_argument("--ideal-flash", action="store_true", help="reads of flash never stall")
    parser.add_argument("--parent", type=int, help="end when this process is no longer the parent")
    args = parser.parse_args()
    profile = load_board(args.board)
    try:
        session = Session(args.board, args.state_dir, args.parent)
        if profile.port == "unix":
            unix = Unix(profile, args.state_dir, session)
            if args.firmware:
                unix.install(args.firmware)
            unix.run()
        elif profile.port == "qemu":
            Qemu(args.state_dir, session, args.firmware).run()
        else:
            if carried := resources.emulator():
                sys.path.insert(0, str(carried))
            pico = Pico(profile, args.state_dir, session, args.ideal_flash)
            if args.firmware:
                pico.flash.program(uf2.parse(args.firmware.read_bytes(), name=str(args.firmware)))
            pico.in_boot_loader = args.bootloader
            pico.boot()
            pico.run()
    except Ended:
        session.close()
    except (SimError, Uf2Error) as error:
        log(str(error))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
