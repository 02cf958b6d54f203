"""The compiled extensions, found or not: loading them, saying why one is missing, and the CPU's fire mask.

Importing this never fails. What is missing is a reason for a backend to say no, not an error.
"""

from __future__ import annotations

import importlib
import importlib.util
import math
import os
from collections.abc import Sequence
from types import ModuleType

import torch.utils.dlpack  # before the extension, so that both use the one OpenMP runtime that torch ships
from torch import Tensor

from ncafast.compiling import constant_result
from ncafast.philox import check_counter, threshold
from ncafast.versions import build_info

_LEAST_KEPT = 2**20  # bytes
_INSTALL_AGAIN = "install ncafast again, with pip install --force-reinstall --no-deps . in its checkout"


def _import(name: str, file: str | None = None) -> tuple[ModuleType | None, str | None]:
    """The extension of that name, from another file if one is given, else the reason why not."""
    try:
        if file is None:
            return importlib.import_module(name), None
        spec = importlib.util.spec_from_file_location(name, file)
        if spec is None or spec.loader is None:
            return None, f"{file} is no extension module"
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module, None
    except ModuleNotFoundError as error:
        return None, "there is no file of it for this Python" if error.name == name else str(error)
    except ImportError as error:
        return None, str(error)


# For tests only: the CUDA kernels compiled for the CPU (tests/backends/cuda_shim), where both variables ask for them.
CUDA_SHIM = os.environ.get("NCAFAST_CUDA_SHIM") if os.environ.get("NCAFAST_BACKEND") == "cuda" else None

_module, _import_error = _import("ncafast._C")
_cuda_module, _cuda_import_error = _import("ncafast._CUDA", CUDA_SHIM)


def load() -> ModuleType | None:
    """Return the extension module `ncafast._C`, or None when it is missing (see `reason`)."""
    return _module


@constant_result  # torch.compile traces the choice of a backend, which asks for it
def reason() -> str | None:
    """Return why the extension is missing, the compiler's message where there is one, or None."""
    if _module is not None:
        return None
    cpu = build_info().get("cpu", {})
    if cpu.get("built", True):
        return f"ncafast._C cannot be imported: {_import_error}"
    return f"ncafast._C was not built: {cpu.get('reason')}"


def load_cuda() -> ModuleType | None:
    """Return the extension module `ncafast._CUDA`, or None when it is missing (see `cuda_reason`)."""
    return _cuda_module


@constant_result
def cuda_reason() -> str | None:
    """Return why the CUDA kernels are missing, the compiler's message where there is one, or None."""
    if _cuda_module is not None:
        return None
    cuda = build_info().get("cuda", {})
    if cuda.get("built", True):
        return f"ncafast._CUDA cannot be imported: {_cuda_import_error}"
    return f"ncafast._CUDA was not built: {cuda_build_reason()}"


def cuda_build_reason() -> str:
    """Return why the build left out the CUDA kernels, and what to do where another PyTorch has been installed since."""
    record = build_info()
    cuda = record.get("cuda", {"reason": record.get("reason", "not recorded")})
    if cuda.get("torch_is_for_cpu") and torch.version.cuda is not None:
        return f"{cuda['reason']}; now it is {torch.__version__}: {_INSTALL_AGAIN}"
    return str(cuda.get("reason"))


def empty(shape: Sequence[int]) -> Tensor:
    """Return uninitialised float32 memory on the CPU that is kept for the next call once the tensor is gone.

    Small tensors, and all where the extension is missing, come from PyTorch.
    """
    if _module is None or 4 * math.prod(shape) < _LEAST_KEPT:
        return torch.empty(shape)
    tensor: Tensor = torch.utils.dlpack.from_dlpack(_module.block(list(shape)))
    return tensor


def keep_memory(bytes: int) -> int:
    """Keep at most so many bytes of memory for the next call; at first it is an eighth of the machine's.

    Returns:
        The bytes that could be kept before.
    """
    return 0 if _module is None else int(_module.keep(bytes))


def release_memory() -> int:
    """Give back all memory that is kept for the next call. Returns how many bytes that was."""
    return 0 if _module is None else int(_module.release())


def fire_mask(
    batch: int,
    spatial: tuple[int, ...],
    fire_rate: float,
    seed: Tensor,  # [1] int64, the 64-bit seed in two's complement
    *,
    step: int = 0,
    first_sample: int = 0,
    device: torch.device | str | None = None,
) -> Tensor:  # [B, 1, *S] bool
    """Draw the same mask as `philox.fire_mask`, bit for bit, in C++ on the CPU.

    Raises ValueError as that does, and for a device that is not the CPU; RuntimeError when the
    extension is missing.
    """
    if torch.device("cpu" if device is None else device).type != "cpu":
        raise ValueError(f"device is {device}; the C++ fire mask is drawn on the CPU only")
    cells = math.prod(spatial)
    mask = fire_cells(batch, 0, cells, fire_rate, seed, step=step, first_sample=first_sample)
    return mask.reshape(batch, 1, *spatial)


def fire_cells(
    batch: int,
    first_cell: int,
    cells: int,
    fire_rate: float,
    seed: Tensor,  # [1] int64
    *,
    step: int = 0,
    first_sample: int = 0,
) -> Tensor:  # [B, cells] bool
    """Draw the mask of the cells [first_cell, first_cell + cells) of a grid of any size.

    A cell's number is its row-major index in the whole grid. Raises as `fire_mask` does.
    """
    if first_cell < 0:
        raise ValueError(f"first_cell is {first_cell}; cells are numbered from 0")
    limit = threshold(fire_rate)
    check_counter(batch, first_cell + cells, step, first_sample)
    if _module is None:
        raise RuntimeError(reason())
    mask = torch.empty((batch, cells), dtype=torch.bool)
    word = int(seed.item()) & 0xFFFFFFFFFFFFFFFF
    _module.fire_mask(mask.data_ptr(), first_sample, batch, first_cell, cells, word, step, limit)
    return mask
