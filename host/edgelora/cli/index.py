"""All commands with module and description, so that a list of them imports none."""

from __future__ import annotations

from typing import NamedTuple


class Entry(NamedTuple):
    """A command: the module that adds it, and the first line of its docstring."""

    module: str
    line: str


GROUPS: dict[str, dict[str, Entry]] = {
    "in the browser": {
        "studio": Entry("studio", "Opens a page to watch boards sense and train them"),
    },
    "base network": {
        "pretrain": Entry("models", "Trains a float network on many people or voices"),
        "quantize": Entry("models", "Quantizes a float network to an INT8 model (.elm)"),
        "import": Entry("models", "Converts a TensorFlow, Keras or language model to a .elm"),
        "plan": Entry("models", "Computes memory and time on a board, and chooses ranks"),
        "export": Entry("models", "Writes a model and samples for programs in C"),
    },
    "adapters": {
        "personalize": Entry("learning", "Trains an adapter on a board, and writes a report"),
        "train-adapter": Entry("learning", "Trains an adapter on this computer"),
        "eval": Entry("learning", "Measures accuracy on a board or on the host twin"),
        "add-class": Entry("classes", "Adds classes to a board's network, from a few samples"),
        "consolidate": Entry("classes", "Retrains a board's adapter together with added classes"),
        "ask": Entry("asking", "Names the windows whose labels would help most"),
        "correct": Entry("asking", 'Teaches corrections at once: "no, that was wave"'),
        "remove-class": Entry("classes", "Removes a class from a board's adapter"),
        "listen": Entry("streaming", "Streams a recording to a board, and prints its decisions"),
        "record": Entry("recording", "Records samples of one class from a board's sensor"),
        "convert": Entry("recording", "Converts recordings to other formats or to samples"),
        "act": Entry("actions", "Lets a board act on its own when it detects a class"),
        "import-adapter": Entry("learning", "Converts a PEFT checkpoint to an adapter (.ela)"),
        "export-adapter": Entry("learning", "Converts an adapter (.ela) to a PEFT checkpoint"),
        "wake": Entry("wake", "Teaches a wake word its owner's voice"),
        "blend": Entry("merging", "Computes a weighted sum of adapters"),
        "merge": Entry("merging", "Merges an adapter into the INT8 network"),
    },
    "runs": {
        "watch": Entry("runs", "Follows the updates of a run in progress"),
        "report": Entry("runs", "Renders the HTML page of a run from its report.json"),
        "compare": Entry("runs", "Compares the reports of runs, in a table and on a page"),
    },
    "boards": {
        "devices": Entry("boards", "Lists connected boards and running virtual boards"),
        "doctor": Entry("boards", "Checks this computer and its boards, and suggests fixes"),
        "boards": Entry("boards", "Lists supported boards and what was verified on each"),
        "sim": Entry("boards", "Starts, stops or lists virtual boards"),
        "build": Entry("boards", "Builds firmware for a board, including a model"),
        "flash": Entry("boards", "Writes firmware to a board"),
        "install": Entry("boards", "Installs EdgeLoRA on a board with stock MicroPython"),
        "reset": Entry("boards", "Stops the program on a board, and restarts it"),
    },
    "files on a board": {
        "ls": Entry("boards", "Lists a folder on a board, and its free space"),
        "push": Entry("boards", "Copies a file to a board, atomically"),
        "pull": Entry("boards", "Copies a file from a board"),
        "rm": Entry("boards", "Deletes files on a board"),
    },
    "adapters on boards": {
        "store": Entry("store", "Adapters in a board's store"),
        "keygen": Entry("updating", "Creates a key pair for signing releases"),
        "release": Entry("updating", "Signs an adapter as a release for boards"),
        "serve": Entry("updating", "Serves a directory of releases over HTTP"),
        "update": Entry("updating", "Updates a board over its serial port"),
    },
    "fleets": {
        "fleet": Entry("fleet", "Federated learning on boards"),
    },
    "more": {
        "demo": Entry("demos", "Runs a complete demonstration"),
        "bench": Entry("bench", "Runs benchmarks"),
        "completion": Entry("completion", "Prints a completion script for a shell"),
    },
}
COMMANDS = {name: entry for group in GROUPS.values() for name, entry in group.items()}
MODULES = tuple(dict.fromkeys(entry.module for entry in COMMANDS.values()))
