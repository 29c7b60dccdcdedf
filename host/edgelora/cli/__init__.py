"""The `edgelora` command: arguments and printing over the library."""
