"""What leaves the client: each kind of metric, tags, prefixes, and what is refused."""

from __future__ import annotations

import enum
from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest

from letgo.statsd import Client, Metrics, RecordingSender

Call = Callable[[Metrics], object]


def lines(call: Call, **options: Any) -> list[bytes]:
    """What one call sends, through a client that does not buffer."""
    sender = RecordingSender()
    with Client(sender=sender, buffered=False, **options) as client:
        call(client)
    return sender.sent


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        (lambda c: c.incr("a"), b"a:1|c"),
        (lambda c: c.incr("a", 5), b"a:5|c"),
        (lambda c: c.incr("a", -1.5), b"a:-1.5|c"),
        (lambda c: c.decr("a"), b"a:-1|c"),
        (lambda c: c.decr("a", 7), b"a:-7|c"),
        (lambda c: c.gauge("a", 3), b"a:3|g"),
        (lambda c: c.gauge("a", -3), b"a:0|g\na:-3|g"),
        (lambda c: c.gauge("a", 3, delta=True), b"a:+3|g"),
        (lambda c: c.gauge("a", -3, 1, True), b"a:-3|g"),
        (lambda c: c.gauge_delta("a", 2.5), b"a:+2.5|g"),
        (lambda c: c.gauge_delta("a", -2.5), b"a:-2.5|g"),
        (lambda c: c.timing("a", 320), b"a:320.000000|ms"),
        (lambda c: c.timing("a", timedelta(seconds=1.5)), b"a:1500.000000|ms"),
        (lambda c: c.set("a", "member"), b"a:member|s"),
        (lambda c: c.set("a", 42), b"a:42|s"),
        (lambda c: c.histogram("a", 1.25), b"a:1.25|h"),
        (lambda c: c.distribution("a", 2), b"a:2|d"),
        (lambda c: c.raw("a", "3|x"), b"a:3|x"),
        (lambda c: c.set("a", "å"), "a:å|s".encode()),
        (lambda c: c.incr("größe"), "größe:1|c".encode()),
    ],
)
def test_each_kind_of_metric_has_its_line(call: Call, expected: bytes) -> None:
    """Every method writes its line of the protocol."""
    assert lines(call) == [expected]


class Level(enum.IntEnum):
    HIGH = 3


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (1e20, b"100000000000000000000"),
        (1e-7, b"0.0000001"),
        (Decimal("1E+3"), b"1000"),
        (Decimal("0.10"), b"0.10"),
        (Fraction(1, 4), b"0.25"),
        (Level.HIGH, b"3"),
        (10**30, b"1" + b"0" * 30),
    ],
)
def test_numbers_never_have_an_exponent(value: Any, written: bytes) -> None:
    """Whatever the type and size of a number, it is written out."""
    assert lines(lambda c: c.incr("a", value)) == [b"a:" + written + b"|c"]


def test_rates_never_have_an_exponent() -> None:
    """A tiny rate is written out too."""
    always = {"sampler": lambda rate: True}
    assert lines(lambda c: c.incr("a", rate=1e-5), **always) == [b"a:1|c|@0.00001"]
    assert lines(lambda c: c.timing("a", 1, 0.25), **always) == [b"a:1.000000|ms|@0.25"]


@pytest.mark.parametrize("tags", [{"k": "v", "n": 1}, [("k", "v"), ("n", 1)], ["k:v", "n:1"]])
@pytest.mark.parametrize(
    ("form", "expected"),
    [
        ("datadog", b"p.a:1|c|@0.5|#e:x,k:v,n:1"),
        ("influx", b"p.a,e=x,k=v,n=1:1|c|@0.5"),
        ("graphite", b"p.a;e=x;k=v;n=1:1|c|@0.5"),
    ],
)
def test_tags_in_every_shape_and_format(tags: Any, form: Any, expected: bytes) -> None:
    """Constant tags, then the call's, where the format wants them."""
    sent = lines(
        lambda c: c.incr("a", rate=0.5, tags=tags),
        prefix="p",
        tags={"e": "x"},
        tag_format=form,
        sampler=lambda rate: True,
    )
    assert sent == [expected]


def test_a_tag_of_the_call_replaces_a_constant_one() -> None:
    """One key has one value in a line."""
    sent = lines(lambda c: c.incr("a", tags={"k": "call"}), tags={"k": "constant", "z": "1"})
    assert sent == [b"a:1|c|#z:1,k:call"]


def test_the_short_way_writes_what_the_long_way_writes() -> None:
    """A name that was met before gives the same line, constant tags included."""
    for form in ("datadog", "influx", "graphite"):
        sender = RecordingSender()
        with Client(
            sender=sender, buffered=False, prefix="p", tags=["k:v"], tag_format=form
        ) as client:
            for count in (1, 1, 5, 5):
                client.incr("100%%d", count)
        first, again, five, five_again = sender.sent
        assert first == again
        assert five == five_again == first.replace(b":1|c", b":5|c")


NAMES = ["", "a:b", "a|b", "a@b", "a\nb", "a\0b", "a\x7fb", "a\x85b", "\ud800"]
BY_FORMAT = [("datadog", "#,"), ("influx", ",="), ("graphite", ";=")]


@pytest.mark.parametrize("name", NAMES)
def test_bad_names_are_refused(name: str) -> None:
    """A name that would corrupt its line is a `ValueError` that shows it; nothing is sent."""
    for call in (
        lambda c: c.incr(name),
        lambda c: c.gauge(name, 1),
        lambda c: c.set(name, 1),
        lambda c: c.timing(name, 1),
        lambda c: c.timer(name),
        lambda c: c.raw(name, "1|c"),
    ):
        with pytest.raises(ValueError, match="stat must not") as caught:
            lines(call)
        assert repr(name) in str(caught.value)


@pytest.mark.parametrize(("form", "separators"), BY_FORMAT)
def test_separators_of_the_tag_format_are_refused(form: Any, separators: str) -> None:
    """In names, prefixes and tags."""
    for separator in separators:
        bad = f"x{separator}y"
        for make in (
            lambda bad=bad: lines(lambda c: c.incr(bad), tag_format=form),
            lambda bad=bad: lines(lambda c: c.incr("a", tags={bad: "v"}), tag_format=form),
            lambda bad=bad: lines(lambda c: c.incr("a", tags={"k": bad}), tag_format=form),
            lambda bad=bad: Client(prefix=bad, tag_format=form),
            lambda bad=bad: Client(tags=[("k", bad)], tag_format=form),
        ):
            with pytest.raises(ValueError, match="must not contain"):
                make()


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (lambda c: c.incr(3), TypeError, "stat must be a str, not 3"),
        (lambda c: c.incr(["a"]), TypeError, "stat must be a str"),
        (lambda c: c.incr("a", True), TypeError, "count must be a number, not True"),
        (lambda c: c.decr("a", True), TypeError, "count must be a number, not True"),
        (lambda c: c.incr("a", "1"), TypeError, "count must be a number, not '1'"),
        (lambda c: c.incr("a", float("nan")), ValueError, "count must be finite, not nan"),
        (lambda c: c.gauge("a", float("inf")), ValueError, "value must be finite, not inf"),
        (lambda c: c.gauge("a", None), TypeError, "value must be a number, not None"),
        (lambda c: c.gauge("a", Decimal("nan")), ValueError, "value must be finite"),
        (lambda c: c.timing("a", "1"), TypeError, "delta must be a number, not '1'"),
        (lambda c: c.timing("a", float("nan")), ValueError, "delta must be finite"),
        (lambda c: c.histogram("a", False), TypeError, "value must be a number, not False"),
        (lambda c: c.set("a", True), TypeError, "value must be a number, not True"),
        (lambda c: c.set("a", b"x"), TypeError, "value must be a number, not b'x'"),
        (lambda c: c.set("a", "x|y"), ValueError, r"value must not contain '\|'"),
        (lambda c: c.set("a", "x:y"), ValueError, "value must not contain ':'"),
        (lambda c: c.set("a", "x\ny"), ValueError, "value must not contain"),
        (lambda c: c.raw("a", "1|c\nb:1|c"), ValueError, "value must not contain"),
        (lambda c: c.incr("a", rate=-0.1), ValueError, "rate must be from 0 to 1, not -0.1"),
        (lambda c: c.incr("a", rate=1.1), ValueError, "rate must be from 0 to 1, not 1.1"),
        (lambda c: c.incr("a", rate=float("nan")), ValueError, "rate must be finite"),
        (lambda c: c.incr("a", rate="1"), TypeError, "rate must be a number, not '1'"),
        (lambda c: c.incr("a", rate=True), TypeError, "rate must be a number, not True"),
        (lambda c: c.incr("a", tags="k:v"), TypeError, "tags must be a mapping"),
        (lambda c: c.incr("a", tags=[1]), TypeError, "tag must be a pair"),
        (lambda c: c.incr("a", tags=3), TypeError, "tags 3"),
        (lambda c: c.incr("a", tags={"k": True}), TypeError, "tag 'k' must be a number"),
        (lambda c: c.incr("a", tags={"k|": "v"}), ValueError, "tag must not contain"),
        (lambda c: c.incr("a", tags={"": "v"}), ValueError, "tag must not be empty"),
        (lambda c: c.incr("a", tags={"k": "v\n"}), ValueError, "'k' must not contain"),
    ],
)
def test_bad_values_are_refused(call: Call, error: type[Exception], match: str) -> None:
    """At the call, naming the argument and its value; also when the name is known."""
    sender = RecordingSender()
    with Client(sender=sender, buffered=False) as client:
        client.incr("a")
        with pytest.raises(error, match=match):
            call(client)
    assert sender.sent == [b"a:1|c"]


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"address": "localhost"}, ValueError),
        ({"address": "localhost:"}, ValueError),
        ({"address": ":8125"}, ValueError),
        ({"address": "localhost:0"}, ValueError),
        ({"address": "localhost:65536"}, ValueError),
        ({"address": "localhost:x"}, ValueError),
        ({"address": "::1:8125"}, ValueError),
        ({"address": "[::x]:8125"}, ValueError),
        ({"address": "a b:8125"}, ValueError),
        ({"address": 8125}, TypeError),
        ({"prefix": "a:b"}, ValueError),
        ({"prefix": None}, TypeError),
        ({"buffered": 1}, TypeError),
        ({"aggregate": None}, TypeError),
        ({"flush_interval": -1}, ValueError),
        ({"flush_interval": "1"}, TypeError),
        ({"flush_bytes": 0}, ValueError),
        ({"flush_bytes": 65_508}, ValueError),
        ({"flush_bytes": 1.5}, TypeError),
        ({"max_pending": 0}, ValueError),
        ({"max_pending": True}, TypeError),
        ({"resolve_interval": 0}, ValueError),
        ({"resolve_interval": "1"}, TypeError),
        ({"tag_format": "statsd"}, ValueError),
        ({"tag_format": None}, TypeError),
        ({"tags": "k:v"}, TypeError),
        ({"sampler": 0.5}, TypeError),
        ({"sender": object()}, TypeError),
    ],
)
def test_bad_arguments_of_the_client_are_refused(
    options: dict[str, Any], error: type[Exception]
) -> None:
    """At construction, naming argument and value, and leaving nothing behind."""
    name, value = next(iter(options.items()))
    with pytest.raises(error) as caught:
        Client(**options)
    assert name in str(caught.value)
    assert repr(value) in str(caught.value)
