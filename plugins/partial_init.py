"""The lower stages of a pretext run."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from rotbench import hookimpl
from rotbench.hookspecs import STAGES

if TYPE_CHECKING:
    from torch import nn

    from rotbench.hookspecs import InitContext


@dataclass(frozen=True)
class Partial:
    """The lower stages of a pretext run, the rest random: how general is each (Yosinski et al., NeurIPS 2014)."""

    name: ClassVar[str] = "partial"
    exact: ClassVar[bool] = False
    cite: ClassVar[str] = (
        "@inproceedings{yosinski2014transferable, title = {How Transferable Are Features in Deep Neural Networks?}, "
        "author = {Yosinski, Jason and Clune, Jeff and Bengio, Yoshua and Lipson, Hod}, booktitle = {NeurIPS}, year = "
        "{2014}}"
    )

    #: The name of the [pretext.NAME] whose weights are used.
    pretext: str
    #: The last stage that is taken from the pretext run; the stages above it stay random.
    stage: Literal["stem", "layer1", "layer2", "layer3", "layer4"] = "layer3"

    def apply(self, model: nn.Module, context: InitContext) -> Collection[str]:
        """Copy and claim the tensors up to ``stage``; raise ``ValueError`` if one does not fit."""
        from rotbench.models import backbone_state, load_backbone, stage_of

        def lower(name: str) -> bool:
            return STAGES.index(stage_of(name)) <= STAGES.index(self.stage)

        if context.pretext is None:
            raise ValueError(f'the weights of the pretext run "{self.pretext}" are missing')
        chosen = {name: tensor for name, tensor in context.pretext.items() if lower(name)}
        kept = {name: tensor for name, tensor in backbone_state(model).items() if not lower(name)}
        load_backbone(model, {**kept, **chosen})
        return tuple(chosen)


@hookimpl
def register_inits() -> list[type]:
    return [Partial]
