"""ImageNet weights from torchvision."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from rotbench import hookimpl
from rotbench.errors import EnvironmentLacking

from ._weights import apply_weights, read_weights, reason_of

if TYPE_CHECKING:
    from torch import nn

    from rotbench.hookspecs import InitContext


@dataclass(frozen=True)
class ImageNet:
    """Supervised ImageNet weights from torchvision."""

    name: ClassVar[str] = "imagenet"
    cite: ClassVar[str] = (
        "@article{russakovsky2015imagenet, title = {{ImageNet} Large Scale Visual Recognition Challenge}, author = "
        "{Russakovsky, Olga and Deng, Jia and Su, Hao and Krause, Jonathan and Satheesh, Sanjeev and Ma, Sean and "
        "Huang, Zhiheng and Karpathy, Andrej and Khosla, Aditya and Bernstein, Michael and Berg, Alexander C. and "
        "Fei-Fei, Li}, journal = {International Journal of Computer Vision}, volume = {115}, number = {3}, pages = "
        "{211--252}, year = {2015}}"
    )

    #: A member of torchvision's weights enum of the model, such as "IMAGENET1K_V1".
    weights: str = "DEFAULT"

    def problem(self, *, stem: str) -> str | None:
        """Refuse other stems: the weights have a 7 x 7 first convolution."""
        if stem != "imagenet":
            return f'ImageNet weights need the stem "imagenet"; they do not fit the stem "{stem}"'
        return None

    def prepare(self, folder: Path, *, model_name: str, stem: str) -> None:
        """Download the weights unless torch has them; ``EnvironmentLacking`` if that fails or they are damaged."""
        url, file = self._source(model_name, stem)
        digits = file.stem.rpartition("-")[2]  # the name ends with the first digits of the content's sha256
        if file.exists():
            _check_sha256(file, digits)
        else:
            _download(url, file, digits)

    def apply(self, model: nn.Module, context: InitContext) -> Collection[str]:
        """Copy and claim every tensor of the file except those of ``fc``, which are noted as unexpected."""
        self.prepare(context.folder, model_name=context.model_name, stem=context.stem)
        _, file = self._source(context.model_name, context.stem)
        return apply_weights(model, read_weights(file), context)

    def _source(self, model_name: str, stem: str) -> tuple[str, Path]:
        import torch
        import torchvision

        if problem := self.problem(stem=stem):
            raise ValueError(problem)
        members = torchvision.models.get_model_weights(model_name).__members__
        if self.weights not in members:
            names = ", ".join(members)
            raise ValueError(f'torchvision has no weights "{self.weights}" for {model_name}; it has {names}')
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
        # torch downloads to a temporary file, checks the digits and renames it.
        torch.hub.download_url_to_file(url, str(file), hash_prefix=digits, progress=False)
    except (OSError, RuntimeError) as error:
        raise EnvironmentLacking(
            f"{file.name} is not in {file.parent} and could not be downloaded ({reason_of(error)})",
            f"download {url} into that folder, or set TORCH_HOME to the folder that has it",
        ) from error


@hookimpl
def register_inits() -> list[type]:
    return [ImageNet]
