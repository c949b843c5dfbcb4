"""A rotbench command on another day, under another locale: ``python tests/elsewhere.py DAYS LOCALE ARGUMENTS``."""

from __future__ import annotations

import datetime
import importlib
import locale
import sys
import time
import types
from typing import Any

SECONDS = 86400 * float(sys.argv[1])
now, localtime, gmtime, strftime = time.time, time.localtime, time.gmtime, time.strftime


class Shifted(datetime.datetime):
    """The clock of another day."""

    @classmethod
    def now(cls, tz: Any = None) -> Any:
        return cls.fromtimestamp(time.time(), tz)

    @classmethod
    def today(cls) -> Any:
        return cls.now()


def main() -> None:
    time.time = lambda: now() + SECONDS
    time.localtime = lambda seconds=None: localtime(time.time() if seconds is None else seconds)
    time.gmtime = lambda seconds=None: gmtime(time.time() if seconds is None else seconds)
    time.strftime = lambda words, when=None: strftime(words, time.localtime() if when is None else when)
    # Replaced where drawing looks at the clock, and nowhere else: pydantic's core keeps the class that it finds.
    for name in ("matplotlib.backends.backend_pdf", "matplotlib.backends.backend_svg", "rotbench.export"):
        importlib.import_module(name)
    clock = types.ModuleType("datetime")
    clock.__dict__.update({**vars(datetime), "datetime": Shifted})
    replaced = 0
    for module in list(sys.modules.values()):
        if module.__name__.startswith(("matplotlib", "rotbench")) and "datetime" in vars(module):
            whole = isinstance(vars(module)["datetime"], types.ModuleType)
            vars(module)["datetime"] = clock if whole else Shifted
            replaced += 1
    assert replaced
    if sys.argv[2]:
        locale.setlocale(locale.LC_ALL, sys.argv[2])
        assert locale.localeconv()["decimal_point"] == ","
    from rotbench.cli import main as rotbench

    rotbench(sys.argv[3:])


if __name__ == "__main__":
    main()
