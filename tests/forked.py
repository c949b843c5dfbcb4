"""What children of the worker server do in its tests: ``main`` as a worker has it, or a process of its own."""

from __future__ import annotations

import atexit
import json
import os
import random
import resource
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from rotbench.system import end_with_parent


def main(arguments: list[str], began: float) -> int:
    """Do what the first argument says."""
    what, *more = arguments
    end_with_parent()
    if what == "exit":
        atexit.register(print, "the end")
        threading.Thread(target=late).start()
        return int(more[0])
    if what == "signal":
        os.kill(os.getpid(), int(more[0]))
    if what == "raise":
        raise ValueError("it was to raise")
    if what == "leave":
        sys.exit("left with words")
    if what == "print":
        for _ in range(int(more[0])):
            print("x" * 99_999)
    if what == "stay":
        stay(*more)
    if what == "describe":
        print(json.dumps(described(began)))
    return 0


def late() -> None:
    time.sleep(0.2)
    print("late")


def stay(stubborn: str = "") -> None:
    """Stay for a minute with a process below this one; a stubborn one is not ended by SIGTERM."""
    if stubborn:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    below = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    print(below.pid, "up", flush=True)
    time.sleep(60)


def opened() -> list[int]:
    """The descriptors that are open."""
    found = sorted(int(path.name) for path in Path("/proc/self/fd").iterdir())
    return found[:-1]  # the last lists them


def described(began: float) -> dict[str, Any]:
    """What this process is like."""
    import numpy as np
    import torch
    from threadpoolctl import threadpool_info

    import rotbench.attempt  # which sets variables in the environment
    import rotbench.probe  # noqa: F401

    threads = int(Path("/proc/self/status").read_text().split("Threads:")[1].split()[0])
    return {
        "pid": os.getpid(),
        "group": os.getpgid(0),
        "threads": threads - 1,  # that which watches the parent
        "open": opened(),
        "streams": [str(Path(f"/proc/self/fd/{number}").readlink()).partition(":")[0] for number in range(3)],
        "folder": str(Path.cwd()),
        "arguments": sys.argv[1:],
        "environment": dict(os.environ),
        "signals": [str(signal.getsignal(name)) for name in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT)],
        "wakeup": signal.set_wakeup_fd(-1),
        "pools": sorted((str(pool["prefix"]), int(pool["num_threads"])) for pool in threadpool_info()),
        "draws": [random.random(), float(np.random.random()), float(torch.rand(()))],
        "age": time.monotonic() - began,
        "limit": resource.getrlimit(resource.RLIMIT_CORE),
        "import path": "" in sys.path or str(Path.cwd()) in sys.path,
        "uncaught": sys.excepthook is sys.__excepthook__,
    }


if __name__ == "__main__":
    BEGAN = time.monotonic()
    sys.exit(main(sys.argv[1:], BEGAN))
