"""On which device a run is trained, and in which precision."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

import torch


def choose_device(asked: str) -> str:
    """``"auto"`` is a GPU where there is one. Raises ``ValueError`` for a device that is not there."""
    if asked == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(1, device=asked)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"there is no device {asked}: {str(error).partition(chr(10))[0]}") from None
    return asked


def choose_precision(asked: str, device: str) -> str:
    """``"auto"`` is bf16 where the hardware computes in it, else fp32. Raises ``ValueError`` for fp16 without a GPU."""
    kind = device.partition(":")[0]
    if asked == "fp16" and kind != "cuda":
        raise ValueError(f"precision fp16 needs a GPU; the device is {device}")
    if asked != "auto":
        return asked
    if kind == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    if kind == "cpu":
        # Emulated bf16 is slower than fp32, so only processors with instructions for it count.
        capabilities = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
        return "bf16" if capabilities.get("avx512_bf16") or capabilities.get("amx_bf16") else "fp32"
    return "fp32"


def tf32(device: str) -> dict[str, str] | None:
    """How a GPU multiplies float32, for matrices and for convolutions, as torch calls it; None for other devices."""
    if not device.startswith("cuda"):
        return None
    return {
        "matmul": str(torch.backends.cuda.matmul.fp32_precision),
        "convolution": str(torch.backends.cudnn.conv.fp32_precision),  # type: ignore[attr-defined]
    }


def autocast(device: str, precision: str) -> AbstractContextManager[Any]:
    """Autocast to the precision; none for fp32."""
    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(precision)
    return torch.autocast(device, dtype=dtype, enabled=dtype is not None)
