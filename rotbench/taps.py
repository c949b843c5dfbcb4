"""Convolutions of maps so small that much of what they multiply is padding.

An image of 32 x 32 pixels has shrunk to 2 x 2 in ResNet's layer3 and to a single position in layer4. A 3x3 kernel at a
single position has one tap on the map and eight on zeros; at each position of a 2 x 2 map 4 of 9 taps are on it. Where
there are few positions, each is computed as one matrix product of the part of the map that lies under the kernel with
the taps that lie on the map:

    y[p] = sum over the taps t on the map of W[t] x[p + t],

which is the convolution's own sum with the zeros left out. In exact arithmetic outputs and gradients are those of
:class:`torch.nn.Conv2d`; in floating point they differ in the last bits, since the order of the sum is another.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

#: Where there are more output positions the ordinary convolution is as fast: little of it is padding.
MOST_POSITIONS = 4


@dataclass(frozen=True)
class Window:
    """What one output position sees. ``rows``, ``columns``: of the map; ``taps``: of the kernel, rows and columns."""

    rows: slice
    columns: slice
    taps: tuple[slice, slice]

    @property
    def products(self) -> int:
        """How many taps lie on the map."""
        high, wide = self.taps
        return int((high.stop - high.start) * (wide.stop - wide.start))


@dataclass(frozen=True)
class Taps:
    """The windows of a convolution on one size of map: row by row of an output map of ``size``."""

    size: tuple[int, int]
    windows: tuple[Window, ...]


@functools.cache
def live_taps(
    size: tuple[int, int],
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int],
) -> Taps:
    """The taps that lie on a map of ``size``; all arguments are (height, width). No windows where it does not fit."""
    high, wide = (_along(*one) for one in zip(size, kernel, stride, padding, dilation, strict=True))
    windows = tuple(Window(rows, columns, (up, across)) for rows, up in high for columns, across in wide)
    return Taps((len(high), len(wide)), windows)


def _along(length: int, taps: int, stride: int, padding: int, dilation: int) -> list[tuple[slice, slice]]:
    """For each output along one axis: the positions of the map that it sees, and the taps that lie on them."""
    spans = []
    for output in range(max(0, (length + 2 * padding - dilation * (taps - 1) - 1) // stride + 1)):
        begin = output * stride - padding  # where the first tap lies
        first = max(0, -(begin // dilation))  # the first tap that is not before the map
        last = min(taps, -((begin - length) // dilation))  # the first that is behind it
        first = min(first, last)
        start = begin + first * dilation
        spans.append((slice(start, start + (last - first - 1) * dilation + 1, dilation), slice(first, last)))
    return spans


class LiveConv2d(nn.Conv2d):
    """A convolution that leaves out products with padding on maps where that is worth while.

    Parameters, their names and their gradients are those of :class:`torch.nn.Conv2d`: a tap that meets padding alone
    has a gradient of zero and decays like any other weight. Groups and padding other than zeros are left to it.
    """

    #: Whether the maps that came last met a single tap.
    met_one: bool = False

    #: While the kernel is trained tap by tap: the taps, row by row, (O, I) each, in the memory of ``weight``.
    leaves: tuple[nn.Parameter, ...] | None = None

    def forward(self, maps: Tensor) -> Tensor:
        """(M, in_channels, h, w) to (M, out_channels, h', w'), in the dtype of an active autocast."""
        taps = self._taps(maps)
        self.met_one = taps is not None and [window.products for window in taps.windows] == [1]
        weight: Tensor = self.weight
        if self.leaves is not None and taps is not None and self.met_one:
            (window,) = taps.windows
            row, column = (tap.start for tap in window.taps)
            weight = self.leaves[row * self.kernel_size[1] + column][:, :, None, None]
            taps = Taps((1, 1), (Window(window.rows, window.columns, (slice(0, 1), slice(0, 1))),))
        elif self.leaves is not None:
            weight = torch.stack(self.leaves, dim=2).view(*self.weight.shape)
        if taps is None:
            return cast(Tensor, self._conv_forward(maps, weight, self.bias))
        kind = maps.device.type
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else maps.dtype
        with torch.autocast(kind, enabled=False):
            output = cast(Tensor, _WindowProducts.apply(maps.to(dtype), weight, taps))
            return output if self.bias is None else output + self.bias.to(dtype).view(1, -1, 1, 1)

    def _taps(self, maps: Tensor) -> Taps | None:
        """The taps to compute with, or None where the ordinary convolution is as good."""
        if self.groups != 1 or self.padding_mode != "zeros" or isinstance(self.padding, str) or maps.ndim != 4:
            return None
        size = (maps.shape[2], maps.shape[3])
        taps = live_taps(size, self.kernel_size, self.stride, cast(tuple[int, int], self.padding), self.dilation)
        products = [window.products for window in taps.windows]
        spared = sum(products) < len(products) * self.kernel_size[0] * self.kernel_size[1]
        worth = len(products) == 1 or (1 < len(products) <= MOST_POSITIONS and spared)
        return taps if worth and min(products) > 0 else None


class _WindowProducts(torch.autograd.Function):
    """A matrix product for each output position, and its gradients."""

    @staticmethod
    def forward(ctx: Any, maps: Tensor, weight: Tensor, taps: Taps) -> Tensor:
        """(M, I, h, w) with a kernel (O, I, kh, kw) to (M, O, h', w'), channels last in memory."""
        last = maps.permute(0, 2, 3, 1)
        output = maps.new_empty(len(maps), len(taps.windows), weight.shape[0])
        saved: list[Tensor] = []
        # Rounded once where windows share taps; where most taps are dead, only those that are not.
        kernel = weight.to(maps.dtype) if len(taps.windows) > 1 else weight
        for number, window in enumerate(taps.windows):
            seen = last[:, window.rows, window.columns].reshape(len(maps), -1)  # (M, taps x I)
            matrix = _kernel(kernel, window).to(maps.dtype).reshape(len(weight), -1)  # (O, taps x I)
            output[:, number] = seen @ matrix.t()
            saved += [seen, matrix]
        ctx.save_for_backward(*saved)
        ctx.taps, ctx.shape, ctx.weight = taps, maps.shape, weight.detach()
        return output.view(len(maps), *taps.size, -1).permute(0, 3, 1, 2)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        saved: tuple[Tensor, ...] = ctx.saved_tensors
        count, channels, height, width = ctx.shape
        windows: tuple[Window, ...] = ctx.taps.windows
        last = gradients[0].permute(0, 2, 3, 1).reshape(count, len(windows), -1)  # (M, outputs, O)
        # What several windows share is summed in the weight's precision, as inside one convolution.
        of_maps = of_weight = None
        if ctx.needs_input_grad[0]:
            of_maps = ctx.weight.new_zeros(count, height, width, channels)
            for number, window in enumerate(windows):
                part = of_maps[:, window.rows, window.columns]
                part += (last[:, number] @ saved[2 * number + 1]).view_as(part)
            of_maps = of_maps.to(last.dtype).permute(0, 3, 1, 2)
        if ctx.needs_input_grad[1]:
            of_weight = torch.zeros_like(ctx.weight)
            for number, window in enumerate(windows):
                part = _kernel(of_weight, window)
                part += (last[:, number].t() @ saved[2 * number]).to(part.dtype).view_as(part)
        return of_maps, of_weight, None


def _kernel(weight: Tensor, window: Window) -> Tensor:
    """The taps of a kernel (O, I, kh, kw) that lie on the map, a view (O, rows, columns, I)."""
    return weight.permute(0, 2, 3, 1)[:, window.taps[0], window.taps[1]]


def skip_padding(modules: Iterable[nn.Module]) -> None:
    """Make every plain convolution among ``modules`` leave out products with padding; parameters stay as they are."""
    for module in modules:
        if type(module) is nn.Conv2d:
            module.__class__ = LiveConv2d


@contextlib.contextmanager
def trained_by_tap(modules: Iterable[nn.Module]) -> Iterator[dict[Tensor, tuple[nn.Parameter, ...]]]:
    """Inside, kernels of which a single tap was met get no gradient as a whole: each of their taps does.

    For training without weight decay, where a tap that meets padding alone never moves. Of ResNet18's 11 million
    weights on 32 x 32 pixels 6 million are such: as a part of their kernels they would be given zeros, and stepped,
    with two moments each. Yields the taps of each such kernel, which share its memory. Should a later map meet more
    taps, these begin as any parameter that joins.
    """
    split = [module for module in modules if isinstance(module, LiveConv2d) and module.met_one]
    for module in split:
        high, wide = module.kernel_size
        # Tap by tap in memory too: a fused optimiser steps what is contiguous.
        module.weight.data = module.weight.data.permute(2, 3, 0, 1).contiguous().permute(2, 3, 0, 1)
        weight = module.weight.detach()
        module.leaves = tuple(nn.Parameter(weight[:, :, row, column]) for row in range(high) for column in range(wide))
    try:
        yield {module.weight: module.leaves for module in split if module.leaves is not None}
    finally:
        for module in split:
            module.leaves = None


def keep_padding(modules: Iterable[nn.Module]) -> None:
    """Undo :func:`skip_padding`."""
    for module in modules:
        if type(module) is LiveConv2d:
            module.__class__ = nn.Conv2d  # type: ignore[assignment]
