"""Seeded NIfTI files, whole, odd and corrupt, of a few hundred voxels each, for tests of the reader."""

from __future__ import annotations

import gzip
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
from nibabel.orientations import axcodes2ornt, inv_ornt_aff

TYPES = ["u1", "i1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8", "c8", "RGB"]
UNUSABLE = ("c8", "RGB")
DAMAGE = [
    "none", "none", "header bits", "header bits", "header bits", "data bits", "cut", "field", "field", "field", "field",
    "swapped header", "swapped data", "gz bits", "gz bits", "gz cut", "gz tail", "gz zeros", "gz members",
    "gz checksum", "zeros behind", "other ending", "extension",
]  # fmt: skip
_NAN, _INF = float("nan"), float("inf")
FIELDS = {
    "dim": [(3, 0, 5, 6), (3, -4, 5, 6), (3, 32767, 32767, 32767), (9, 2, 2, 2), (0, 2, 2, 2), (1, 6, 1, 1),
            (4, 2, 2, 2, -1), (5, 2, 2, 1, 2, 3), (6, 2, 2, 2, 1, 1, 2), (7, 2, 2, 2, 1, 1, 1, 1), (3, -1, 1, 1),
            (3, 27307, 1, 6), (4, 4, 4, 4, 30000)],
    "pixdim": [(0, 1, 1, 1), (3.7, 1, 1, 1), (1, 0, 2, 2), (1, -1, 2, 2), (1, _NAN, 2, 2), (1, _INF, 2, 2),
               (1, 1e30, 1, 1e-30), (-1, 1.3, 1.3, 10)],
    "scl_slope": [0, _NAN, _INF, -_INF, 1e38, -2.5, 1e-38],
    "scl_inter": [_NAN, _INF, 1e38, -7],
    "vox_offset": [0, 1, 300, 351, 352.5, 360, 368, 1e9, 1e30, -16, _NAN, _INF],
    "datatype": [0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 511, 512, 768, 1024, 1280, 1536, 1792, 2048, 2304, -1],
    "bitpix": [0, 1, 8, 64, -8],
    "sform_code": [-1, 6, 0, 1, 200],
    "qform_code": [-1, 6, 0, 1, 200],
    "srow_x": [(0, 0, 0, 0), (_NAN, 0, 0, 0), (_INF, 1, 0, 0), (1e30, 0, 0, 1e30), (1e-30, 0, 0, 0)],
    "quatern_b": [2, -1.5, _NAN, _INF, 0.7],
    "qoffset_x": [_NAN, _INF, 1e30],
    "magic": [b"ni1\0", b"n+2\0", b"n+1", b"\0\0\0\0", b"nii\0"],
    "sizeof_hdr": [0, 348, 540, 1543569408, 17],
    "xyzt_units": [0, 1, 2, 3, 255],
    "intent_code": [0, 1002, 1007, 32000],
}  # fmt: skip


@dataclass(frozen=True)
class Odd:
    """A file, how it was made, and whether it has to be readable."""

    path: Path
    how: str
    whole: bool


def make(folder: Path, seed: int) -> Odd:
    """Write the file of this number."""
    random = np.random.default_rng([11, seed])
    kind = str(random.choice(TYPES))
    damage = DAMAGE[seed % len(DAMAGE)]
    header, voxels = _image(random, kind)
    shape = voxels.shape
    how = damage
    if damage == "extension":
        header, how = _with_extension(random, header)
    elif damage == "field":
        name, value = _set_field(random, header)
        how = f"{name}={value}"
    block = bytearray(header.binaryblock)
    if damage == "extension":
        block += b"\1\0\0\0" + b"".join(_extensions(random, header))
    block += b"\0" * (int(_offset(header)) - len(block))
    if damage == "header bits":
        _flip(random, block, 0, len(header.binaryblock), int(random.integers(1, 4)))
    if damage == "swapped header":
        block[: len(header.binaryblock)] = header.as_byteswapped().binaryblock
    if damage == "swapped data" and voxels.dtype.itemsize > 1:
        voxels = voxels.byteswap()
    content = bytearray(block + voxels.tobytes(order="F"))
    if damage == "data bits":
        _flip(random, content, len(block), len(content), 3)
    if damage == "cut":
        del content[int(random.integers(0, len(content))) :]
    if damage == "zeros behind":
        content += bytes(37)
    zipped = damage.startswith("gz") or random.random() < 0.5
    path = folder / f"odd_{seed}.nii{'.gz' if zipped != (damage == 'other ending') else ''}"
    path.write_bytes(_zipped(random, bytes(content), damage) if zipped else bytes(content))
    whole = damage in ("none", "gz members", "gz zeros", "zeros behind") and kind not in UNUSABLE
    return Odd(path, f"{kind} {shape} {how}", whole)


def _image(random: np.random.Generator, kind: str) -> tuple[nib.Nifti1Header, np.ndarray]:
    """A header and its voxels, of any number of axes, place, byte order and scaling."""
    spatial = tuple(int(n) for n in random.integers(1, 7, int(random.integers(2, 4))))
    shape: tuple[int, ...] = spatial
    if len(spatial) == 3:
        shape += [(), (), (1,), (3,), (1, 2)][int(random.integers(5))]
    cls = nib.Nifti2Header if random.random() < 0.2 else nib.Nifti1Header
    header = cls(endianness="<" if random.random() < 0.7 else ">")
    dtype = np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")]) if kind == "RGB" else np.dtype(kind)
    header.set_data_shape(shape)
    header.set_data_dtype(dtype)
    dtype = header.get_data_dtype()
    header["magic"], header["vox_offset"] = header.single_magic, header.single_vox_offset
    if random.random() < 0.3 and dtype.kind in "iu":
        header.set_slope_inter(float(random.choice([0.5, 3.0, 0.013])), float(random.choice([0.0, -1024.0, 2.25])))
    axes = str(random.choice(["RAS", "LPS", "PSR", "SAL", "IRP", "LAS"]))
    spacing = random.uniform(0.4, 6, 3)
    affine = np.diag([*spacing, 1.0]) @ inv_ornt_aff(axcodes2ornt(axes), (*spatial, 1)[:3])
    affine[:3, 3] += random.uniform(-90, 90, 3)
    if random.random() < 0.5:
        affine[:3, :3] += random.uniform(-0.03, 0.03, (3, 3))  # oblique, with shear that a qform cannot say
    forms = ["sform", "qform", "both", "other", "none"][int(random.integers(5))]
    if forms in ("sform", "both", "other"):
        header.set_sform(affine, int(random.integers(1, 5)))
    if forms in ("qform", "both", "other"):
        turned = affine if forms != "other" else np.diag([-1.3, -1.3, 10, 1])
        header.set_qform(turned, int(random.integers(1, 5)), strip_shears=True)
    header["xyzt_units"] = int(random.choice([0, 2, 2, 2, 10, 3, 1]))
    return header, _voxels(random, dtype, shape)


def _voxels(random: np.random.Generator, dtype: np.dtype, shape: tuple[int, ...]) -> np.ndarray:
    if dtype.kind in "iu":
        most = np.iinfo(dtype).max if random.random() < 0.3 else min(9, np.iinfo(dtype).max)
        return random.integers(0, most, shape, dtype.newbyteorder("="), endpoint=True).astype(dtype)
    if dtype.kind == "f":
        values = random.normal(0, 300, shape) if random.random() < 0.7 else random.integers(0, 5, shape)
        return values.astype(dtype)
    return np.frombuffer(random.bytes(dtype.itemsize * int(np.prod(shape))), dtype).reshape(shape)


def _set_field(random: np.random.Generator, header: nib.Nifti1Header) -> tuple[str, object]:
    name = list(FIELDS)[int(random.integers(len(FIELDS)))]
    value = FIELDS[name][int(random.integers(len(FIELDS[name])))]
    if name in ("dim", "pixdim"):
        header[name][: len(value)] = value
    elif name == "vox_offset" and isinstance(header, nib.Nifti2Header):
        value = 0 if not np.isfinite(value) else min(int(value), 2**62)
        header[name] = value
    else:
        header[name] = value
    return name, value


def _offset(header: nib.Nifti1Header) -> float:
    """Where the voxels are written, whatever a field was set to."""
    return max(header.single_vox_offset, 0) + (64 if len(header.extensions) else 0)


def _with_extension(random: np.random.Generator, header: nib.Nifti1Header) -> tuple[nib.Nifti1Header, str]:
    header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"a comment"))
    header["vox_offset"] = _offset(header)
    return header, "extension"


def _extensions(random: np.random.Generator, header: nib.Nifti1Header) -> list[bytes]:
    """Bytes of an extension of 64 bytes, whose size may be wrong."""
    size = int(random.choice([64, 64, 64, 0, 7, -16, 2**30, 48]))
    code = int(random.choice([6, 4, 2, 44, 999]))
    return [np.array([size, code], header.endianness + "i4").tobytes(), bytes(56)]


def _flip(random: np.random.Generator, content: bytearray, start: int, stop: int, count: int) -> None:
    for _ in range(count):
        content[int(random.integers(start, stop))] ^= 1 << int(random.integers(8))


def _zipped(random: np.random.Generator, content: bytes, damage: str) -> bytes:
    level = int(random.choice([0, 1, 6]))
    if damage == "gz members":
        cut = int(random.integers(0, len(content)))
        return gzip.compress(content[:cut], level, mtime=0) + gzip.compress(content[cut:], level, mtime=0)
    whole = bytearray(gzip.compress(content, level, mtime=0))
    if damage == "gz bits":
        _flip(random, whole, 2, len(whole), int(random.integers(1, 4)))
    elif damage == "gz cut":
        del whole[int(random.integers(2, len(whole))) :]
    elif damage == "gz tail":
        whole += b"something else"
    elif damage == "gz zeros":
        whole += bytes(512)
    elif damage == "gz checksum":
        _flip(random, whole, len(whole) - 8, len(whole), 1)
    return bytes(whole)
