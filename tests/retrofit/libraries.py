"""Libraries that leave a thread running when dropped, each as a script for a process of its own.

A script defines `make()`, which returns the object as its library gives it; `use(object)`,
which has it hold data that it has not delivered; `delivered()`, whether that has arrived; and
`CLOSE`, what the guard is to call.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Library:
    module: str  # to import, to see whether the library is installed
    distribution: str | None  # to install it; None: it comes with Python
    script: str
    leaks: bool = True  # whether its thread goes on when it is dropped


QUEUE_LISTENER = """
import logging, logging.handlers, queue

class Records(logging.Handler):
    messages = []
    def emit(self, record): self.messages.append(record.getMessage())

records = queue.SimpleQueue()

def make():
    listener = logging.handlers.QueueListener(records, Records())
    listener.start()
    return listener

def use(listener):
    for number in range(100):
        records.put(logging.makeLogRecord({"msg": f"message {number}"}))

def delivered(): return len(Records.messages) == 100

CLOSE = "stop"
"""

OPENTELEMETRY = """
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

exporter = InMemorySpanExporter()
tracer = TracerProvider(shutdown_on_exit=False).get_tracer("test")

def make(): return BatchSpanProcessor(exporter, schedule_delay_millis=3_600_000)

def use(processor):
    span = tracer.start_span("last")
    span.end()
    processor.on_end(span)

def delivered(): return [span.name for span in exporter.get_finished_spans()] == ["last"]

CLOSE = "shutdown"
"""

APSCHEDULER = """
import threading
from apscheduler.schedulers.background import BackgroundScheduler

ran = threading.Event()

def make():
    scheduler = BackgroundScheduler(timezone="UTC")
    scheduler.start()
    return scheduler

def use(scheduler):
    scheduler.add_job(ran.set)
    assert ran.wait(20)

def delivered(): return True

CLOSE = "shutdown"
"""

POSTHOG = """
import gzip, http.server, json, threading
import posthog

events = []

class Server(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        events.extend(event["event"] for event in json.loads(body)["batch"])
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"{}")
    def log_message(self, *_): pass

server = http.server.HTTPServer(("127.0.0.1", 0), Server)
threading.Thread(target=server.serve_forever, name="server", daemon=True).start()

def make():
    host = f"http://127.0.0.1:{server.server_port}"
    return posthog.Posthog("key", host=host, flush_interval=3600)

def use(client): client.capture("last", distinct_id="somebody")

def delivered(): return events == ["last"]

CLOSE = "shutdown"
"""

SENTRY = """
import threading
from sentry_sdk.worker import BackgroundWorker

done = []

def make():
    worker = BackgroundWorker()
    worker.start()
    return worker

def use(worker):
    for number in range(10):
        assert worker.submit(lambda number=number: done.append(number))

def delivered(): return done == list(range(10))

def CLOSE(worker):
    worker.flush(timeout=5.0)  # kill() does not wait for what is queued
    worker.kill()
"""

DATADOG = """
import socket
from datadog.dogstatsd.base import DogStatsd

agent = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
agent.bind(("127.0.0.1", 0))
agent.settimeout(20)

def make():
    return DogStatsd(
        host="127.0.0.1",
        port=agent.getsockname()[1],
        disable_buffering=False,
        disable_telemetry=True,
        flush_interval=0.5,
    )

def use(statsd): statsd.increment("last")

def delivered(): return agent.recv(8192).startswith(b"last:1|c")

def CLOSE(statsd):
    statsd.disable_buffering = True  # ends the flush thread, which stop() leaves running
    statsd.stop()
"""

LAUNCHDARKLY = """
import threading
from ldclient.impl.repeating_task import RepeatingTask

ran = threading.Event()

def make():
    task = RepeatingTask.at_interval("test", 3600, 0, ran.set)
    task.start()
    return task

def use(task): assert ran.wait(20)

def delivered(): return True

CLOSE = "stop"
"""

LIBRARIES = {
    "logging.handlers.QueueListener": Library("logging", None, QUEUE_LISTENER),
    "opentelemetry BatchSpanProcessor": Library(
        "opentelemetry.sdk", "opentelemetry-sdk", OPENTELEMETRY
    ),
    "apscheduler BackgroundScheduler": Library("apscheduler", "apscheduler", APSCHEDULER),
    "posthog Posthog": Library("posthog", "posthog", POSTHOG),
    "sentry_sdk BackgroundWorker": Library("sentry_sdk", "sentry-sdk", SENTRY),
    "datadog DogStatsd": Library("datadog", "datadog", DATADOG),
    "launchdarkly RepeatingTask": Library("ldclient", "launchdarkly-server-sdk", LAUNCHDARKLY),
}
