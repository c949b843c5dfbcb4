"""What all tests share: one thread per process, and which tests begin."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from rotbench.system import python_environment, usable_cores

# Tests run side by side, and two threads that fight over a core lose tenfold; and memory is kept as workers keep it.
# Libraries read this when they are loaded, in the processes that pytest-xdist starts; the workers that rotbench starts
# get the number of their study.
KEPT = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MALLOC_MMAP_THRESHOLD_",
    "MALLOC_TRIM_THRESHOLD_",
)
os.environ |= {name: value for name, value in python_environment(threads=1).items() if name in KEPT}

#: Modules whose tests take longest come first: the last one to be begun would run alone. Those that wait for others
#: alternate with those that compute.
LONGEST_FIRST = (
    "test_ray",
    "test_packaging",
    "test_train",
    "test_faults",
    "test_conformance",
    "test_browser",
    "test_testing",
    "test_worker_server",
    "test_probe",
    "test_slurm",
    "test_resume",
    "test_end_to_end",
    "test_drawings",
    "test_manual",
    "test_example",
    "test_cli",
    "test_comparison",
    "test_driver",
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


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """One more test process than processors: many tests wait for something."""
    return usable_cores() + 1


def pytest_configure(config: pytest.Config) -> None:
    settings.load_profile("quick" if config.option.markexpr == "not thorough" else "thorough")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    order = {name: place for place, name in enumerate(LONGEST_FIRST)}
    items.sort(key=lambda item: order.get(item.path.stem, len(order)))


def leave_figures_out(patch: pytest.MonkeyPatch) -> None:
    """Draw no figures in pages and exports: they take most of the time."""
    for module in ("report", "export"):
        patch.setattr(f"rotbench.{module}.drawings", lambda *_: {})


@pytest.fixture(scope="module")
def none_drawn() -> Iterator[None]:
    """Draw no figures in a whole module: for modules that look at runs, not at pages."""
    with pytest.MonkeyPatch.context() as patch:
        leave_figures_out(patch)
        yield


@pytest.fixture
def undrawn(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw no figures, except in tests marked ``drawn``."""
    if "drawn" not in request.keywords:
        leave_figures_out(monkeypatch)
