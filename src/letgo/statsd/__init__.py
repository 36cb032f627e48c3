"""A StatsD client that cannot leak and loses nothing.

    from letgo.statsd import Client

    statsd = Client("localhost:8125", prefix="shop")
    statsd.incr("orders")

Metrics leave in packets, sent by a worker that ends with the client: dropped,
closed or at the interpreter's exit, it sends what is left. `StatsClient`,
`TCPStatsClient` and `UnixSocketStatsClient` replace those of the `statsd` package.
"""

from letgo.statsd._buffered import BufferedSender
from letgo.statsd._client import Client, SubClient
from letgo.statsd._compat import StatsClient, TCPStatsClient, UnixSocketStatsClient
from letgo.statsd._pipeline import Pipeline
from letgo.statsd._sender import RecordingSender, Sender, UnsentError
from letgo.statsd._streams import TCPSender, UnixSender
from letgo.statsd._tagged import Metrics
from letgo.statsd._timer import Timer
from letgo.statsd._udp import ResolvingSender, UDPSender

__all__ = [
    "BufferedSender",
    "Client",
    "Metrics",
    "Pipeline",
    "RecordingSender",
    "ResolvingSender",
    "Sender",
    "StatsClient",
    "SubClient",
    "TCPSender",
    "TCPStatsClient",
    "Timer",
    "UDPSender",
    "UnixSender",
    "UnixSocketStatsClient",
    "UnsentError",
]
