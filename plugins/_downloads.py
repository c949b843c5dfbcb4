"""Data files with known checksums: which are missing, and their download, by one process at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from rotbench.errors import EnvironmentLacking


def or_other_folder(todo: str) -> str:
    """Complete the advice on missing files with the way to name another folder."""
    return f"{todo}; or name another folder with --data-dir or ROTBENCH_DATA"


def check_complete(name: str, root: Path, files: Mapping[str, str], todo: str) -> None:
    """Raise ``EnvironmentLacking`` unless all ``files`` (relative path to md5) are below ``root``."""
    missing = _missing(name, root, files)
    if missing:
        raise EnvironmentLacking(f"{name} is not in {root}: {missing[0]} is missing", todo)


def download_missing(
    name: str, root: Path, files: Mapping[str, str], download: Callable[[Path], None], todo: str
) -> None:
    """Make sure that all ``files`` (relative path to md5) are below ``root``; download what is missing.

    ``download`` writes all of them into a folder that it is given. Of several processes one downloads and the others
    wait. A file appears under its name only when it is complete.
    """
    import contextlib
    import io
    import tempfile

    from filelock import FileLock

    if not _missing(name, root, files):
        return
    created, lock = not root.exists(), root / f".{name}.lock"
    try:
        root.mkdir(parents=True, exist_ok=True)
        with FileLock(lock):
            missing = _missing(name, root, files)
            if not missing:
                return
            with tempfile.TemporaryDirectory(prefix=f".{name}-", dir=root) as folder:
                # torchvision draws progress bars, which are noise in a log
                with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
                    download(Path(folder))
                check_complete(name, Path(folder), files, todo)
                for relative in missing:
                    (root / relative).parent.mkdir(parents=True, exist_ok=True)
                    (Path(folder) / relative).replace(root / relative)
    except (OSError, RuntimeError) as error:
        with contextlib.suppress(OSError):  # leave nothing behind if nothing was downloaded
            lock.unlink()
            if created:
                root.rmdir()
        reason = str(getattr(error, "reason", error)).split("\n")[0]
        raise EnvironmentLacking(f"{name} is not in {root} and could not be downloaded ({reason})", todo) from error


def _missing(name: str, root: Path, files: Mapping[str, str]) -> list[str]:
    """The ``files`` that are not below ``root``. Raises ``EnvironmentLacking`` for a damaged file."""
    import hashlib

    missing = []
    for relative, md5 in files.items():
        path = root / relative
        if not path.is_file():
            missing.append(relative)
            continue
        with path.open("rb") as file:
            found = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
        if found != md5:
            raise EnvironmentLacking(
                f"{name}: {path} is damaged: its md5 is {found} instead of {md5}",
                "delete the file and run again to download it",
            )
    return missing
