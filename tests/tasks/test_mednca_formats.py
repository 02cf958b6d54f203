"""Medical images that are not NIfTI are refused in one line that names the tool which converts them."""

from __future__ import annotations

from pathlib import Path

import pytest

from ncafast.nifti import VolumeError, open_nifti
from ncafast.tasks.mednca.pairs import list_nifti

DICOM = b"\0" * 128 + b"DICM" + b"\2\0\0\0"
FILES = [
    ("scan.dcm", b"", "dcm2niix"),
    ("IM0001", DICOM, "dcm2niix"),
    ("IM.0001.1", DICOM, "dcm2niix"),
    ("scan.NRRD", b"NRRD0004\n", "sitk.WriteImage"),
    ("scan.nhdr", b"NRRD0004\n", "3D Slicer"),
    ("scan.mha", b"", "is MetaImage"),
    ("scan.mhd", b"", "is MetaImage"),
    ("scan.mgz", b"", "mri_convert"),
    ("scan.mnc", b"", "mnc2nii"),
    ("scan.img", b"", "nibabel.save"),
]


@pytest.mark.parametrize(("name", "content", "tool"), FILES)
def test_a_file_and_a_folder_of_another_format_name_the_tool(tmp_path, name, content, tool):
    path = tmp_path / name
    path.write_bytes(content)
    (tmp_path / ".hidden").write_bytes(DICOM)
    with pytest.raises(VolumeError) as error:
        open_nifti(path)
    assert str(error.value).startswith(f"{path}: ") and tool in str(error.value)
    with pytest.raises(ValueError, match="holds no .nii or .nii.gz file; ") as error:
        list_nifti(tmp_path)
    assert f"{name} is " in str(error.value) or f"{name} keeps " in str(error.value)
    assert tool in str(error.value)
    with pytest.raises(ValueError, match="is a file, and ") as error:
        list_nifti(path)
    assert tool in str(error.value)


def test_what_is_no_medical_image_gets_no_hint(tmp_path):
    (tmp_path / "notes.txt").write_bytes(b"\0" * 128 + b"DIC")
    with pytest.raises(ValueError, match="give the folder that holds them$"):
        list_nifti(tmp_path)
    with pytest.raises(VolumeError, match="is no .nii or .nii.gz file; convert it to .nii.gz$"):
        open_nifti(tmp_path / "notes.txt")


@pytest.mark.parametrize("name", ["scan.nii", "scan.nii.gz"])
def test_dicom_under_the_name_of_a_nifti_file_is_called_dicom(tmp_path, name):
    (tmp_path / name).write_bytes(DICOM + bytes(400))
    with pytest.raises(VolumeError, match=r"scan.nii(.gz)?: is DICOM, .*; convert their folder with `dcm2niix"):
        open_nifti(tmp_path / name)


def test_files_of_another_format_between_nifti_files_are_named_in_a_note(tmp_path, capsys):
    for name in ("a.nii.gz", "b.nii", "b.dcm", "c.dcm", "notes.txt"):
        (tmp_path / name).write_bytes(b"x")
    assert [path.name for path in list_nifti(tmp_path)] == ["a.nii.gz", "b.nii"]
    said = capsys.readouterr().out
    assert said.count("note: ") == 1 and "only its 2 NIfTI files are read; b.dcm is DICOM" in said
    for name in ("b.dcm", "c.dcm"):
        (tmp_path / name).unlink()
    list_nifti(tmp_path)
    assert not capsys.readouterr().out


@pytest.mark.skipif(not Path("/dev/null").exists(), reason="there is no such device here")
def test_a_device_is_no_missing_file():
    with pytest.raises(VolumeError, match="/dev/null: is a device or a pipe, not a regular file; give a .nii or"):
        open_nifti(Path("/dev/null"))
    with pytest.raises(ValueError, match="/dev/null: is a device or a pipe, not a regular file; give a folder"):
        list_nifti(Path("/dev/null"))
