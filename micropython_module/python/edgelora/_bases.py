"""Finds and opens the bases of adapters on the board. SPDX-License-Identifier: MIT"""

import os
import struct

from . import Model, read


def base_path(base_id):
    """Returns the path of a .elm file on the board with this base id, or None."""
    for folder in ("/rom", ""):
        try:
            for entry in os.ilistdir(folder or "/"):
                path = "%s/%s" % (folder, entry[0])
                if path.endswith(".elm"):
                    with open(path, "rb") as file:
                        if file.read(24)[16:] == base_id:
                            return path
        except OSError as error:
            if error.errno not in (2, 19):  # no such folder, no filesystem
                raise


def ranks_of(adapter):
    """Returns the ranks by op of an adapter file, which may be incomplete."""
    ranks = {}
    if len(adapter) >= 48:
        for at in range(48, min(len(adapter) - 11, 48 + 12 * struct.unpack_from("<H", adapter, 30)[0]), 12):
            op, rank = struct.unpack_from("<HH", adapter, at)
            ranks[op] = rank
    return ranks


def open_base(base, ranks, mode="infer", **settings):
    """Opens a base, given by its id or its bytes, as a model with these ranks by op."""
    base = read(base_path(base) if len(base) == 8 else base)
    count = struct.unpack_from("<H", base, 26)[0]
    return Model(base, [ranks.get(op, 0) for op in range(count)], mode, **settings)
