"""The process that workers are forked from: ``python -P -m rotbench.worker_server DESCRIPTOR MODULE..``.

It imports the MODULEs, those of a training and with them PyTorch, which takes seconds, and then forks a child for each
request that comes over a socket, which takes hundredths of a second. It computes nothing itself, touches no GPU, loads
no plugin and has a single thread, so that a child is what a new Python would be that has made the same imports. It
ends, with all its children, as soon as the process at the other end of the socket is gone.

A request is a message with three descriptors: the pipe that becomes the child's standard input, the pipe that takes
what it prints, and the folder that it works in. Replies are ``{"ready": true}`` once, ``{"id", "pid"}`` after a child
was forked, or ``{"id", "refused"}``, and ``{"id", "code"}`` after it has ended, negative for a signal.
"""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import gc
import importlib
import json
import os
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rotbench.system import usable_cores

#: How many descriptors come with a request, and the longest message.
DESCRIPTORS = 3
MESSAGE_BYTES = 2**20


@dataclass(frozen=True)
class Request:
    """What a child is to do: ``main`` of a module, with so many threads.

    ``environment``: variables that differ from the server's, None for one that is not set.
    """

    id: int
    module: str
    arguments: Sequence[str]
    threads: int
    environment: Mapping[str, str | None]


def main(descriptor: int, modules: Sequence[str]) -> int:
    """Serve until the driver is gone; in a child, do what was requested and return its exit code."""
    with socket.socket(fileno=descriptor) as channel:
        end_with_peer(channel)
        load(modules)
        request = serve(channel)
        if request is None:
            os._exit(0)  # nothing is left to be written or put away
    code = perform(request, time.monotonic())
    leave(code)
    return code


def end_with_peer(channel: socket.socket) -> None:
    """Have the kernel end this process as soon as the other end of the socket is closed; or is written to.

    A thread that watches would wait for as long as a shared library is being loaded, and would be there when forking.
    """
    signal.signal(signal.SIGIO, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGIO])
    fcntl.fcntl(channel, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(channel, fcntl.F_SETFL, fcntl.fcntl(channel, fcntl.F_GETFL) | os.O_ASYNC)
    if select.select([channel], [], [], 0)[0]:  # it was closed before
        os._exit(1)


def load(modules: Sequence[str]) -> None:
    """Import these modules and exempt what they created from garbage collection."""
    gc.disable()
    for module in modules:
        importlib.import_module(module)
    gc.collect()
    gc.freeze()  # a collection in a child would write to every page that it shares with this process


def serve(channel: socket.socket) -> Request | None:
    """Fork a child for each request. Returns its request in a child; None here, once the driver is gone."""
    children: dict[int, int] = {}
    with child_signals() as ended, contextlib.suppress(BrokenPipeError, ConnectionResetError):
        fcntl.fcntl(channel, fcntl.F_SETFL, fcntl.fcntl(channel, fcntl.F_GETFL) & ~os.O_ASYNC)
        reply(channel, ready=True)
        while True:
            readable = select.select([channel, ended], [], [])[0]
            if ended in readable:
                ended.recv(MESSAGE_BYTES)
                for pid, code in reap(children):
                    reply(channel, id=children.pop(pid), code=code)
            if channel in readable:
                message, descriptors, _, _ = socket.recv_fds(
                    channel, MESSAGE_BYTES, DESCRIPTORS, socket.MSG_CMSG_CLOEXEC
                )
                if not message:
                    break
                request = Request(**json.loads(message))
                child = fork(channel, request)
                if child == 0:
                    take_over(*descriptors)
                    return request
                for descriptor in descriptors:
                    os.close(descriptor)
                if child is not None:
                    children[child] = request.id
                    reply(channel, id=request.id, pid=child)
    for pid in children:
        end_group_of(pid)
    return None


@contextlib.contextmanager
def child_signals() -> Iterator[socket.socket]:
    """A socket that is readable after a child has ended."""
    reading, writing = socket.socketpair()
    with reading, writing:
        writing.setblocking(False)
        signal.signal(signal.SIGCHLD, lambda number, frame: None)  # by default it would not interrupt anything
        signal.set_wakeup_fd(writing.fileno(), warn_on_full_buffer=False)
        try:
            yield reading
        finally:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)


def reply(channel: socket.socket, **message: Any) -> None:
    channel.send(json.dumps(message).encode())


def reap(children: Mapping[int, int]) -> list[tuple[int, int]]:
    """The children that have ended, each with its exit code."""
    waited = [os.waitpid(pid, os.WNOHANG) for pid in children]
    return [(pid, os.waitstatus_to_exitcode(status)) for pid, status in waited if pid]


def fork(channel: socket.socket, request: Request) -> int | None:
    """Fork a child with a process group of its own; returns 0 in the child, None, which is reported, if it failed."""
    sys.stdout.flush()
    sys.stderr.flush()
    try:
        pid = os.fork()
    except OSError as error:
        reply(channel, id=request.id, refused=str(error))
        return None
    with contextlib.suppress(OSError):  # on both sides, so that there is a group whoever comes first
        os.setpgid(pid, pid)
    return pid


def take_over(reading: int, log: int, folder: int) -> None:
    """Lead a group of its own, and make these descriptors the standard streams and the current folder."""
    os.setpgid(0, 0)
    for descriptor, standard in ((reading, 0), (log, 1), (log, 2)):
        os.dup2(descriptor, standard)
    os.fchdir(folder)


def close_inherited() -> None:
    """Close every descriptor but the standard streams."""
    for name in os.listdir("/proc/self/fd"):  # noqa: PTH208  a path each would be built for nothing
        if int(name) > 2:
            with contextlib.suppress(OSError):  # the one that lists them
                os.close(int(name))


def perform(request: Request, began: float) -> int:
    """Do what was requested as a new process would: with its environment, its threads and generators of its own."""
    close_inherited()
    for name, value in request.environment.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
    if request.threads != 1:
        from threadpoolctl import threadpool_limits

        # What was loaded was loaded for one thread. Linear algebra never takes more than there are processors.
        threadpool_limits({"openmp": request.threads, "blas": min(request.threads, usable_cores())})
    reseed()
    gc.enable()
    module = importlib.import_module(request.module)
    sys.argv = [str(module.__file__), *request.arguments]
    return int(module.main(list(request.arguments), began))


def reseed() -> None:
    """Seed the generators of what was imported: siblings would draw the same."""
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed()
    if "torch" in sys.modules:
        sys.modules["torch"].default_generator.seed()


def leave(code: int) -> None:
    """End a child as the interpreter does, but for taking its objects apart, which takes tenths of a second.

    Threads are waited for, what was registered for the end is called, and output is written. What raised an error
    never comes here, and ends in the ordinary way.
    """
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def end_group_of(pid: int) -> None:
    """End a child and all that it started at once."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), sys.argv[2:]))
