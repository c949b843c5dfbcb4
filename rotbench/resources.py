"""Where the files that ship with rotbench lie: inside the wheel, or beside the package in a checkout."""

from __future__ import annotations

from pathlib import Path

PACKAGE = Path(__file__).resolve().parent


def _folder(name: str) -> Path:
    # A wheel carries plugins/, templates/ and studies/ inside the package, under names of their own, so that no
    # import package called "plugins" or "templates" is ever installed.
    packaged = PACKAGE / f"_{name}"
    return packaged if packaged.is_dir() else PACKAGE.parent / name


def plugins_folder() -> Path:
    """The plugin files that ship."""
    return _folder("plugins")


def templates_folder() -> Path:
    """The report's Jinja2 templates, style sheet and script."""
    return _folder("templates")


def studies_folder() -> Path:
    """The studies that ``rotbench new`` writes."""
    return _folder("studies")


def checkout() -> Path | None:
    """The folder of the clone that rotbench runs from, or None where it is installed as a wheel."""
    return PACKAGE.parent if (PACKAGE.parent / "pyproject.toml").is_file() else None
