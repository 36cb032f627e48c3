"""Exit and fork: what is delivered, by whom, and what is not sent twice."""

from __future__ import annotations

import os
import socket
import threading

import pytest

from helpers import PATIENCE, run_python, run_quietly
from statsd_helpers import Receiver

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")

# From 3.12 on Python warns of each fork with threads, which is what these tests are about.
FORKS = ("-W", "ignore:This process:DeprecationWarning")

CLIENT = """
import os, sys
import letgo
from letgo.statsd import Client
client = Client(sys.argv[1], flush_interval=3600)
"""

ENDINGS = {
    "the script ends": "",
    "sys.exit": "sys.exit()",
    "a thread still sends": """
import threading, time
def late():
    threading.main_thread().join()
    client.incr("thread")
threading.Thread(target=late).start()
""",
    "another worker's last flush": """
other = letgo.Handle(lambda: None, interval=3600, on_close=lambda: client.incr("other"))
""",
    "dropped": "del client",
    "in a cycle": "cycle = [client]; cycle.append(cycle); del client, cycle",
}


@pytest.mark.parametrize("ending", ENDINGS.values(), ids=ENDINGS)
def test_exit_delivers_what_is_buffered(ending: str) -> None:
    """However the interpreter ends, and silently in development mode too."""
    with Receiver() as receiver:
        source = CLIENT + 'client.incr("a")\n' + ending
        run_quietly(source, "-X", "dev", "-W", "error", arguments=(receiver.address,))
        wanted = {b"a:1|c"}
        if "late" in ending:
            wanted.add(b"thread:1|c")
        if "other" in ending:
            wanted.add(b"other:1|c")
        assert set(receiver.lines(len(wanted))) == wanted


def test_an_unhandled_exception_delivers_too() -> None:
    """The traceback is the user's only."""
    with Receiver() as receiver:
        result = run_python(
            CLIENT + 'client.incr("a"); raise KeyError("x")', arguments=(receiver.address,)
        )
        assert result.returncode == 1
        assert result.stderr.endswith("KeyError: 'x'\n")
        assert receiver.packet() == b"a:1|c"


def test_a_metric_from_an_exit_handler_is_sent_or_counted() -> None:
    """Registered before letgo's or after: never an exception."""
    source = """
    import atexit, sys
    def late():
        client.incr("late")
        client.gauge("late", -1)
        client.flush()
        print(client.sent, client.dropped)
    atexit.register(late)
    import letgo
    from letgo.statsd import Client
    client = Client(sys.argv[1], flush_interval=3600)
    atexit.register(lambda: client.incr("early"))
    """
    with Receiver() as receiver:
        output = run_quietly(source, arguments=(receiver.address,))
        assert receiver.packet() == b"early:1|c"
        assert output == "4 3\n"


def test_a_missing_server_does_not_hold_up_exit() -> None:
    """One warning, no more than that."""
    source = CLIENT.replace("Client(sys.argv[1]", "Client(sender=TCPSender('127.0.0.1', 9)")
    source = source.replace("import Client", "import Client, TCPSender")
    result = run_python(source + 'client.incr("a")', timeout=PATIENCE)
    assert result.returncode == 0
    assert result.stderr.count("\n") == 1
    assert "TCPSender cannot send" in result.stderr


@needs_fork
def test_a_child_sends_its_own_metrics_only() -> None:
    """What the parent buffered is sent once, by the parent; the child begins at zero."""
    source = (
        CLIENT
        + """
client.incr("parent")
for number in range(5):
    pid = os.fork()
    if pid == 0:
        assert (client.sent, client.dropped) == (0, 0)
        client.incr("child")
        client.flush()
        client.incr("child.exit")
        sys.exit()
    assert os.waitpid(pid, 0)[1] == 0
client.incr("parent")
"""
    )
    with Receiver() as receiver:
        run_quietly(source, *FORKS, arguments=(receiver.address,))
        assert sorted(receiver.lines(12)) == (
            [b"child.exit:1|c"] * 5 + [b"child:1|c"] * 5 + [b"parent:1|c"] * 2
        )
        assert receiver.waiting() == []


@needs_fork
def test_sums_are_the_parents_too() -> None:
    """What an aggregating client has added up, and what it is yet to, stays in the parent."""
    source = (
        CLIENT.replace("3600", "3600, aggregate=True")
        + """
for _ in range(5000):
    client.incr("parent")
while len(client._outlet._pending):  # added up early
    pass
client.incr("parent")
if os.fork() == 0:
    client.incr("child")
    sys.exit()
assert os.wait()[1] == 0
"""
    )
    with Receiver() as receiver:
        run_quietly(source, *FORKS, arguments=(receiver.address,))
        assert receiver.lines(2) == [b"child:1|c", b"parent:5001|c"]
        assert receiver.waiting() == []


@needs_fork
def test_a_child_that_never_returns_can_flush() -> None:
    """Before `os._exit`."""
    source = (
        CLIENT
        + """
if os.fork() == 0:
    client.incr("child")
    client.close()
    os._exit(0)
assert os.wait()[1] == 0
"""
    )
    with Receiver() as receiver:
        run_quietly(source, *FORKS, arguments=(receiver.address,))
        assert receiver.packet() == b"child:1|c"


@needs_fork
def test_children_make_stream_connections_of_their_own() -> None:
    """The parent's is left alone, and goes on."""
    source = (
        CLIENT.replace("import Client", "import Client, TCPSender").replace(
            "Client(sys.argv[1]", "Client(sender=TCPSender('127.0.0.1', int(sys.argv[1]))"
        )
        + """
client.incr("parent")
client.flush()
if os.fork() == 0:
    client.incr("child")
    sys.exit()
assert os.wait()[1] == 0
client.incr("parent")
"""
    )
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(PATIENCE)
        run_quietly(source, *FORKS, arguments=(str(listener.getsockname()[1]),))
        received = []
        for _ in range(2):
            connection, _ = listener.accept()
            with connection:
                connection.settimeout(PATIENCE)
                data = b""
                while more := connection.recv(1000):
                    data += more
                received.append(data)
    assert sorted(received) == [b"child:1|c\n", b"parent:1|c\nparent:1|c\n"]


@needs_fork
def test_forks_while_threads_send_lose_and_repeat_nothing() -> None:
    """Hundreds of forks in the middle of everything; each process sends what it recorded."""
    source = (
        CLIENT.replace("3600", "0.001")
        + """
import threading
stop = threading.Event()
sent = [0, 0, 0, 0]
def work(number):
    while not stop.is_set() and sent[number] < 5000:
        client.incr("parent")
        sent[number] += 1
threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
for thread in threads:
    thread.start()
for _ in range(100):
    pid = os.fork()
    if pid == 0:
        client.incr("child")
        client.close(10)
        os._exit(0 if (client.sent, client.dropped) == (1, 0) else 1)
    assert os.waitpid(pid, 0)[1] == 0
stop.set()
for thread in threads:
    thread.join()
client.close()
print(sum(sent), client.sent, client.dropped)
"""
    )
    with Receiver() as receiver:
        lines: list[bytes] = []

        def receive() -> None:
            while (packet := receiver.packet()) != b"end":
                lines.extend(packet.split(b"\n"))

        reader = threading.Thread(target=receive)
        reader.start()
        output = run_quietly(source, *FORKS, arguments=(receiver.address,))
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as ending:
            ending.sendto(b"end", ("127.0.0.1", receiver.port))
        reader.join(PATIENCE)
    recorded, sent, dropped = map(int, output.split())
    assert recorded == sent
    assert lines.count(b"child:1|c") == 100
    assert lines.count(b"parent:1|c") + dropped == sent
