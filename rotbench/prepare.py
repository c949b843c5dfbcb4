"""What must be there before anything is trained: ``python -m rotbench.prepare FOLDER``.

A process of its own, so that the driver stays free of torch. It reads ``request.json`` in FOLDER, lets data set and
inits fetch or check what they need, and resolves device and precisions, which it writes to ``resolved.json``. Where
something is lacking it writes ``error.json`` and ends with the exit code of the error.
"""

from __future__ import annotations

import json
import sys
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rotbench.errors import BadInput, EnvironmentLacking, RotbenchError
from rotbench.hookspecs import keywords
from rotbench.registry import PluginReference, load_plugin
from rotbench.store import leave_error, to_json
from rotbench.system import end_with_parent, free_bytes, write_durably

#: What "auto" comes to on this machine, for a cluster to see whether all its nodes would do the same.
RESOLVED = "resolved.json"

#: Images are laid out for the workers where so many times their size is free.
ROOM = 4


def main(arguments: list[str], began: float = 0.0) -> int:
    """Prepare; see the module's docstring for the exit code. When the process ``began`` is noted nowhere."""
    folder = Path(arguments[0])
    end_with_parent()
    try:
        prepare(json.loads((folder / "request.json").read_bytes()), folder)
    except RotbenchError as error:
        return leave_error(folder, error)
    return 0


def prepare(request: Mapping[str, Any], folder: Path) -> None:
    """Prepare what a request asks for, and lay out its data sets in ``folder`` unless another machine does.

    Raises :class:`~rotbench.errors.EnvironmentLacking` for the first thing that is lacking."""
    for entry in request["plugins"]:
        plugin = load_plugin(PluginReference(**entry["reference"]))
        options = {name: value for name, value in entry["settings"].items() if name != "name"}
        instance = plugin(
            **{name: tuple(value) if isinstance(value, list) else value for name, value in options.items()}
        )
        method = getattr(instance, "prepare", None)
        is_dataset = entry["reference"]["kind"] == "dataset"
        try:
            if method is not None and is_dataset:
                method(Path(request["root"]))
            elif method is not None:
                method(Path(request["folder"]), **keywords(method, model_name=entry["model_name"], stem=entry["stem"]))
        except ValueError as error:
            raise BadInput(f"{instance.name}: {error}", "Mend the study file and run the command again.") from None
        if is_dataset and request.get("lay_out", True):
            _lay_out(instance, entry, request["root"], folder)
    try:
        from rotbench.device import choose_device, choose_precision

        device = choose_device(request["device"])
        chosen = {precision: choose_precision(precision, device) for precision in request["precisions"]}
    except ValueError as error:
        raise EnvironmentLacking(str(error), "Give another --device or precision.") from None
    write_durably(folder / RESOLVED, to_json({"device": device.partition(":")[0], "precisions": chosen}))


def _lay_out(dataset: Any, entry: Mapping[str, Any], root: str, folder: Path) -> None:
    """Lay a data set out for the workers; where that fails each worker loads it, and tells what is wrong as its own."""
    from rotbench.mapped import count, lay_out, layout_name, map_images

    name = layout_name(entry["reference"], entry["settings"], root, entry["fingerprint"])
    try:
        if map_images(folder, name) is None:
            counted = count(dataset.load(Path(root), "train"), dataset.load(Path(root), "test"))
            # Results need the disk more than this does.
            if free_bytes(folder) > ROOM * (counted.training.pixels.nbytes + counted.test.pixels.nbytes):
                lay_out(folder, name, counted)
    except Exception:  # a plugin may raise anything, and the disk may be full
        traceback.print_exc()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
