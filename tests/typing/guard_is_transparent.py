"""For type checkers only, see tests/test_guard_typing.py: a proxy has the object's type."""

from collections.abc import Callable
from typing import TypeVar, assert_type

import letgo

T = TypeVar("T")


class Client:
    def send(self, text: str) -> int:
        return len(text)

    def shutdown(self, timeout: float = 1.0) -> None: ...


client = letgo.guard(Client(), close="shutdown", poll=lambda it: it.send(""), interval=1.0)
assert_type(client, Client)
assert_type(client.send("text"), int)
assert_type(letgo.guard({"a": 1}, close=None), dict[str, int])
assert_type(letgo.unguard(client), Client)
assert_type(letgo.handle_of(client), letgo.Handle)
closer: Callable[[Client], object] = Client.shutdown
assert_type(letgo.guard(Client(), close=closer), Client)


def wrap(value: T) -> T:
    return letgo.guard(value, close=None)
