"""The array of an argument, and whether two of them are one."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
from torch import Tensor

from ncafast.volume import mapped
from ncafast.volume.array import Array
from ncafast.volume.disk_arrays import ChunkedArray, MappedArray
from ncafast.volume.numpy_array import NumpyArray
from ncafast.volume.tensor_array import TensorArray


def wrap(name: str, value: Any) -> Array:
    """The array of an argument.

    Raises:
        TypeError: it is none, or holds no floating point numbers.
    """
    if isinstance(value, Array):
        return value
    if isinstance(value, Tensor):
        return TensorArray(value)
    if isinstance(value, np.ndarray):
        mapping = mapped.find(name, value)
        array = NumpyArray(value) if mapping is None else MappedArray(value, mapping)
    elif all(hasattr(value, attribute) for attribute in ("shape", "dtype", "__getitem__")):
        array = ChunkedArray(value)
    else:
        raise TypeError(f"{name} must be a tensor, a numpy or a zarr array, got {type(value).__name__}")
    if not array.dtype.is_floating_point:
        raise TypeError(f"{name} must be float16, float32 or float64, got {value.dtype}; convert it with astype")
    return array


def shared(a: Array, b: Array) -> bool:
    """Whether two arrays are one and the same.

    Raises:
        ValueError: they share some numbers and are not the same.
    """
    for one, other in itertools.product(a.extents(), b.extents()):
        if one.where == other.where and one.start < other.stop and other.start < one.stop:
            if (one.start, one.layout) == (other.start, other.layout):
                return True
            raise ValueError("out shares some of source's memory; give source itself, or an array of its own")
    return False
