"""Weights from files, which must fit the backbone tensor by tensor."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor, nn

    from rotbench.hookspecs import InitContext


def read_weights(file: Path) -> dict[str, Tensor]:
    """Read the tensors of a file by their names in a ResNet; raise ``ValueError`` if it contains something else."""
    import torch

    try:
        if file.suffix == ".safetensors":
            from safetensors.torch import load_file

            content: Any = load_file(file)
        else:
            content = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # the readers raise whatever their parsers raise for a file of another kind
        raise ValueError(f"{file.name} cannot be read as weights: {reason_of(error)}") from error
    return _resnet_names(_unwrapped(content, file.name), file.name)


def apply_weights(model: nn.Module, weights: Mapping[str, Tensor], context: InitContext) -> Collection[str]:
    """Load all tensors except those of ``fc``; return the names of what was loaded from ``weights``."""
    from rotbench.models import backbone_state, load_backbone

    context.unexpected.update(name for name in weights if name.startswith("fc."))
    claimed = {name: tensor for name, tensor in weights.items() if not name.startswith("fc.")}
    # Older files lack BatchNorm's batch counter, which torchvision's BatchNorm never uses: it stays as it is. Any other
    # missing tensor is an error: a network that silently kept random weights would count as a pretrained one.
    counters = {n: t for n, t in backbone_state(model).items() if n.endswith("num_batches_tracked")}
    load_backbone(model, {**counters, **claimed})
    return tuple(claimed)


def reason_of(error: Exception) -> str:
    """The first line of an error's message, or the name of its class."""
    return str(getattr(error, "reason", error)).split("\n")[0] or type(error).__name__


def _unwrapped(content: Any, source: str) -> Mapping[str, Tensor]:
    """The state dict inside the tables that training programs commonly save around it."""
    import torch

    for key in ("state_dict", "model"):
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not isinstance(content, Mapping) or not all(isinstance(value, torch.Tensor) for value in content.values()):
        raise ValueError(f"{source} contains no state dict, a table of tensors by name")
    return content


def _resnet_names(state: Mapping[str, Tensor], source: str) -> dict[str, Tensor]:
    """Tensors by name without the prefixes of wrappers (DataParallel's ``module.``, a network's ``backbone.``)."""
    named: dict[str, Tensor] = {}
    for name, tensor in state.items():
        short = name.removeprefix("module.").removeprefix("backbone.")
        if short in named:
            raise ValueError(f"{source} contains two tensors for {short}")
        named[short] = tensor
    return named
