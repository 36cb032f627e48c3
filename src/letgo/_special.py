"""The special methods that Python calls by itself, and the operation that is each one.

An operation on the object itself, and not a call of its method, keeps what Python
does around one: the other operand's turn, the checks of the result, the message of
the error. Special methods that are not listed are called by name only, as ordinary
methods are.
"""

from __future__ import annotations

import math
import operator
import os
from collections.abc import Callable
from typing import Any

Operation = Callable[..., Any]


def _buffer(wrapped: Any, flags: int) -> memoryview:
    return memoryview(wrapped)


CONVERSIONS: dict[str, Operation] = {
    "__repr__": repr,
    "__str__": str,
    "__bytes__": bytes,
    "__format__": format,
    "__hash__": hash,
    "__bool__": bool,
    "__len__": len,
    "__length_hint__": operator.length_hint,
    "__contains__": operator.contains,
    "__int__": int,
    "__float__": float,
    "__complex__": complex,
    "__index__": operator.index,
    "__fspath__": os.fspath,
    "__dir__": dir,
    "__buffer__": _buffer,
}
"""Python prescribes the type of what these return: a proxy will not do."""

OPERATIONS: dict[str, Operation] = {
    "__call__": operator.call,
    "__getitem__": operator.getitem,
    "__setitem__": operator.setitem,
    "__delitem__": operator.delitem,
    "__iter__": iter,
    "__next__": next,
    "__reversed__": reversed,
    "__aiter__": aiter,
    "__anext__": anext,
    "__neg__": operator.neg,
    "__pos__": operator.pos,
    "__abs__": abs,
    "__invert__": operator.invert,
    "__round__": round,
    "__trunc__": math.trunc,
    "__floor__": math.floor,
    "__ceil__": math.ceil,
}
"""These may return the object itself, and then it is the proxy that is returned."""

COMPARISONS: dict[str, Operation] = {
    f"__{name}__": getattr(operator, name) for name in ("lt", "le", "eq", "ne", "gt", "ge")
}

_ARITHMETIC: dict[str, Operation] = {
    **{
        name: getattr(operator, f"__{name}__")
        for name in (
            *("add", "sub", "mul", "matmul", "truediv", "floordiv", "mod"),
            *("lshift", "rshift", "and", "xor", "or"),
        )
    },
    "divmod": divmod,
    "pow": pow,
}


def _swapped(operation: Operation) -> Operation:
    def swapped(right: Any, left: Any, *modulus: Any) -> Any:
        return operation(left, right, *modulus)

    return swapped


BINARY: dict[str, Operation] = {
    **{f"__{name}__": operation for name, operation in _ARITHMETIC.items()},
    **{f"__r{name}__": _swapped(operation) for name, operation in _ARITHMETIC.items()},
    **{
        f"__i{name}__": getattr(operator, f"__i{name}__")
        for name in _ARITHMETIC
        if name != "divmod"
    },
}
"""With a second operand, which may be a proxy as well."""
