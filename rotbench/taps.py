"""Convolutions of maps so small that most of what they multiply is padding.

An image of 32 x 32 pixels has shrunk to 2 x 2 in ResNet's layer3 and to a single position in layer4. A 3x3 kernel at a
single position has one tap on the map and eight on zeros; on a 2 x 2 map each output sees 4 of 9 taps. What remains is
small enough to be one matrix product: every output position is a linear function of every input position,

    y[p] = sum over q of W[p, q] x[q],    W[p, q] = the tap that lies on q when the kernel stands at p,

which is the same sum with the zeros left out. In exact arithmetic outputs and gradients are those of
:class:`torch.nn.Conv2d`; in floating point they differ in the last bits, since the order of the sum is another.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Taps:
    """Which tap of a kernel lies on which position, for one size of map.

    ``inputs``: the positions (row, column) that any output sees. ``outputs``: height and width of the output map.
    ``blocks``: (output, input, tap row, tap column) of each product that is not with padding, positions as numbers.
    ``dead``: whether some tap meets nothing but padding.
    """

    inputs: tuple[tuple[int, int], ...]
    outputs: tuple[int, int]
    blocks: tuple[tuple[int, int, int, int], ...]
    dead: bool


@functools.cache
def live_taps(
    size: tuple[int, int],
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int],
) -> Taps:
    """The taps that lie on a map of ``size``; all arguments are (height, width). No outputs where it does not fit."""
    along = [
        [
            (out, tap * apart + out * step - pad, tap)
            for out in range(max(0, (length + 2 * pad - apart * (taps - 1) - 1) // step + 1))
            for tap in range(taps)
            if 0 <= tap * apart + out * step - pad < length
        ]
        for length, taps, step, pad, apart in zip(size, kernel, stride, padding, dilation, strict=True)
    ]
    outputs = cast(
        tuple[int, int],
        tuple(
            max(0, (length + 2 * pad - apart * (taps - 1) - 1) // step + 1)
            for length, taps, step, pad, apart in zip(size, kernel, stride, padding, dilation, strict=True)
        ),
    )
    pairs = [(row, column) for row in along[0] for column in along[1]]
    inputs = tuple(sorted({(row[1], column[1]) for row, column in pairs}))
    number = {position: index for index, position in enumerate(inputs)}
    blocks = tuple(
        (row[0] * outputs[1] + column[0], number[row[1], column[1]], row[2], column[2]) for row, column in pairs
    )
    live = {(row, column) for _, _, row, column in blocks}
    return Taps(inputs, outputs, blocks, dead=len(live) < kernel[0] * kernel[1])


class LiveConv2d(nn.Conv2d):
    """A convolution that leaves out products with padding where that is a matrix with fewer products.

    Parameters, their names and their gradients are those of :class:`torch.nn.Conv2d`: a tap that meets padding alone
    has a gradient of zero and decays like any other weight. Groups and padding other than zeros are left to it.
    """

    def forward(self, maps: Tensor) -> Tensor:
        """(M, in_channels, h, w) to (M, out_channels, h', w'), in the dtype of an active autocast."""
        taps = self._taps(maps)
        if taps is None:
            return super().forward(maps)
        kind = maps.device.type
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else maps.dtype
        with torch.autocast(kind, enabled=False):
            output = cast(Tensor, _MapProduct.apply(maps.to(dtype), self.weight, taps))
            return output if self.bias is None else output + self.bias.to(dtype).view(1, -1, 1, 1)

    def _taps(self, maps: Tensor) -> Taps | None:
        """The taps to compute with, or None where the ordinary convolution does no more than they would."""
        if self.groups != 1 or self.padding_mode != "zeros" or isinstance(self.padding, str) or maps.ndim != 4:
            return None
        kernel = self.kernel_size
        # Cheap to tell for the large maps, which are most: what is not smaller than the kernel is dense already.
        if maps.shape[2] * maps.shape[3] > 4 * kernel[0] * kernel[1]:
            return None
        size = (maps.shape[2], maps.shape[3])
        taps = live_taps(size, kernel, self.stride, cast(tuple[int, int], self.padding), self.dilation)
        positions = taps.outputs[0] * taps.outputs[1]
        worth = positions == 1 or len(taps.inputs) < kernel[0] * kernel[1]
        return taps if worth and positions and taps.inputs else None


class _MapProduct(torch.autograd.Function):
    """The product of a whole map with the matrix that its kernel comes to, and its gradients."""

    @staticmethod
    def forward(ctx: Any, maps: Tensor, weight: Tensor, taps: Taps) -> Tensor:
        """(M, I, h, w) with a kernel (O, I, kh, kw) to (M, O, h', w'), channels last in memory."""
        rows = _rows(maps, taps)
        matrix = _matrix(weight, taps, maps.dtype)
        ctx.save_for_backward(rows, matrix)
        ctx.taps, ctx.weight, ctx.shape = taps, weight.detach(), maps.shape
        height, width = taps.outputs
        return (rows @ matrix.t()).view(len(rows), height, width, -1).permute(0, 3, 1, 2)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        rows, matrix = ctx.saved_tensors
        taps: Taps = ctx.taps
        gradient = gradients[0].permute(0, 2, 3, 1).reshape(len(rows), -1)  # (M, outputs x O)
        of_maps = of_weight = None
        if ctx.needs_input_grad[0]:
            of_maps = _maps(gradient @ matrix, taps, ctx.shape)
        if ctx.needs_input_grad[1]:
            of_weight = _kernel(gradient.t() @ rows, taps, ctx.weight)
        return of_maps, of_weight, None


def _rows(maps: Tensor, taps: Taps) -> Tensor:
    """The positions that count, one after the other: (M, I, h, w) to (M, inputs x I)."""
    count, height, width = maps.shape[0], *maps.shape[2:]
    last = maps.permute(0, 2, 3, 1)
    if len(taps.inputs) == height * width:
        return last.reshape(count, -1)
    return torch.cat([last[:, row, column] for row, column in taps.inputs], dim=1)


def _maps(rows: Tensor, taps: Taps, shape: torch.Size) -> Tensor:
    """The reverse of ``_rows``; positions that nothing sees get zeros."""
    count, channels, height, width = shape
    if len(taps.inputs) == height * width:
        return rows.view(count, height, width, channels).permute(0, 3, 1, 2)
    last = rows.new_zeros(count, height, width, channels)
    for (row, column), block in zip(taps.inputs, torch.split(rows, channels, dim=1), strict=True):
        last[:, row, column] = block
    return last.permute(0, 3, 1, 2)


def _matrix(weight: Tensor, taps: Taps, dtype: torch.dtype) -> Tensor:
    """(O, I, kh, kw) to (outputs x O, inputs x I)."""
    outputs, inputs = taps.outputs[0] * taps.outputs[1], len(taps.inputs)
    make = torch.empty if len(taps.blocks) == outputs * inputs else torch.zeros
    matrix = make(outputs, weight.shape[0], inputs, weight.shape[1], dtype=dtype, device=weight.device)
    for place, seen, row, column in taps.blocks:
        matrix[place, :, seen] = weight[:, :, row, column]
    return matrix.view(outputs * weight.shape[0], inputs * weight.shape[1])


def _kernel(matrix: Tensor, taps: Taps, weight: Tensor) -> Tensor:
    """The reverse of ``_matrix``: each tap is the sum of the blocks that it gave, taken in the weight's precision."""
    outputs, inputs = taps.outputs[0] * taps.outputs[1], len(taps.inputs)
    blocks = matrix.view(outputs, weight.shape[0], inputs, weight.shape[1]).to(weight.dtype)
    kernel = torch.zeros_like(weight) if taps.dead else torch.empty_like(weight)
    begun: set[tuple[int, int]] = set()
    for place, seen, row, column in taps.blocks:
        if (row, column) in begun:
            kernel[:, :, row, column] += blocks[place, :, seen]
        else:
            kernel[:, :, row, column] = blocks[place, :, seen]
            begun.add((row, column))
    return kernel


def skip_padding(modules: Iterable[nn.Module]) -> None:
    """Make every plain convolution among ``modules`` leave out products with padding; parameters stay as they are."""
    for module in modules:
        if type(module) is nn.Conv2d:
            module.__class__ = LiveConv2d


def keep_padding(modules: Iterable[nn.Module]) -> None:
    """Undo :func:`skip_padding`."""
    for module in modules:
        if type(module) is LiveConv2d:
            module.__class__ = nn.Conv2d  # type: ignore[assignment]
