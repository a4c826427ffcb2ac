"""One TOML value in, one typed value out; all raise ValueError: what it is not, what is allowed.

The message is the second half of a sentence; the first half, file, key and value, is known to the
reader of the table. Numbers come as int or Decimal, never as float (`arbstr.config.load`).
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable
from decimal import Context, Decimal, DecimalException, Inexact

from arbstr.core import price
from arbstr.core.secret import Secret

type Parser[T] = Callable[[object], T]

OFF = "off"

_MAX_RATE = 1_000_000
"""Sats per 1,000 tokens, or a request: a hundredth of a bitcoin, so a slip and not a price."""
_MAX_SATS = 2_100_000_000_000_000
"""All there will be; in msats it still fits 64 bits."""
_MAX_SECONDS = 366 * 86_400
_MAX_BYTES = 2**40

_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
_DURATION = re.compile(r"(?:[0-9]{1,9}(?:\.[0-9]{1,9})?(?:ms|[smhd]))+")
_DURATION_PART = re.compile(r"([0-9.]+)(ms|[smhd])")
_SECONDS = {
    "ms": Decimal("0.001"),
    "s": Decimal(1),
    "m": Decimal(60),
    "h": Decimal(3600),
    "d": Decimal(86_400),
}
_SIZE = re.compile(r"([0-9]{1,15}) ?(B|kB|KB|MB|GB|KiB|MiB|GiB)")
_UNIT_BYTES = {
    "B": 1,
    "kB": 10**3,
    "KB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "KiB": 2**10,
    "MiB": 2**20,
    "GiB": 2**30,
}
_WHOLE = Context(prec=60, traps=[Inexact])
_EXACT = Context(prec=60)


def refusal(what: str, allowed: str) -> ValueError:
    """Make the one kind of error there is: `what` it is not, and what is `allowed` there."""
    return ValueError(but(what, allowed))


def but(what: str, allowed: str) -> str:
    """Join what is wrong (a sentence, or a question) with what is allowed."""
    return f"{what}{'' if what.endswith('?') else ';'} allowed: {allowed}"


def near(word: str, known: Iterable[str]) -> str:
    """``, did you mean "…"?``, or "" where no known word is near."""
    close = difflib.get_close_matches(word, list(known), n=1)
    return f', did you mean "{close[0]}"?' if close else ""


def text(value: object) -> str:
    """Any text but an empty one or one with control characters."""
    allowed = "a text in quotes, not empty, on one line"
    if not isinstance(value, str):
        raise refusal("is no text", allowed)
    if not value.strip():
        raise refusal("is empty", allowed)
    if not value.isprintable():
        raise refusal("has characters that do not print", allowed)
    return value


def name(value: object) -> str:
    """Name of a provider or policy: it goes into headers, model names and variables."""
    if isinstance(value, str) and _NAME.fullmatch(value):
        return value
    raise refusal("is no name", "1 to 64 letters, digits, dots, dashes and underscores")


def flag(value: object) -> bool:
    """Read true or false; 0 and 1 are numbers."""
    if isinstance(value, bool):
        return value
    raise refusal("is neither true nor false", "true, false")


def secret(value: object) -> Secret:
    """Wrap a key: it must fit a header. White space around it is a slip of a file or a shell."""
    allowed = 'a key in quotes, best as "${VARIABLE}"'
    if not isinstance(value, str):
        raise refusal("is no text", allowed)
    key = value.strip()
    if not key:
        raise refusal("is empty", allowed)
    if not (key.isascii() and key.isprintable()) or " " in key:
        raise refusal("has characters that no key has", allowed)
    return Secret(key)


def whole(least: int, most: int) -> Parser[int]:
    """Make a parser of whole numbers from `least` to `most`."""

    def parse(value: object) -> int:
        if isinstance(value, int) and not isinstance(value, bool) and least <= value <= most:
            return value
        raise refusal("does not fit", f"a whole number from {least:,} to {most:,}")

    return parse


def one_of[T: str](choices: tuple[T, ...], aliases: dict[str, T] | None = None) -> Parser[T]:
    """Make a parser of words; an alias stands for its choice."""
    words: dict[str, T] = {choice: choice for choice in choices} | (aliases or {})

    def parse(value: object) -> T:
        if isinstance(value, str) and value in words:
            return words[value]
        hint = near(value, words) if isinstance(value, str) else ""
        raise refusal(f"is not known{hint}", ", ".join(words))

    return parse


def seconds(*, zero: bool = False) -> Parser[float]:
    """Make a parser of durations, in seconds; `zero`: whether 0 makes sense."""
    allowed = (
        f'a time such as "500ms", "60s", "1h30m", or seconds, {"0" if zero else "more than 0"}'
    )
    allowed += " to 366 days"

    def parse(value: object) -> float:
        number = _duration(value)
        if number is None:
            raise refusal("is no time", allowed)
        if not 0 <= number <= _MAX_SECONDS or (number == 0 and not zero):
            raise refusal("does not fit", allowed)
        return float(number)

    return parse


def sync_seconds(value: object) -> float | None:
    """Seconds between two fetches of the prices; None is "off"."""
    if value == OFF:
        return None
    try:
        return seconds()(value)
    except ValueError as error:
        raise ValueError(f'{error}; or "{OFF}"') from None


def milliseconds(value: object) -> int:
    """Read a duration, in whole milliseconds."""
    return round(seconds(zero=True)(value) * 1000)


def size(value: object) -> int:
    """Bytes: a number, or a text with a unit."""
    number = value if isinstance(value, int) and not isinstance(value, bool) else None
    if isinstance(value, str) and (found := _SIZE.fullmatch(value)):
        number = int(found[1]) * _UNIT_BYTES[found[2]]
    if number is not None and 1 <= number <= _MAX_BYTES:
        return number
    raise refusal("is no size", f'bytes from 1 to {_MAX_BYTES:,}, or such as "64KiB", "32MB"')


def rate(value: object) -> Decimal:
    """Sats per 1,000 tokens, which are msats per token; exact."""
    number = None if isinstance(value, str) else _rate(value)
    if number is None or number > _MAX_RATE:
        raise refusal("is no rate", f"sats per 1,000 tokens, a number from 0 to {_MAX_RATE:,}")
    return number


def fee_msats(value: object) -> Decimal:
    """Sats a request, as msats; exact."""
    number = None if isinstance(value, str) else _rate(value)
    if number is None or number > _MAX_RATE:
        raise refusal("is no fee", f"sats a request, a number from 0 to {_MAX_RATE:,}")
    return _EXACT.multiply(number, Decimal(price.MSATS_PER_SAT))


def cap_msats(value: object) -> int:
    """Sats, as whole msats."""
    allowed = f"sats, a number from 0 to {_MAX_SATS:,} with at most three decimals"
    number = _number(value)
    if number is None or not 0 <= number <= _MAX_SATS:
        raise refusal("is no cap", allowed)
    try:
        msats = _WHOLE.multiply(number, Decimal(price.MSATS_PER_SAT))
    except DecimalException:
        raise refusal("is not a whole number of msats", allowed) from None
    if msats != msats.to_integral_value():
        raise refusal("is not a whole number of msats", allowed)
    return int(msats)


def _number(value: object) -> Decimal | None:
    """Give any finite number, exactly; None for everything else."""
    if isinstance(value, bool) or not isinstance(value, int | Decimal):
        return None
    number = Decimal(value)
    return number if number.is_finite() else None


def _rate(value: object) -> Decimal | None:
    try:
        return price.rate(value)
    except ValueError:
        return None


def _duration(value: object) -> Decimal | None:
    """Seconds of a number or of a text such as ``1h30m``."""
    if isinstance(value, str) and _DURATION.fullmatch(value):
        parts = _DURATION_PART.findall(value)
        return sum((Decimal(count) * _SECONDS[unit] for count, unit in parts), Decimal(0))
    return _number(value)
