"""``python -m rotbench``, for a clone that is not installed."""

from rotbench.cli import main

main()
