"""The order in which modules of tests are given to workers."""

from __future__ import annotations

import pytest

#: Modules that train or install take minutes each, so they come first: one that came last would run alone.
LONGEST_FIRST = (
    "test_packaging",
    "test_faults",
    "test_end_to_end",
    "test_mistakes",
    "test_resume",
    "test_example",
    "test_cli",
    "test_browser",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    order = {name: place for place, name in enumerate(LONGEST_FIRST)}
    items.sort(key=lambda item: order.get(item.path.stem, len(order)))
