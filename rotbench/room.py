"""Which runs fit side by side: room is counted in threads, since a pretext run may have more than the others.

There is room for so many runs as ``jobs`` says, each of the threads that the study gives a run. A pretext run with more
takes the place of several; one that is too large for all of it runs alone.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass

from rotbench.plan import Run

#: What can start is started in this order: others wait for pretext runs, and probes are short.
ORDER = ("pretext", "downstream", "probe")


class Ready:
    """Runs that can start, in the order of :data:`ORDER` and, of one kind, of their place."""

    def __init__(self) -> None:
        self.pretexts: list[tuple[tuple[int, int], Run]] = []  # heaps
        self.others: list[tuple[tuple[int, int], Run]] = []

    def __bool__(self) -> bool:
        return bool(self.pretexts or self.others)

    def add(self, run: Run, place: int) -> None:
        """Add a run; no two may have one place."""
        queue = self.pretexts if run.kind == "pretext" else self.others
        heapq.heappush(queue, ((ORDER.index(run.kind), place), run))


@dataclass
class Room:
    """The room of ``jobs`` runs of ``threads`` each, and how much of it is taken.

    ``runs`` are being trained, on ``taken`` threads; ``others`` are the threads of those that are no pretext runs.
    """

    jobs: int
    threads: int
    runs: int = 0
    taken: int = 0
    others: int = 0

    def enter(self, run: Run) -> None:
        """Count a run that is being trained."""
        self._count(run, 1)

    def leave(self, run: Run) -> None:
        """Count it no more."""
        self._count(run, -1)

    def admit(self, ready: Ready) -> Iterator[Run]:
        """Take out of ``ready`` and count the runs that start now, in their order.

        A pretext run that does not fit yet keeps other pretext runs waiting. What comes after pretext runs has only
        the threads that it leaves free, so that it need not wait for ever.
        """
        ahead: Run | None = None
        for queue in (ready.pretexts, ready.others):
            while queue and self._fits(queue[0][1], ahead):
                _, run = heapq.heappop(queue)
                self.enter(run)
                yield run
            ahead = queue[0][1] if queue else None

    def _fits(self, run: Run, ahead: Run | None) -> bool:
        if not self.runs:
            return self.jobs > 0
        all_threads = self.jobs * self.threads
        if self.runs >= self.jobs or self.taken + threads_of(run) > all_threads:
            return False
        return ahead is None or self.others + threads_of(run) <= all_threads - threads_of(ahead)

    def _count(self, run: Run, sign: int) -> None:
        self.runs += sign
        self.taken += sign * threads_of(run)
        self.others += sign * threads_of(run) * (run.kind != "pretext")


def threads_of(run: Run) -> int:
    """The threads that a run computes with."""
    return int(run.settings["threads"])
