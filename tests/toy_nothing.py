"""The preparation of the toy worker, which needs nothing."""
