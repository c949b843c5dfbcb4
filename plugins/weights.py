"""Inits whose weights come from elsewhere: a file, or torchvision.

They must fit the network tensor by tensor: one that kept part of its random weights without a word would pass for a
pretrained one.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from rotbench import hookimpl
from rotbench.errors import EnvironmentLacking

if TYPE_CHECKING:
    from torch import Tensor, nn

    from rotbench.hookspecs import InitContext


@dataclass(frozen=True)
class Checkpoint:
    """Weights from a file, safetensors or PyTorch's own format, that fit the backbone tensor by tensor."""

    name: ClassVar[str] = "checkpoint"

    #: Relative to the folder of the study file.
    path: str

    def fingerprint(self, folder: Path) -> str:
        """sha256 of the file: other weights under the same name are another run."""
        import hashlib

        self.prepare(folder)
        with (folder / self.path).open("rb") as opened:
            return hashlib.file_digest(opened, "sha256").hexdigest()

    def prepare(self, folder: Path) -> None:
        """Raises ``EnvironmentLacking`` where there is no such file."""
        if not (folder / self.path).is_file():
            raise EnvironmentLacking(
                f"the weights {self.path} are missing",
                f'put the file there, or mend "path" of the init; relative paths start at {folder}',
            )

    def apply(self, model: nn.Module, context: InitContext) -> Collection[str]:
        """Copies and claims every tensor of the file but those of ``fc``, which are noted as unexpected."""
        self.prepare(context.folder)
        return _apply_weights(model, _read_weights(context.folder / self.path), context)


@dataclass(frozen=True)
class ImageNet:
    """Weights of torchvision, trained on ImageNet with labels."""

    name: ClassVar[str] = "imagenet"
    cite: ClassVar[str] = (
        "@article{russakovsky2015imagenet, title = {{ImageNet} Large Scale Visual Recognition Challenge}, author = "
        "{Russakovsky, Olga and Deng, Jia and Su, Hao and Krause, Jonathan and Satheesh, Sanjeev and Ma, Sean and "
        "Huang, Zhiheng and Karpathy, Andrej and Khosla, Aditya and Bernstein, Michael and Berg, Alexander C. and "
        "Fei-Fei, Li}, journal = {International Journal of Computer Vision}, volume = {115}, number = {3}, pages = "
        "{211--252}, year = {2015}}"
    )

    #: A member of torchvision's list for the model, such as "IMAGENET1K_V1".
    weights: str = "DEFAULT"

    def problem(self, *, stem: str) -> str | None:
        """The weights have a 7 x 7 first convolution, which another stem lacks."""
        if stem != "imagenet":
            return f'weights of ImageNet have the stem "imagenet"; they do not fit the stem "{stem}"'
        return None

    def prepare(self, folder: Path, *, model_name: str, stem: str) -> None:
        """Downloads the weights unless torch has them; ``EnvironmentLacking`` where it cannot, or they are damaged."""
        url, file = self._source(model_name, stem)
        digits = file.stem.rpartition("-")[2]  # the name ends with the first digits of the content's sha256
        if file.exists():
            _check_sha256(file, digits)
        else:
            _download(url, file, digits)

    def apply(self, model: nn.Module, context: InitContext) -> Collection[str]:
        """Copies and claims every tensor of the file but those of ``fc``, which are noted as unexpected."""
        self.prepare(context.folder, model_name=context.model_name, stem=context.stem)
        _, file = self._source(context.model_name, context.stem)
        return _apply_weights(model, _read_weights(file), context)

    def _source(self, model_name: str, stem: str) -> tuple[str, Path]:
        import torch
        import torchvision

        if problem := self.problem(stem=stem):
            raise ValueError(problem)
        members = torchvision.models.get_model_weights(model_name).__members__
        if self.weights not in members:
            names = ", ".join(members)
            raise ValueError(f'torchvision has no weights "{self.weights}" for {model_name}; there are {names}')
        url: str = members[self.weights].url
        return url, Path(torch.hub.get_dir()) / "checkpoints" / url.rpartition("/")[2]


def _check_sha256(file: Path, digits: str) -> None:
    import hashlib

    with file.open("rb") as opened:
        found = hashlib.file_digest(opened, "sha256").hexdigest()
    if not found.startswith(digits):
        raise EnvironmentLacking(
            f"{file} is damaged: its sha256 should begin with {digits}, not {found[: len(digits)]}",
            "delete the file and run again to download it",
        )


def _download(url: str, file: Path, digits: str) -> None:
    import torch

    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        # torch downloads beside the file, checks the digits and renames.
        torch.hub.download_url_to_file(url, str(file), hash_prefix=digits, progress=False)
    except (OSError, RuntimeError) as error:
        raise EnvironmentLacking(
            f"{file.name} is not in {file.parent} and could not be downloaded ({_reason(error)})",
            f"download {url} into that folder, or set TORCH_HOME to where it is",
        ) from error


def _reason(error: Exception) -> str:
    return str(getattr(error, "reason", error)).split("\n")[0] or type(error).__name__


def _read_weights(file: Path) -> dict[str, Tensor]:
    """The tensors of a file by their names in a ResNet; ``ValueError`` where it holds something else."""
    import torch

    try:
        if file.suffix == ".safetensors":
            from safetensors.torch import load_file

            content: Any = load_file(file)
        else:
            content = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # on a file of another kind the readers raise whatever their parsers stumble over
        raise ValueError(f"{file.name} cannot be read as weights: {_reason(error)}") from error
    return _resnet_names(_unwrapped(content, file.name), file.name)


def _unwrapped(content: Any, source: str) -> Mapping[str, Tensor]:
    """The state dict in what training programs commonly save around it."""
    import torch

    for key in ("state_dict", "model"):
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not isinstance(content, Mapping) or not all(isinstance(value, torch.Tensor) for value in content.values()):
        raise ValueError(f"{source} holds no state dict, which is a table of tensors by name")
    return content


def _resnet_names(state: Mapping[str, Tensor], source: str) -> dict[str, Tensor]:
    """Without the prefixes of wrappers (DataParallel's ``module.``, a network's ``backbone.``)."""
    named: dict[str, Tensor] = {}
    for name, tensor in state.items():
        short = name.removeprefix("module.").removeprefix("backbone.")
        if short in named:
            raise ValueError(f"{source} holds two tensors for {short}")
        named[short] = tensor
    return named


def _apply_weights(model: nn.Module, weights: Mapping[str, Tensor], context: InitContext) -> Collection[str]:
    """Load all but ``fc``; returns the names of what came from ``weights``."""
    from rotbench.models import backbone_state, load_backbone

    context.unexpected.update(name for name in weights if name.startswith("fc."))
    claimed = {name: tensor for name, tensor in weights.items() if not name.startswith("fc.")}
    # Older files lack BatchNorm's counter of batches, which torchvision's BatchNorm never uses: it stays as it is.
    counters = {n: t for n, t in backbone_state(model).items() if n.endswith("num_batches_tracked")}
    load_backbone(model, {**counters, **claimed})
    return tuple(claimed)


@hookimpl
def register_inits() -> list[type]:
    return [Checkpoint, ImageNet]
