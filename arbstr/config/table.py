"""Reading a TOML table so that nothing in it goes unnoticed.

A `Table` hands out one key at a time, expanded and parsed; what is wrong is noted and reading goes
on with the default, so that a user sees all problems of a file at once. `Table.finish` notes every
key that nobody asked for.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from decimal import Decimal

from arbstr.config.addresses import endpoint
from arbstr.config.parsers import Parser, but, near, refusal, secret

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_VARIABLE = re.compile(r"\$\{([^}]*)(\}?)")
_VARIABLE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_SHOWN_CHARACTERS = 60
_SHOWN_BITS = 256
_NEVER_SHOWN = (secret, endpoint)
"""What these refuse may be a key, or a URL with a password in it."""


class Notes:
    """What is to be said about one file. `env`: for ``${VAR}``."""

    __slots__ = ("env", "file", "holds_key", "problems", "warnings")

    def __init__(self, file: str, env: Mapping[str, str]) -> None:
        """`file`: how the file is called in every line."""
        self.file = file
        self.env = env
        self.problems: list[str] = []
        self.warnings: list[str] = []
        self.holds_key = False

    def problem(self, where: str, what: str) -> None:
        """Note what keeps the config from being used. `where`: the key path."""
        self.problems.append(line(self.file, where, what))

    def warning(self, where: str, what: str) -> None:
        """Note what the user should know."""
        self.warnings.append(line(self.file, where, what))

    def key_in_file(self, where: str, better: str) -> None:
        """Note a key or token that stands in the file itself, and what would be `better`."""
        self.holds_key = True
        self.warning(where, f"holds the key itself; better: {better}")

    def twice(self, places: list[tuple[str, str | None]]) -> None:
        """Note each (key path, name) whose name came before; None is a name that was wrong."""
        first: dict[str, str] = {}
        for where, name in places:
            if name is None:
                continue
            if name in first:
                self.problem(where, f"{shown(name)} is there twice, first as {first[name]}")
            first.setdefault(name, where)


def line(file: str, where: str, what: str) -> str:
    """Make one printable line of it, whatever a path or a parser's message has in it."""
    joined = f"{file}: {where}: {what}" if where else f"{file}: {what}"
    return "".join(c if c.isprintable() else "?" for c in joined)


def shown(value: object) -> str:
    """Show a TOML value as it stands in the file, cut short."""
    match value:
        case dict():
            return "a table"
        case list():
            return "a list"
        case bool() | str():
            written = json.dumps(value, ensure_ascii=False)
        case int() if value.bit_length() > _SHOWN_BITS:
            return "a huge number"
        case int() | Decimal():
            written = str(value)
        case _:
            return "a date or time"
    return written if len(written) <= _SHOWN_CHARACTERS else f"{written[:_SHOWN_CHARACTERS]}…"


class Table:
    """One table of the file, being read. `where`: its key path, "" for the whole file."""

    __slots__ = ("_asked", "_notes", "_raw", "where")

    def __init__(self, notes: Notes, where: str, raw: Mapping[str, object]) -> None:
        """`raw`: as tomllib gave it."""
        self.where = where
        self._notes = notes
        self._raw = raw
        self._asked: list[str] = []

    def __contains__(self, key: str) -> bool:
        return key in self._raw

    def __iter__(self) -> Iterator[str]:
        """All keys, for tables whose keys are the user's own."""
        return iter(self._raw)

    def path(self, key: str) -> str:
        """Key path of `key`, as TOML would write it."""
        written = key if _BARE_KEY.fullmatch(key) else json.dumps(key, ensure_ascii=False)
        return f"{self.where}.{written}" if self.where else written

    def get[T, D](self, key: str, parse: Parser[T], default: D) -> T | D:
        """Read `key`; `default` where it is absent or wrong."""
        self._asked.append(key)
        if key not in self._raw:
            return default
        return self._parse(self.path(key), self._raw[key], parse, default)

    def optional[T](self, key: str, parse: Parser[T]) -> T | None:
        """Read `key`; None where it is absent or wrong."""
        return self.get(key, parse, None)

    def required[T](self, key: str, parse: Parser[T], allowed: str) -> T | None:
        """Read `key`; None, and a problem, where it is absent or wrong."""
        if key not in self._raw:
            self.missing(key, allowed)
        return self.optional(key, parse)

    def missing(self, key: str, allowed: str) -> None:
        """Note that `key` is absent and must not be."""
        self._notes.problem(self.path(key), but("is missing", allowed))

    def all_of[T](self, key: str, parse: Parser[T]) -> tuple[T, ...]:
        """Read `key` as a list, () where it is absent; every wrong item is a problem of its own."""
        items = self.get(key, _items, ())
        where = self.path(key)
        parsed = (self._parse(f"{where}[{i}]", item, parse, None) for i, item in enumerate(items))
        return tuple(item for item in parsed if item is not None)

    def table(self, key: str) -> Table:
        """Read ``[key]``; an empty table where it is absent or wrong."""
        return Table(self._notes, self.path(key), self.get(key, _mapping(self.path(key)), {}))

    def tables(self, key: str) -> list[Table]:
        """Read every ``[[key]]``, in their order."""
        found = self.get(key, _mappings(self.path(key)), ())
        return [Table(self._notes, f"{self.path(key)}[{i}]", raw) for i, raw in enumerate(found)]

    def ignored(self, key: str, why: str) -> None:
        """Accept `key` whatever it holds, and say that it does nothing."""
        self.skip(key)
        if key in self._raw:
            self._notes.warning(self.path(key), f"is ignored: {why}")

    def skip(self, key: str) -> None:
        """Accept `key` unread, whatever it holds."""
        self._asked.append(key)

    def is_literal(self, key: str) -> bool:
        """Whether the value stands in the file itself and comes from no variable."""
        value = self._raw.get(key)
        return isinstance(value, str) and "${" not in value

    def finish(self) -> None:
        """Note every key that nobody has asked for."""
        for key in self._raw:
            if key not in self._asked:
                what = f"unknown key{near(key, self._asked)}"
                self._notes.problem(self.path(key), but(what, ", ".join(self._asked)))

    def _parse[T, D](self, where: str, raw: object, parse: Parser[T], default: D) -> T | D:
        value = self._expanded(where, raw) if isinstance(raw, str) else raw
        if value is None:
            return default
        try:
            parsed = parse(value)
        except ValueError as error:
            # Shown as written: neither a key nor what a variable holds is for the eye.
            written = "the value" if parse in _NEVER_SHOWN else shown(raw)
            self._notes.problem(where, f"{written} {error}")
            return default
        return parsed

    def _expanded(self, where: str, written: str) -> str | None:
        """Put variables in; None, and a problem for each, where one is not set."""
        missing: list[str] = []

        def value(found: re.Match[str]) -> str:
            name, closed = found[1], found[2]
            if not closed or not _VARIABLE_NAME.fullmatch(name):
                missing.append('has a "${" that names no variable; allowed: "${NAME}"')
            elif name not in self._notes.env:
                missing.append(f"needs the environment variable {name}, which is not set")
            return self._notes.env.get(name, "")

        expanded = _VARIABLE.sub(value, written)
        for what in missing:
            self._notes.problem(where, what)
        return None if missing else expanded


def _items(value: object) -> list[object]:
    if isinstance(value, list):
        return value
    raise refusal("is no list", 'a list such as ["a", "b"]')


def _mapping(where: str) -> Parser[Mapping[str, object]]:
    def parse(value: object) -> Mapping[str, object]:
        if isinstance(value, dict):
            return value
        raise refusal("is no table", f"[{where}] and its keys")

    return parse


def _mappings(where: str) -> Parser[list[Mapping[str, object]]]:
    def parse(value: object) -> list[Mapping[str, object]]:
        if isinstance(value, list) and all(isinstance(item, dict) for item in value):
            return value
        raise refusal("is no list of tables", f"[[{where}]], in double brackets, once for each")

    return parse
