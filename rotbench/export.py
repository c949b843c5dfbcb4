"""What a paper takes from a study: tables, figures, the methods in prose and the bibliography, as files.

The same results give the same bytes. A folder that holds other files is left as it is: what export writes is listed
with its hash in ``export.json``, and nothing else is ever written over.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rotbench import compare
from rotbench.bibliography import Bibliography
from rotbench.canvas import pdf_file, svg_file
from rotbench.compare import Results
from rotbench.drawings import drawings
from rotbench.embedded import tidied
from rotbench.errors import BadInput
from rotbench.manuscript import comma_separated, latex, markdown, paper_tables, probe_table
from rotbench.methods import methods
from rotbench.probes import probe_rows
from rotbench.store import to_json
from rotbench.system import lacking, write_durably
from rotbench.tables import final_rows
from rotbench.wording import variant_labels, varying

LIST = "export.json"


def exported(results: Results) -> dict[str, bytes]:
    """Every file of an export by its path within the folder."""
    results = tidied(results)
    summaries, contrasts = compare.variants(results), compare.contrasts(results)
    variants = [summary.variant for summary in summaries]
    labels, axes = variant_labels(variants), varying(variants)
    files: dict[str, bytes] = {}
    probed = probe_table(probe_rows(results))
    tables = paper_tables(axes, final_rows(results, summaries, contrasts, labels), contrasts, labels)
    for table in (*tables, *([probed] if probed.columns else [])):
        files[f"{table.name}.md"] = markdown(table).encode()
        files[f"{table.name}.tex"] = latex(table).encode()
        if table.exact:
            files[f"{table.name}.csv"] = comma_separated(table).encode()
    for name, drawing in drawings(results, summaries, contrasts, labels).items():
        files[f"figures/{name}.svg"] = svg_file(drawing)
        files[f"figures/{name}.pdf"] = pdf_file(drawing)
    bibliography = Bibliography()
    files["methods.md"] = methods(results, summaries, contrasts, bibliography).encode()
    files["references.bib"] = bibliography.text().encode()
    return files


def write_export(files: Mapping[str, bytes], folder: Path) -> None:
    """Write an export into ``folder``, over an earlier one; what an earlier one had more is removed.

    Raises :class:`~rotbench.errors.BadInput` where that would write over a file that export did not write, or that was
    changed since; then nothing is written.
    """
    if (folder / "study.json").exists():
        raise BadInput(f"{folder} is a results folder", "Give another folder with --to.")
    if folder.exists() and not folder.is_dir():
        raise BadInput(f"{folder} is not a folder", "Give another folder with --to.")
    listed = _listed(folder)
    for name in {**files, **listed}:
        path = folder / name
        if not (path.exists() or path.is_symlink()):
            continue
        known = {listed.get(name), _hash(files[name]) if name in files else None}
        if not path.is_file() or _hash(path.read_bytes()) not in known:
            what = "was changed after export wrote it" if name in listed else "was not written by export"
            raise BadInput(f"{path} {what}", "Move it away, or give another folder with --to.")
    with lacking(folder):
        for parent in {folder, *((folder / name).parent for name in files)}:
            parent.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        write_durably(folder / name, content)
    for name in listed.keys() - files.keys():
        (folder / name).unlink(missing_ok=True)
    # Written last: after a crash what was written is known by its content, the rest by the list before.
    write_durably(folder / LIST, to_json({"files": {name: _hash(files[name]) for name in sorted(files)}}))


def _listed(folder: Path) -> dict[str, str]:
    """The files of an earlier export with their hashes. Raises where its list was not written by export."""
    path = folder / LIST
    try:
        told: Any = json.loads(path.read_bytes())["files"]
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        told = None
    if not isinstance(told, dict) or not all(_is_inside(name) and isinstance(told[name], str) for name in told):
        raise BadInput(f"{path} was not written by export", "Move it away, or give another folder with --to.")
    return told


def _is_inside(name: str) -> bool:
    """Whether a listed name is one that export gives: in the folder or its figures, and nowhere else."""
    parts = Path(name).parts
    return len(parts) == 1 or (len(parts) == 2 and parts[0] == "figures") if ".." not in parts else False


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
