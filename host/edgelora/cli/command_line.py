"""The command-line parser: short usage, one-line help in lists, a help page per command, spelling suggestions."""

from __future__ import annotations

import argparse
import difflib
import inspect
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NoReturn

from edgelora.base.errors import EdgeloraError


class UsageError(EdgeloraError):
    """An invalid command line. usage: that of the command."""

    def __init__(self, message: str, usage: str, remedy: str) -> None:
        super().__init__(message, remedy=remedy)
        self.usage = usage


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """ "did you mean ...?" with the closest known word, or ""."""
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f"did you mean {close[0]}?" if close else ""


class Parser(argparse.ArgumentParser):
    """The parser of one command, or of a group; `sections` then lists titles and names of commands for help."""

    def __init__(self, *args: Any, **named: Any) -> None:
        super().__init__(*args, **named | {"allow_abbrev": False, "formatter_class": _Formatter})
        self.commands: argparse._SubParsersAction[Parser] | None = None  # of a group
        self.sections: Sequence[tuple[str, Sequence[str]]] = ()
        self._options_first = False

    def add_verbosity(self, default: Any) -> None:
        self.add_argument(
            "-v", "--verbose", action="store_true", default=default, help="print more: settings, ports, link activity"
        )
        self.add_argument("--debug", action="store_true", default=default, help="the same, and tracebacks of errors")

    def add_argument(self, *names: Any, **named: Any) -> argparse.Action:
        if len(names) == 1 and not names[0].startswith("-") and "choices" not in named:
            named.setdefault("metavar", names[0].upper())
        return super().add_argument(*names, **named)

    def option(self, name: str) -> argparse.Action | None:
        return self._option_string_actions.get(name)

    def value(self, action: argparse.Action, words: list[str]) -> Any:
        """The value of an option with these words. Raises argparse.ArgumentError."""
        return self._get_values(action, words)

    # --- mistakes

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        for word in args or ():
            if word == "--" or self.commands is not None and not word.startswith("-"):
                break
            name = word.partition("=")[0]
            if name.startswith("--") and " " not in name and self.option(name) is None:
                near = did_you_mean(name, (known for known in self._option_string_actions if known[:2] == "--"))
                self._refuse(f"no option {name[:40]}", near)
        found, rest = super().parse_known_args(args, namespace)
        if rest and self.commands is None and not self._options_first:
            return self._any_order(args)
        return found, rest

    def _any_order(self, args: Any) -> Any:
        """Works around argparse, which takes an optional argument for omitted as soon as an option precedes it."""
        self._options_first = True
        try:
            found, rest = self.parse_known_intermixed_args(args)
        finally:
            self._options_first = False
        if rest:
            self._refuse(f"too many arguments, {' '.join(rest)[:80]}", "")
        return found, rest

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is None or value == [] or value in action.choices:  # a list may be left out
            return
        near = did_you_mean(str(value), map(str, action.choices))
        if action is self.commands:
            self._refuse(f"no command {value[:40]!r}", near)
        allowed = ", ".join(map(str, action.choices))
        raise argparse.ArgumentError(action, f"{str(value)[:40]!r}: give one of {allowed}")

    def error(self, message: str) -> NoReturn:
        self._refuse(message, "")

    def _refuse(self, message: str, near: str) -> NoReturn:
        raise UsageError(message, self.format_usage().rstrip(), f"{near} see {self.prog} --help".strip())

    # --- help

    def format_usage(self) -> str:
        """One line with required arguments only; optional ones are on the help page."""
        formatter = self._get_formatter()
        words = [f"usage: {self.prog}"]
        for action in sorted(self._actions, key=lambda action: bool(action.option_strings)):
            if action.option_strings and action.required:
                words += [action.option_strings[0], formatter._format_args(action, action.dest.upper())]
            elif not action.option_strings:
                choices = "|".join(map(str, action.choices or ())) or str(action.metavar)
                words.append(formatter._format_args(action, choices))
        return " ".join([*words, "[options]"]) + "\n"

    def format_help(self) -> str:
        formatter = self._get_formatter()
        formatter.add_text(self.description)
        if self.commands is not None:
            lines = {action.dest: action for action in self.commands._choices_actions}
            for title, names in self.sections or [("commands", list(lines))]:
                formatter.start_section(title)
                formatter.add_arguments([lines[name] for name in names])
                formatter.end_section()
        for group in self._action_groups:
            formatter.start_section(group.title)
            formatter.add_text(group.description)
            formatter.add_arguments([action for action in group._group_actions if action is not self.commands])
            formatter.end_section()
        formatter.add_text(self.epilog)
        return f"{self.format_usage()}\n{formatter.format_help()}"


class Add:
    """Adds commands to a parser, which so becomes a group and prints its help without a command."""

    def __init__(self, parser: Parser) -> None:
        self._commands = parser.commands = parser.add_subparsers(metavar="COMMAND")
        parser.set_defaults(run=lambda args: parser.print_help())

    def __call__(self, name: str, run: Callable[[argparse.Namespace], Any]) -> Parser:
        """A command's parser. The first line of the function's docstring is its help in lists, the whole its page."""
        text = inspect.cleandoc(run.__doc__ or "")
        parser = self._commands.add_parser(name, help=text.splitlines()[0].rstrip("."), description=text)
        parser.add_argument(
            "--json",
            action="store_true",
            help="print only the result, as JSON, to standard output; errors as JSON to standard error",
        )
        parser.add_verbosity(argparse.SUPPRESS)
        parser.set_defaults(run=run)
        return parser

    def named(self, name: str, line: str) -> None:
        """Adds a command that is in lists alone."""
        self._commands.add_parser(name, help=line)

    def group(self, name: str, line: str, text: str) -> Add:
        """Adds a group of commands. line: its help in lists; text: on its own page."""
        return Add(self._commands.add_parser(name, help=line, description=text))


class _Formatter(argparse.HelpFormatter):
    """Keeps paragraphs and indented lines (examples)."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=28)

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        fill = super()._fill_text
        paragraphs = inspect.cleandoc(text).split("\n\n")
        return "\n\n".join(part if part.startswith(" ") else fill(part, width, indent) for part in paragraphs)
