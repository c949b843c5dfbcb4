"""What all tests share: one thread per process, and which tests begin."""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, settings

# Tests run side by side, and two threads that fight over a core lose tenfold. Libraries read this when they are loaded;
# the workers that rotbench starts get the number of their study.
os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")

#: Modules whose tests take longest come first: one that came last would run alone.
LONGEST_FIRST = (
    "test_ray",
    "test_packaging",
    "test_faults",
    "test_slurm",
    "test_example",
    "test_browser",
)


#: How many inputs hypothesis makes for a test.
EXAMPLES = {"quick": 25, "thorough": 150}

for name, examples in EXAMPLES.items():
    settings.register_profile(
        name,
        max_examples=examples,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=[HealthCheck.too_slow],
    )


def pytest_configure(config: pytest.Config) -> None:
    settings.load_profile("quick" if config.option.markexpr == "not thorough" else "thorough")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    order = {name: place for place, name in enumerate(LONGEST_FIRST)}
    items.sort(key=lambda item: order.get(item.path.stem, len(order)))


@pytest.fixture
def undrawn(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave figures out of pages and exports, which take most of the time to make; but for tests marked ``drawn``."""
    if "drawn" not in request.keywords:
        for module in ("report", "export"):
            monkeypatch.setattr(f"rotbench.{module}.drawings", lambda *_: {})
