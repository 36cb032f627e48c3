"""Addresses: parsing, and looking up what is not an address yet."""

from __future__ import annotations

import ipaddress
import socket
from typing import Any, NamedTuple


class Address(NamedTuple):
    """What a socket is made for and connected to."""

    family: int
    sockaddr: Any


def parse(argument: str, value: object) -> tuple[str, int]:
    """Host and port of `"host:port"` or `"[ipv6]:port"`."""
    if not isinstance(value, str):
        raise TypeError(f"{argument} must be a str, not {value!r}")
    host, _, digits = value.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
        good = _is_ip(host)
    else:
        good = ":" not in host and _is_host(host)
    if not (good and digits.isascii() and digits.isdigit() and _is_port(int(digits[:6]))):
        raise ValueError(f"{argument} must be 'host:port' or '[ipv6]:port', not {value!r}")
    return host, int(digits)


def check_host(argument: str, value: object) -> str:
    """A host name or IP address: that it exists is for the lookup to find out."""
    if not isinstance(value, str):
        raise TypeError(f"{argument} must be a str, not {value!r}")
    if not _is_host(value):
        raise ValueError(f"{argument} must name a host, not {value!r}")
    return value


def check_port(argument: str, value: object) -> int:
    """A port that can be sent to."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{argument} must be an int, not {value!r}")
    if not _is_port(value):
        raise ValueError(f"{argument} must be a port from 1 to 65535, not {value!r}")
    return value


def _is_host(host: str) -> bool:
    return host != "" and all(letter.isprintable() and letter != " " for letter in host)


def _is_port(port: int) -> bool:
    return 0 < port < 65_536


def _is_ip(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def literal(host: str, port: int) -> tuple[Address, ...]:
    """The address of a host that is one already, without any lookup; else nothing."""
    try:
        ip = ipaddress.ip_address(host)
    except ValueError:
        return ()
    if isinstance(ip, ipaddress.IPv4Address):
        return (Address(socket.AF_INET, (host, port)),)
    if ip.scope_id is None:
        return (Address(socket.AF_INET6, (host, port)),)
    try:
        scope = socket.if_nametoindex(ip.scope_id)
    except OSError:
        scope = int(ip.scope_id) if ip.scope_id.isdecimal() else 0
    return (Address(socket.AF_INET6, (host.partition("%")[0], port, 0, scope)),)


def look_up(host: str, port: int, kind: int, family: int) -> tuple[Address, ...]:
    """All addresses of a host, IPv4 first. It may block for as long as the resolver likes.

    Raises:
        OSError: The name does not resolve.
    """
    try:
        found = socket.getaddrinfo(host, port, family, kind)
    except UnicodeError as error:  # a name that cannot even be asked for
        raise OSError(f"host {host!r} cannot be looked up: {error}") from error
    # Most daemons listen on IPv4 only, while resolvers put ::1 first for localhost.
    addresses = [Address(item[0], item[4]) for item in found]
    addresses.sort(key=lambda address: address.family != socket.AF_INET)
    if not addresses:
        raise OSError(f"host {host!r} has no address")
    return tuple(dict.fromkeys(addresses))
