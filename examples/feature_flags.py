"""A feature-flag client: flags that stay fresh for as long as somebody holds the client.

The user holds a `FlagClient`; its worker knows the `_Flags` only. Run it:
`python examples/feature_flags.py`.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import letgo

RETRY = 1.0  # seconds after a failure; the grid of `interval` stays as it is


class _Flags:
    """What the worker needs: where the flags come from, and the last that came."""

    def __init__(self, fetch: Callable[[], Mapping[str, bool]]) -> None:
        self._fetch = fetch
        # Replaced as a whole, never changed: readers need no lock.
        self.values: Mapping[str, bool] = {}

    def refresh(self) -> None:
        try:
            self.values = dict(self._fetch())
        except Exception:
            letgo.again(after=RETRY)
            raise  # logged by letgo; the flags stay what they were


class FlagClient(letgo.Handle):
    __slots__ = ("_flags",)

    def __init__(self, fetch: Callable[[], Mapping[str, bool]], *, interval: float = 30.0) -> None:
        self._flags = flags = _Flags(fetch)
        super().__init__(flags.refresh, interval=interval, immediate=True, name="feature-flags")

    def is_enabled(self, flag: str, default: bool = False) -> bool:
        return self._flags.values.get(flag, default)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "flags.json")
        file.write_text('{"new-checkout": false}')

        flags = FlagClient(lambda: json.loads(file.read_text()))
        flags.poll_now(timeout=10)  # raises here what the first fetch raises
        print("new-checkout:", flags.is_enabled("new-checkout"))

        file.write_text('{"new-checkout": true}')
        flags.poll_now(timeout=10)  # nobody else need wait for the 30 seconds either
        print("new-checkout:", flags.is_enabled("new-checkout"))

        del flags  # no close(): its worker ends here
    print("workers left:", len(letgo.live()))


if __name__ == "__main__":
    main()
