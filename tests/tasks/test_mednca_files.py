"""Med-NCA's files: which belong together, what is read from them, and the line each bad one gets."""

from __future__ import annotations

import gzip
import os
import re
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from nifti import affine_of, blob, write, write_set

from ncafast.nifti import VolumeError
from ncafast.tasks.mednca.pairs import find_pairs, list_nifti, resolve_folders
from ncafast.tasks.mednca.reading import check_match, read_matching_label
from ncafast.tasks.mednca.volumes import read_channels, read_grid, read_image, read_label, write_map
from ncafast.utils.outputs import check_folder

ORIENTATIONS = ["RAS", "LPS", "PSR", "SAL", "IRP"]


def _touch(folder: Path, *names: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).write_bytes(b"x")
    return folder


def _one_line(error: pytest.ExceptionInfo[VolumeError], path: Path) -> str:
    text = str(error.value)
    assert "\n" not in text
    assert str(path) in text
    return text


def test_pairs_of_two_folders_match_by_name(tmp_path):
    images = _touch(tmp_path / "a", "x_0000.nii.gz", "y.nii", "z_img.nii.gz", "._x.nii.gz", "t.txt")
    labels = _touch(tmp_path / "b", "x.nii.gz", "y.nii.gz", "z_seg.nii", "._y.nii.gz")
    pairs, skipped = find_pairs(images, labels)
    assert [(p.name, p.image.name, p.label.name) for p in pairs] == [
        ("x", "x_0000.nii.gz", "x.nii.gz"),
        ("y", "y.nii", "y.nii.gz"),
        ("z", "z_img.nii.gz", "z_seg.nii"),
    ]
    assert skipped == []


def test_pairs_of_one_folder_match_by_ending(tmp_path):
    folder = _touch(tmp_path, "p_image.nii.gz", "p_label.nii.gz", "q.nii.gz", "q_gt.nii.gz")
    pairs, skipped = find_pairs(folder, folder)
    assert [(p.name, p.image.name, p.label.name) for p in pairs] == [
        ("p", "p_image.nii.gz", "p_label.nii.gz"),
        ("q", "q.nii.gz", "q_gt.nii.gz"),
    ]
    assert skipped == []


def test_names_may_hold_line_breaks(tmp_path):
    folder = _touch(tmp_path, "a\nb.nii.gz", "c.nii", "c.nii\n", ".\nd.nii")
    assert [path.name for path in list_nifti(folder)] == ["a\nb.nii.gz", "c.nii"]


def test_files_without_a_clear_partner_are_named(tmp_path):
    images = _touch(tmp_path / "a", "ok.nii.gz", "alone.nii.gz", "twice.nii", "twice.nii.gz")
    labels = _touch(tmp_path / "b", "ok.nii.gz", "orphan.nii.gz", "twice.nii.gz")
    pairs, skipped = find_pairs(images, labels)
    assert [pair.name for pair in pairs] == ["ok"]
    reasons = {item.path.name: item.reason for item in skipped}
    assert "has no label map called alone.nii.gz" in reasons["alone.nii.gz"]
    assert "label map without an image called orphan.nii.gz" in reasons["orphan.nii.gz"]
    assert "twice.nii, twice.nii.gz" in reasons["twice.nii"]


def test_empty_and_missing_folders_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"holds no \.nii or \.nii\.gz file"):
        list_nifti(tmp_path)
    with pytest.raises(ValueError, match="there is no such folder"):
        list_nifti(tmp_path / "nowhere")
    _touch(tmp_path, "a.nii.gz", "b.nii.gz")
    with pytest.raises(ValueError, match="2 images and 0 label maps"):
        find_pairs(tmp_path, tmp_path)
    labels = _touch(tmp_path / "labels", "c.nii.gz")
    with pytest.raises(ValueError, match=r"none of its 2 images .* \(such as a\.nii\.gz and c\.nii"):
        find_pairs(tmp_path, labels)


def test_a_missing_package_is_named():
    code = """if 1:
        import sys; sys.modules["nibabel"] = None
        from ncafast.tasks.mednca import *; predict(PredictConfig("m", "i"))"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr.splitlines()[-1].endswith(
        "the mednca task needs the package 'nibabel'; run: pip install 'ncafast[tasks]'"
    )


def test_folders_from_options(tmp_path):
    assert resolve_folders(tmp_path, None, None) == (tmp_path, tmp_path)
    write_set(tmp_path, 1)
    assert resolve_folders(tmp_path, None, None) == (tmp_path / "imagesTr", tmp_path / "labelsTr")
    assert resolve_folders(None, tmp_path, tmp_path / "b") == (tmp_path, tmp_path / "b")
    for options in [(tmp_path, tmp_path, tmp_path), (None, None, None), (None, tmp_path, None)]:
        with pytest.raises(ValueError, match="--"):
            resolve_folders(*options)


@pytest.mark.parametrize("axes", ORIENTATIONS)
def test_every_orientation_reads_the_same(tmp_path, axes):
    image, _ = blob((5, 6, 7))
    plain = nib.Nifti1Image(image, affine_of("RAS", (1.0, 2.0, 3.0)))
    ornt = nib.orientations.axcodes2ornt(axes)
    turned = plain.as_reoriented(nib.orientations.ornt_transform(nib.orientations.axcodes2ornt("RAS"), ornt))
    assert nib.aff2axcodes(turned.affine) == tuple(axes)
    nib.save(turned, tmp_path / "turned.nii.gz")
    volume = read_image(tmp_path / "turned.nii.gz")
    np.testing.assert_array_equal(volume.data[0], image)
    np.testing.assert_allclose(volume.position.affine, plain.affine, atol=1e-5)
    assert volume.spacing == pytest.approx((1, 2, 3))
    assert read_grid(tmp_path / "turned.nii.gz") == ((5, 6, 7), pytest.approx((1, 2, 3)))


def test_channels_of_4d_and_vector_images(tmp_path):
    data = np.arange(3 * 4 * 5 * 3, dtype=np.int16).reshape(3, 4, 5, 3)
    four = write(tmp_path / "four.nii.gz", data)
    five = write(tmp_path / "five.nii", data[:, :, :, None, :])
    for path in (four, five):
        np.testing.assert_array_equal(read_image(path, (2, 0)).data[0], data[..., 2])
        np.testing.assert_array_equal(read_image(path, (2, 0)).data[1], data[..., 0])
    with pytest.raises(VolumeError) as error:
        read_image(four, (3,))
    assert [read_channels(path) for path in (four, five)] == [3, 3]
    assert "channels 0 to 2, but [3] is wanted" in _one_line(error, four)
    flat = write(tmp_path / "flat.nii.gz", data[..., 0, 0])
    assert read_image(flat).data.shape == (1, 3, 4, 1)


def test_slope_and_intercept_are_applied(tmp_path):
    stored = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
    image = nib.Nifti1Image(stored, affine_of())
    image.header.set_slope_inter(0.5, -3.0)
    nib.save(image, tmp_path / "scaled.nii.gz")
    # nibabel scales what it is given; write the raw numbers back to have them multiplied on reading
    raw = nib.load(tmp_path / "scaled.nii.gz")
    expected = np.asarray(raw.dataobj.get_unscaled()) * raw.dataobj.slope + raw.dataobj.inter
    assert raw.dataobj.slope == 0.5
    np.testing.assert_allclose(read_image(tmp_path / "scaled.nii.gz").data[0], expected)


def _bad_files(folder: Path) -> dict[str, tuple[Path, str]]:
    image, label = blob()
    whole = write(folder / "whole.nii.gz", image).read_bytes()
    cut = folder / "cut.nii.gz"
    cut.write_bytes(whole[: len(whole) // 2])
    raw = write(folder / "raw.nii", image).read_bytes()
    cut_raw = folder / "cut_raw.nii"
    cut_raw.write_bytes(raw[: len(raw) // 2])
    header_only = folder / "header_only.nii"
    header_only.write_bytes(raw[:200])
    plain_named_gz = folder / "plain.nii.gz"
    plain_named_gz.write_bytes(raw)
    gz_named_plain = folder / "zipped.nii"
    gz_named_plain.write_bytes(whole)
    text = folder / "text.nii"
    text.write_text("no image at all")
    zipped_text = folder / "text.nii.gz"
    zipped_text.write_bytes(gzip.compress(b"no image at all" * 100))
    text_named_gz, zipped_named_nii = folder / "junk.nii.gz", folder / "junk.nii"
    text_named_gz.write_bytes(text.read_bytes())
    zipped_named_nii.write_bytes(zipped_text.read_bytes())
    empty = folder / "empty.nii.gz"
    empty.write_bytes(b"")
    holes = image.copy()
    holes[1, 2, 3] = np.nan
    holes[0, 0, 0] = np.inf
    holes[2, 2, 2] = -3.4e38
    flat = affine_of()
    flat[:3, 0] = 0
    rgb = np.zeros((3, 3, 3), np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")]))
    return {
        "truncated gz": (cut, "truncated or corrupt"),
        "truncated nii": (cut_raw, "truncated or corrupt"),
        "cut header": (header_only, "no readable NIfTI"),
        "nii named gz": (plain_named_gz, r"rename it to end in \.nii"),
        "gz named nii": (gz_named_plain, r"rename it to end in \.nii\.gz"),
        "text": (text, "no readable NIfTI"),
        "text named gz": (text_named_gz, "is no NIfTI file, whatever its name"),
        "zipped text named nii": (zipped_named_nii, "is no NIfTI file, whatever its name"),
        "zipped text": (zipped_text, "no readable NIfTI"),
        "empty": (empty, "empty"),
        "missing": (folder / "missing.nii.gz", "no such file"),
        "nan": (write(folder / "nan.nii.gz", holes), "3 of 1080 voxels are NaN, infinite or beyond"),
        "rgb": (write(folder / "rgb.nii.gz", rgb), "real numbers"),
        "singular": (_with_sform(folder / "flat.nii.gz", image, flat), "cannot be inverted"),
        "6-D": (write(folder / "six.nii.gz", np.zeros((2, 2, 2, 2, 2, 2), "u1")), "has shape"),
    }


def _with_sform(path: Path, data: np.ndarray, affine: np.ndarray) -> Path:
    image = nib.Nifti1Image(data, None)
    image.header["sform_code"], image.header["vox_offset"] = 1, 352
    for row, name in enumerate(("srow_x", "srow_y", "srow_z")):
        image.header[name] = affine[row]
    raw = image.header.binaryblock + b"\0" * 4 + data.tobytes(order="F")
    path.write_bytes(gzip.compress(raw))
    return path


def test_every_kind_of_bad_file_gets_one_line_that_names_it(tmp_path):
    for kind, (path, expected) in _bad_files(tmp_path).items():
        with pytest.raises(VolumeError) as error:
            read_image(path)
        assert re.search(expected, _one_line(error, path)), (kind, str(error.value))


def _patched(path: Path, content: bytes, start: int, value: bytes) -> Path:
    path.write_bytes(content[:start] + value + content[start + len(value) :])
    return path


def test_headers_that_cannot_be_true_get_one_line(tmp_path):
    content = write(tmp_path / "whole.nii", blob((5, 6, 7))[0]).read_bytes()
    dims = np.array([4, 20000, 20000, 20000, 300], "<i2").tobytes()  # 10 petabytes
    bad = {
        "huge.nii": (
            40,
            dims,
            "says 20000x20000x20000x300 voxels, which need 9,600,000,000,000,352 bytes",
        ),
        "negative.nii": (42, np.int16(-5).tobytes(), "has shape -5x6x7"),
        "offset.nii": (108, np.float32(0).tobytes(), "start at byte 0 .vox_offset., inside its header"),
        "behind.nii": (108, np.float32(1e9).tobytes(), "is truncated or corrupt"),
        "pair.nii": (344, b"ni1\0", "voxels are in a separate .img file"),
        "magic.nii": (344, b"abc\0", "lacks the mark of NIfTI"),
        "inter.nii": (112, np.array([2, np.nan], "<f4").tobytes(), "has scl_inter=nan"),
        "complex.nii": (70, np.int16(32).tobytes(), "type complex64; real numbers"),
        "bits.nii": (70, np.int16(1).tobytes(), "data code 1 not supported"),
        "extension.nii": (348, b"\1\0\0\0", "header extensions are corrupt"),
    }
    for name, (start, value, said) in bad.items():
        patched = content if name != "extension.nii" else content[:108] + np.float32(384).tobytes() + content[112:]
        path = _patched(tmp_path / name, patched, start, value)
        with pytest.raises(VolumeError) as error:
            read_image(path)
        assert re.search(said, _one_line(error, path)), (name, str(error.value))
    zipped = tmp_path / "huge.nii.gz"
    zipped.write_bytes(gzip.compress((tmp_path / "huge.nii").read_bytes()))
    with pytest.raises(VolumeError, match="huge.nii.gz: is truncated or corrupt .its header says 20000x"):
        read_image(zipped)


def test_other_formats_are_named(tmp_path):
    image, _ = blob((5, 6, 7))
    nib.save(nib.Nifti1Pair(image, affine_of()), tmp_path / "a.hdr")
    nib.save(nib.MGHImage(image, affine_of()), tmp_path / "a.mgz")
    nib.save(nib.Nifti1Image(image, affine_of()), tmp_path / "a.nii.bz2")
    said = {"a.hdr": "two files", "a.img": "two files", "a.mgz": "mri_convert", "a.nii.bz2": "no .nii"}
    for name, words in said.items():
        with pytest.raises(VolumeError, match=words) as error:
            read_image(tmp_path / name)
        _one_line(error, tmp_path / name)


def test_a_compressed_file_is_read_to_its_end(tmp_path):
    data = np.arange(504, dtype=np.int16).reshape(7, 8, 9)
    raw = write(tmp_path / "raw.nii", data).read_bytes()
    stored = bytearray(gzip.compress(raw, compresslevel=0))
    path = tmp_path / "a.nii.gz"
    stored[700] ^= 0xFF
    cases = {
        "its checksum does not fit: CRC": bytes(stored),
        "something else follows its compressed data": gzip.compress(raw) + b"more",
        "ended before the end": gzip.compress(raw)[:-4],
        "ends 8 bytes before its last voxel": gzip.compress(raw[:-8]),
    }
    for said, content in cases.items():
        path.write_bytes(content)
        with pytest.raises(VolumeError) as error:
            read_image(path)
        assert said in _one_line(error, path) and "is truncated or corrupt" in str(error.value)
    for content in (gzip.compress(raw[:900]) + gzip.compress(raw[900:]), gzip.compress(raw) + bytes(99)):
        path.write_bytes(content)
        np.testing.assert_array_equal(read_image(path).data[0], data)


@pytest.mark.parametrize("kind", ["u1", "i1", "<i2", ">i2", "u2", ">i4", "u4", "<i8", "u8", "f4", ">f8"])
@pytest.mark.parametrize("cls", [nib.Nifti1Image, nib.Nifti2Image])
def test_every_type_and_byte_order_reads_as_nibabel_does(tmp_path, kind, cls):
    image, label = blob((5, 6, 7))
    header = cls.header_class(endianness=kind[0] if kind[0] in "<>" else "<")
    header.set_data_dtype(np.dtype(kind).newbyteorder("="))
    path = tmp_path / "a.nii"
    nib.save(cls((label * 50).astype(kind), affine_of("LPS"), header), path)
    expected = np.asarray(nib.as_closest_canonical(nib.load(path)).dataobj)
    np.testing.assert_array_equal(read_image(path).data[0], expected)
    np.testing.assert_array_equal(read_label(path).data[0], expected)


def test_label_values_that_float32_cannot_hold_are_refused(tmp_path):
    label = np.zeros((3, 3, 3), np.int64)
    label[1, 1, 1] = 2**24 - 1
    header = nib.Nifti1Header()
    header.set_data_dtype(np.int64)
    for value, path in ((2**24 - 1, tmp_path / "most.nii"), (2**24 + 1, tmp_path / "more.nii")):
        label[1, 1, 1] = value
        nib.save(nib.Nifti1Image(label, affine_of(), header), path)
    assert read_label(tmp_path / "most.nii").data.max() == 2**24 - 1
    with pytest.raises(VolumeError, match=r"label values go up to 16777215"):
        read_label(tmp_path / "more.nii")


def test_too_little_memory_is_no_damage(tmp_path, monkeypatch):
    path = write(tmp_path / "large.nii.gz", blob((5, 6, 7))[0])

    def fail(*_):
        raise MemoryError

    monkeypatch.setattr(np, "empty", fail)
    with pytest.raises(VolumeError) as error:
        read_image(path)
    text = _one_line(error, path)
    assert "its 5x6x7 voxels do not fit into the memory" in text and "corrupt" not in text


@pytest.mark.parametrize("axes", ORIENTATIONS)
def test_shape_runs_along_the_canonical_axes(tmp_path, axes):
    path = write(tmp_path / "a.nii.gz", np.zeros((5, 6, 7, 2), np.uint8), affine_of(axes))
    shape, _ = read_grid(path)
    assert shape == read_image(path).data.shape[1:]
    assert read_grid(tmp_path / "none.nii.gz") is None


def test_a_place_that_cannot_be_written_is_named_with_its_option(tmp_path):
    check_folder("--output", tmp_path / "new" / "folder")
    assert not list(tmp_path.iterdir())
    (tmp_path / "file").touch()
    for place in (tmp_path / "file", tmp_path / "file" / "in"):
        with pytest.raises(ValueError, match=f"^--output {re.escape(str(place))}: .*file is not a folder; give"):
            check_folder("--output", place)


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a file system that refuses what permissions allow")
def test_a_file_system_that_takes_no_files_is_named():
    with pytest.raises(
        ValueError, match=r"^--output /proc/new/run: (nothing can be made|no permission to write) in /proc"
    ):
        check_folder("--output", Path("/proc/new/run"))


def test_a_place_without_permission_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(ValueError, match=r"--output .*new: no permission to write in"):
        check_folder("--output", tmp_path / "new")


def test_label_maps_hold_whole_numbers(tmp_path):
    _, label = blob()
    kept = read_label(write(tmp_path / "float.nii.gz", label.astype(np.float32)))
    np.testing.assert_array_equal(kept.data[0], label)
    soft = write(tmp_path / "soft.nii.gz", label.astype(np.float32) * 0.5)
    with pytest.raises(VolumeError, match=r"holds the value 0\.5; a label map holds whole numbers"):
        read_label(soft)
    four = write(tmp_path / "four.nii.gz", np.stack([label, label], -1))
    with pytest.raises(VolumeError, match="4-D with 2 channels"):
        read_label(four)
    np.testing.assert_array_equal(read_label(write(tmp_path / "one.nii.gz", label[..., None])).data[0], label)


def test_image_and_label_must_lie_on_each_other(tmp_path):
    image, label = blob()
    volume = read_image(write(tmp_path / "image.nii.gz", image))
    check_match(volume, read_label(write(tmp_path / "same.nii.gz", label)))

    near = affine_of()
    near[0, 3] += 0.4
    check_match(volume, read_label(write(tmp_path / "near.nii.gz", label, near)))

    far = affine_of()
    far[0, 3] += 3
    shifted = read_label(write(tmp_path / "far.nii.gz", label, far))
    with pytest.raises(VolumeError, match="lies 3 mm away from its image image.nii.gz"):
        check_match(volume, shifted)
    match = read_matching_label(volume, tmp_path / "far.nii.gz", ignore_affine=True)
    assert match.waived == "moved"
    np.testing.assert_array_equal(match.data[0], label)

    smaller = write(tmp_path / "smaller.nii.gz", label[:-1])
    with pytest.raises(VolumeError, match="9x12x9 voxels but its image image.nii.gz has 10x12x9"):
        read_matching_label(volume, smaller)
    with pytest.raises(VolumeError, match="stores 9x12x9 voxels but its image image.nii.gz 10x12x9; --ignore-affine"):
        read_matching_label(volume, smaller, ignore_affine=True)


@pytest.mark.parametrize("axes", ORIENTATIONS)
@pytest.mark.parametrize("channels", [None, 3])
def test_written_labels_keep_the_images_geometry(tmp_path, axes, channels):
    image, label = blob((5, 6, 7))
    data = image if channels is None else np.stack([image] * channels, -1)
    affine = affine_of(axes, (0.5, 0.7, 4.0))
    affine[:3, :3] += 0.02  # oblique
    source = nib.Nifti1Image(data, affine)
    source.header.set_xyzt_units("mm", "sec")
    source.set_qform(affine, 1)
    source.set_sform(affine, 2)
    nib.save(source, tmp_path / "in.nii.gz")
    canonical = read_label(write(tmp_path / "l.nii.gz", label, affine)).data[0]

    write_map(tmp_path / "out" / "done.nii.gz", canonical, tmp_path / "in.nii.gz")

    back, original = nib.load(tmp_path / "out" / "done.nii.gz"), nib.load(tmp_path / "in.nii.gz")
    np.testing.assert_array_equal(np.asarray(back.dataobj), label)
    np.testing.assert_array_equal(back.affine, original.affine)
    assert back.shape == original.shape[:3]
    assert back.get_data_dtype() == np.uint8
    assert back.header.get_zooms() == original.header.get_zooms()[:3]
    for field in ("sform_code", "qform_code", "quatern_b", "qoffset_x", "srow_x", "xyzt_units"):
        np.testing.assert_array_equal(back.header[field], original.header[field])
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["done.nii.gz"]
