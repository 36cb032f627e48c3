"""What a line is made of: names, numbers, rates and tags, checked and written.

A line is `name:value|type`, then `|@rate` below a rate of 1, and tags where the
format in use puts them. Nothing here lets a character through that would end one
of these parts early.
"""

from __future__ import annotations

import numbers
import re
from collections.abc import Iterable, Mapping
from datetime import timedelta
from decimal import Decimal
from math import isfinite
from typing import Any, NamedTuple, cast

Tags = Mapping[str, object] | Iterable[str | tuple[str, object]]
Number = int | float | Decimal

# Separators of the protocol, control characters, and halves of surrogate pairs,
# which no UTF-8 can carry.
_NEVER = ":|@\\x00-\\x1f\\x7f-\\x9f\\ud800-\\udfff"
_NOT_IN_SET_VALUE = re.compile("[:|\\n\\ud800-\\udfff]")
_NOT_IN_RAW = re.compile("[\\n\\ud800-\\udfff]")


class TagFormat(NamedTuple):
    """How a server wants its tags."""

    infix: bool  # between name and value; else at the line's end
    start: str
    between: str
    joiner: str  # between a key and its value
    forbidden: re.Pattern[str]


def _tag_format(infix: bool, start: str, between: str, joiner: str) -> TagFormat:
    separators = re.escape(start + between + joiner)
    return TagFormat(infix, start, between, joiner, re.compile(f"[{_NEVER}{separators}]"))


TAG_FORMATS = {
    "datadog": _tag_format(False, "|#", ",", ":"),
    "influx": _tag_format(True, ",", ",", "="),
    "graphite": _tag_format(True, ";", ";", "="),
}
NO_TAGS = TagFormat(False, "", "", "", re.compile(f"[{_NEVER}]"))


def text(argument: str, value: object, forbidden: re.Pattern[str]) -> str:
    """A str that is not empty and has none of the forbidden characters."""
    if not isinstance(value, str):
        raise TypeError(f"{argument} must be a str, not {value!r}")
    if not value:
        raise ValueError(f"{argument} must not be empty: {value!r}")
    found = forbidden.search(value)
    if found:
        raise ValueError(f"{argument} must not contain {found[0]!r}: {value!r}")
    return value


def number(argument: str, value: object) -> str:
    """A number as Python's `str` writes it, but never with an exponent."""
    kind = type(value)
    if kind is int:
        return _int_text(argument, cast(int, value))
    if kind is float:
        return _float_text(argument, cast(float, value))
    return _other_number_text(argument, value)


def _int_text(argument: str, value: int) -> str:
    try:
        return str(value)
    except ValueError:  # Python's own limit, 4,300 digits unless set otherwise
        raise ValueError(f"{argument} has too many digits: {value:#x}") from None


def _float_text(argument: str, value: float) -> str:
    if not isfinite(value):
        raise ValueError(f"{argument} must be finite, not {value!r}")
    written = repr(value)
    return format(Decimal(written), "f") if "e" in written else written


def _other_number_text(argument: str, value: object) -> str:
    if isinstance(value, bool) or not isinstance(value, (Decimal, numbers.Real)):
        raise TypeError(f"{argument} must be a number, not {value!r}")
    if isinstance(value, Decimal):
        if not value.is_finite():
            raise ValueError(f"{argument} must be finite, not {value!r}")
        return format(value, "f")
    if isinstance(value, numbers.Integral):
        return _int_text(argument, int(value))
    try:
        return _float_text(argument, float(value))
    except OverflowError:
        raise ValueError(f"{argument} must be within a float's range, not {value!r}") from None


def plain(argument: str, value: object) -> Number:
    """The number itself, checked: to be negated, compared and added up."""
    number(argument, value)
    if isinstance(value, numbers.Integral):
        return int(value)
    return value if isinstance(value, Decimal) else float(cast(float, value))


def milliseconds(argument: str, value: object) -> str:
    """Milliseconds, or a timedelta, with six decimals as Python's client writes them."""
    if isinstance(value, timedelta):
        value = value.total_seconds() * 1000.0
    else:
        number(argument, value)
    return f"{cast(float, value):0.6f}"


def rate_suffix(rate: object) -> str:
    """`|@rate` for a rate from 0 to below 1; nothing for 1."""
    written = number("rate", rate)
    value = cast(float, rate)
    if not 0 <= value <= 1:
        raise ValueError(f"rate must be from 0 to 1, not {rate!r}")
    return f"|@{written}" if value < 1 else ""


def gauge_lines(head: str, value: Number, tail: str, *, delta: bool) -> bytes:
    """A gauge's line, or two: a sign would make a delta of it, so it is set to 0 first."""
    written = number("value", value)
    if delta:
        sign = "+" if value >= 0 else ""
        return f"{head}{sign}{written}{tail}".encode()
    if value < 0:
        return f"{head}0{tail}\n{head}{written}{tail}".encode()
    return f"{head}{written}{tail}".encode()


def set_value(value: object) -> str:
    """A member of a set: a str, or a number."""
    if not isinstance(value, str):
        return number("value", value)
    found = _NOT_IN_SET_VALUE.search(value)
    if found:
        raise ValueError(f"value must not contain {found[0]!r}: {value!r}")
    return value


def raw_value(value: object) -> str:
    """What is sent after the colon as it is."""
    return text("value", value, _NOT_IN_RAW)


def tag_pairs(tags: Any, form: TagFormat) -> list[tuple[str, str]]:
    """Tags in any of their forms, checked; a tag without a value has an empty one."""
    if isinstance(tags, (str, bytes)):
        raise TypeError(f"tags must be a mapping, pairs or 'key:value' strings, not {tags!r}")
    if isinstance(tags, Mapping):
        return [_pair(pair, form) for pair in cast("Mapping[str, object]", tags).items()]
    try:
        return [_pair(tag, form) for tag in tags]
    except TypeError as error:
        raise TypeError(f"{error} in tags {tags!r}") from None


def _pair(tag: object, form: TagFormat) -> tuple[str, str]:
    value: object
    if isinstance(tag, str):
        key, colon, value = tag.partition(":")
        if not colon:
            if form.infix:
                raise ValueError(f"tag must be 'key:value' in this format, not {tag!r}")
            return text("tag", key, form.forbidden), ""
    elif isinstance(tag, (tuple, list)) and len(cast("list[object]", tag)) == 2:
        key, value = cast("list[Any]", tag)
    else:
        raise TypeError(f"tag must be a pair or a 'key:value' string, not {tag!r}")
    if not isinstance(value, str):
        value = number(f"value of tag {key!r}", value)
    return text("tag", key, form.forbidden), text(f"value of tag {key!r}", value, form.forbidden)


def tag_text(pairs: Iterable[tuple[str, str]], form: TagFormat) -> str:
    """The tags as they stand in a line, with what introduces them."""
    written = [f"{key}{form.joiner}{value}" if value else key for key, value in pairs]
    return form.start + form.between.join(written) if written else ""
