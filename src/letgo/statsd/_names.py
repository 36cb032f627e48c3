"""Names with all that goes before and after a value, checked once and remembered."""

from __future__ import annotations

from typing import TypeVar

from letgo.statsd._format import TagFormat, Tags, tag_pairs, tag_text, text

T = TypeVar("T")

# How many are remembered, and of what length: ever new names leave memory bounded.
_MOST = 4096
_LONGEST = 512


class Names:
    """One prefix, one format and one set of constant tags.

    Threads: any. The caches are plain dicts of which each use is one step; they are
    emptied when they are full.
    """

    __slots__ = ("_heads", "_tail", "counters", "form", "ones", "prefix", "tags")

    def __init__(self, prefix: str, form: TagFormat, tags: tuple[tuple[str, str], ...]) -> None:
        self.prefix = prefix
        self.form = form
        self.tags = tags
        self._tail = "" if form.infix else tag_text(tags, form)
        self._heads: dict[str, str] = {}
        # For the short way of `incr`: whole lines of counters that go up by one, and
        # lines with %d in the place of the count. To fill that in costs two thirds of
        # what an f-string and its encoding do.
        self.ones: dict[str, bytes] = {}
        self.counters: dict[str, bytes] = {}

    def parts(self, stat: str, tags: Tags | None) -> tuple[str, str]:
        """The line up to its value, and from behind its rate on."""
        if tags is None:
            try:
                return self._heads[stat], self._tail
            except (KeyError, TypeError):
                return self._new_head(stat), self._tail
        pairs = tag_pairs(tags, self.form)
        keys = {key for key, _ in pairs}
        written = tag_text([tag for tag in self.tags if tag[0] not in keys] + pairs, self.form)
        if self.form.infix:
            return f"{self._name(stat)}{written}:", ""
        return f"{self._name(stat)}:", written

    def remember_counter(self, stat: str, head: str) -> None:
        """Have the next `incr` of this name take the short way."""
        end = f"|c{self._tail}"
        template = "%d".join(part.replace("%", "%%") for part in (head, end))
        _remember(self.ones, stat, f"{head}1{end}".encode())
        _remember(self.counters, stat, template.encode())

    def _name(self, stat: str) -> str:
        text("stat", stat, self.form.forbidden)
        return f"{self.prefix}.{stat}" if self.prefix else stat

    def _new_head(self, stat: str) -> str:
        infix = tag_text(self.tags, self.form) if self.form.infix else ""
        head = f"{self._name(stat)}{infix}:"
        _remember(self._heads, stat, head)
        return head


def _remember(cache: dict[str, T], stat: str, value: T) -> None:
    """Keep what belongs to a name, in bounded memory."""
    if len(stat) <= _LONGEST:
        if len(cache) >= _MOST:
            cache.clear()
        cache[stat] = value


def check_prefix(argument: str, prefix: object, form: TagFormat) -> str:
    """A prefix, which may be empty."""
    return "" if prefix == "" else text(argument, prefix, form.forbidden)


def join_prefixes(outer: str, inner: str) -> str:
    """One within the other, with one dot between them."""
    if outer and inner and not outer.endswith(".") and not inner.startswith("."):
        return f"{outer}.{inner}"
    return outer + inner
