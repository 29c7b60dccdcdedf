"""Every command with its module and its line, so that a list of them takes no command's imports."""

from __future__ import annotations

from typing import NamedTuple


class Entry(NamedTuple):
    """A command: the module that adds it, and its line in lists, which its docstring begins with."""

    module: str
    line: str


GROUPS: dict[str, dict[str, Entry]] = {
    "in the browser": {
        "studio": Entry("studio", "Opens a page to see boards sense, teach them and keep it"),
    },
    "base network": {
        "pretrain": Entry("models", "Trains a float network on many people or voices"),
        "quantize": Entry("models", "Makes a float network into an INT8 model (.elm)"),
        "import": Entry("models", "Makes a .elm of a TensorFlow Lite or Keras model"),
        "plan": Entry("models", "Tells what training takes on a board, and chooses ranks"),
    },
    "adapters": {
        "personalize": Entry("learning", "Trains an adapter on a board, and writes a report"),
        "train-adapter": Entry("learning", "Trains an adapter on this computer"),
        "eval": Entry("learning", "Measures accuracy on a board or on the host twin"),
        "add-class": Entry("classes", "Adds classes to a board's network, from a few samples"),
        "consolidate": Entry("classes", "Learns a board's adapter anew, added classes too"),
        "remove-class": Entry("classes", "Takes a class out of a board's adapter"),
        "listen": Entry("streaming", "Streams a recording to a board, and prints what it says"),
        "record": Entry("recording", "Records samples of one class from a board's sensor"),
        "convert": Entry("recording", "Makes recordings into other files, or into samples"),
        "act": Entry("actions", "Has a board act by itself when it sees a class"),
        "import-adapter": Entry("learning", "Makes a PEFT checkpoint into an adapter (.ela)"),
        "export-adapter": Entry("learning", "Makes an adapter (.ela) into a PEFT checkpoint"),
        "blend": Entry("merging", "Adds adapters up, each times a weight"),
        "merge": Entry("merging", "Folds an adapter into the INT8 network"),
    },
    "runs": {
        "watch": Entry("runs", "Shows the updates of a run while it goes on"),
        "report": Entry("runs", "Makes the HTML page of a run anew from its report.json"),
        "compare": Entry("runs", "Compares the reports of runs, in a table and on a page"),
    },
    "boards": {
        "devices": Entry("boards", "Lists boards that are plugged in, and virtual ones that run"),
        "doctor": Entry("boards", "Checks this computer and its boards, and how to mend them"),
        "boards": Entry("boards", "Lists supported boards, and what was verified on each"),
        "sim": Entry("boards", "Starts, stops or lists virtual boards"),
        "build": Entry("boards", "Makes firmware for a board, with a model in it"),
        "flash": Entry("boards", "Writes firmware to a board"),
        "install": Entry("boards", "Puts EdgeLoRA onto a board with stock MicroPython"),
        "reset": Entry("boards", "Ends what runs on a board, and starts it again"),
    },
    "files on a board": {
        "ls": Entry("boards", "Lists a folder of a board, and the room that is left"),
        "push": Entry("boards", "Copies a file to a board, whole or not at all"),
        "pull": Entry("boards", "Copies a file from a board"),
        "rm": Entry("boards", "Deletes files on a board"),
    },
    "adapters on boards": {
        "store": Entry("store", "Adapters in a board's store"),
        "keygen": Entry("updating", "Makes a key pair that signs releases"),
        "release": Entry("updating", "Signs an adapter, for boards to fetch"),
        "serve": Entry("updating", "Serves a directory of releases over HTTP"),
        "update": Entry("updating", "Updates a board over its serial port"),
    },
    "fleets": {
        "fleet": Entry("fleet", "Boards that learn together"),
    },
    "more": {
        "demo": Entry("demos", "Runs a whole demonstration"),
        "bench": Entry("bench", "Measures kernels, networks, learning"),
        "completion": Entry("completion", "Prints a script with which a shell completes commands"),
    },
}
COMMANDS = {name: entry for group in GROUPS.values() for name, entry in group.items()}
MODULES = tuple(dict.fromkeys(entry.module for entry in COMMANDS.values()))
