"""What ncafast writes it knows again while nobody has changed it, and what others wrote it leaves alone."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import struct
from pathlib import Path

import imageio.v3 as iio
import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from ncafast import checkpoint, cli
from ncafast.bench import results
from ncafast.bench.options import parse
from ncafast.bench.run import _check_out as check_out
from ncafast.models import MedNCA
from ncafast.tasks.mednca.model_file import metadata_of
from ncafast.tasks.mednca.slices import Recipe
from ncafast.tasks.mednca.volumes import write_map
from ncafast.train import Settings
from ncafast.train.results import claim
from ncafast.train.run_folder import RunFolder
from ncafast.utils.outputs import beside, check_free, finished, write_result
from ncafast.utils.stamps import stamp, stamped
from ncafast.viz import write_animation
from ncafast.viz.figures import write_png

RANDOM = np.random.default_rng(0)
PICTURE = RANDOM.integers(0, 256, (13, 17, 3), dtype=np.uint8)
LABELS = RANDOM.integers(0, 3, (5, 6, 7), dtype=np.uint8)
FACTS = {"model": "m", "scores": [1, 2.5], "nested": {"a": None}}


def image(folder: Path, ending: str = ".nii.gz") -> Path:
    """A NIfTI image that a label map may lie beside."""
    header = nib.Nifti1Header()
    header["descrip"] = b"TE=2.3;Time=1145"
    affine = np.array([[0, -2.0, 0, 1], [1.5, 0, 0, 2], [0, 0, 3, 3], [0, 0, 0, 1]])
    path = folder / f"image{ending}"
    nib.save(nib.Nifti1Image(RANDOM.normal(size=(6, 5, 7)).astype(np.float32), affine, header), path)
    return path


def write(path: Path) -> Path:
    """A file of each kind, as the commands write it."""
    if path.suffix == ".png":
        write_png(path, PICTURE)
    elif path.suffix in (".gif", ".mp4"):
        if path.suffix == ".mp4":
            pytest.importorskip("imageio_ffmpeg")
        write_animation(path, [PICTURE[:12, :16], 255 - PICTURE[:12, :16]])
    elif path.suffix == ".json":
        write_result(path, json.dumps(FACTS, indent=1))
    elif path.suffix == ".csv":
        write_result(path, "file,class,bar,disc\na.png,bar,0.9,0.1\n")
    else:
        write_map(path, LABELS, image(path.parent, "".join(path.suffixes)))
    return path


KINDS = ("a.png", "a.gif", "a.mp4", "a.json", "a.nii", "a.nii.gz", "a.csv")


@pytest.mark.parametrize("name", KINDS)
def test_a_file_is_known_wherever_it_goes_until_it_is_changed(tmp_path, name):
    path = write(tmp_path / name)
    assert stamped(path)
    moved = Path(shutil.copy(path, tmp_path / f"other{path.suffix}"))
    assert stamped(moved)
    data = path.read_bytes()
    if name == "a.csv":  # has no stamp: its columns are all there is
        moved.write_bytes(data.replace(b"\n", b"\r\n"))  # as a spreadsheet saves it
        assert not stamped(moved)
        moved.write_bytes(data.replace(b"class", b"kind"))
        assert not stamped(moved)
        return
    for place in {*range(0, len(data), max(1, len(data) // 50)), len(data) - 1}:
        moved.write_bytes(data[:place] + bytes((data[place] ^ 1,)) + data[place + 1 :])
        assert not stamped(moved), place
    for other in (data + b"x", data[:-1], data[:9], b""):
        moved.write_bytes(other)
        assert not stamped(moved)


def test_a_stamp_changes_no_pixel_no_frame_and_no_number(tmp_path):
    for name in ("a.png", "a.gif", "a.json"):
        write(tmp_path / name)
    with Image.open(tmp_path / "a.png") as found:
        found.verify()
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "a.png")), PICTURE)
    assert Image.open(tmp_path / "a.png").text["Software"].startswith("ncafast ")
    plain = tmp_path / "plain.gif"
    Image.fromarray(PICTURE).save(plain, save_all=True, append_images=[Image.fromarray(255 - PICTURE)], duration=70)
    before, times = iio.imread(plain), iio.immeta(plain)["duration"]
    stamp(plain)
    np.testing.assert_array_equal(iio.imread(plain), before)
    assert len(before) == 2 and iio.immeta(plain)["duration"] == times == 70
    found = json.loads((tmp_path / "a.json").read_text())
    assert found.pop("written_by").startswith("ncafast ") and found == FACTS


def test_the_stamp_of_an_mp4_is_a_box_that_players_pass_over(tmp_path):
    boxes = [(b"ftyp", b"isom\0\0\2\0"), (b"mdat", bytes(range(50))), (b"moov", b"index")]
    path = tmp_path / "a.mp4"
    path.write_bytes(b"".join(struct.pack(">I", 8 + len(body)) + kind + body for kind, body in boxes))
    stamp(path)
    assert stamped(path)
    data, found = path.read_bytes(), []
    while data:
        (size,) = struct.unpack(">I", data[:4])
        found.append((data[4:8], data[8:size]))
        data = data[size:]
    assert found[:3] == boxes and found[3][0] == b"free" and found[3][1].startswith(b"ncafast ") and len(found) == 4
    path.write_bytes(path.read_bytes().replace(b"index", b"Index"))
    assert not stamped(path)


@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
def test_a_stamp_changes_no_voxel_and_no_geometry(tmp_path, ending):
    path = write(tmp_path / f"a{ending}")
    found, source = nib.load(path), nib.load(tmp_path / f"image{ending}")
    back = nib.as_closest_canonical(found)
    np.testing.assert_array_equal(np.asarray(back.dataobj), LABELS)
    np.testing.assert_array_equal(found.affine, source.affine)
    assert found.get_data_dtype() == np.uint8 and found.shape == source.shape
    raw = path.read_bytes()
    plain = gzip.decompress(raw) if ending == ".nii.gz" else raw
    assert struct.unpack("<i", plain[:4]) == (348,) and len(plain) == 352 + LABELS.size
    # A correction by hand is its author's, though nibabel keeps the header.
    voxels = np.asarray(found.dataobj).copy()
    voxels[0, 0, 0] ^= 1
    nib.save(nib.Nifti1Image(voxels, found.affine, found.header), tmp_path / f"corrected{ending}")
    assert not stamped(tmp_path / f"corrected{ending}")


def test_a_nifti2_file_is_stamped_too(tmp_path):
    path = tmp_path / "a.nii"
    nib.save(nib.Nifti2Image(LABELS, np.eye(4)), path)
    assert not stamped(path)
    stamp(path)
    assert stamped(path)
    found = nib.load(path)
    np.testing.assert_array_equal(np.asarray(found.dataobj), LABELS)
    assert bytes(found.header["descrip"]).startswith(b"ncafast ")


def test_files_of_others_are_not_known(tmp_path):
    Image.fromarray(PICTURE).save(tmp_path / "a.png")
    Image.fromarray(PICTURE).save(tmp_path / "a.gif")
    image(tmp_path)
    (tmp_path / "a.json").write_text(json.dumps(FACTS))
    (tmp_path / "a.csv").write_text("patient,age\n1,2\n")
    (tmp_path / "empty.csv").write_text("")
    (tmp_path / "a.txt").write_text("ncafast")
    assert not any(map(stamped, tmp_path.iterdir()))


def obstacle(path: Path, kind: str) -> None:
    if kind == "folder":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind in ("link", "dangling"):
        if kind == "link":
            write(path.with_name("real.png"))
        path.symlink_to(path.with_name("real.png"))
    elif kind == "picture":
        Image.fromarray(PICTURE).save(path)
    else:
        write(path).chmod(0o444)


@pytest.mark.parametrize(
    ("kind", "said", "anyway"),
    [
        ("picture", "exists and was not written by ncafast, or changed since; give another --output, or --over", True),
        ("link", "exists and is a symbolic link; give another --output, or --overwrite to replace it", True),
        ("dangling", "exists and is a symbolic link", True),
        ("folder", "is a folder where a file is to be written; give another --output", False),
        ("fifo", "is not a regular file; give another --output", False),
        ("read-only", "exists and is read-only; make it writable or give another --output", False),
    ],
)
def test_what_stands_in_the_way_is_named(tmp_path, kind, said, anyway):
    path = tmp_path / "a.png"
    check_free("--output", [path], overwrite=False)
    obstacle(path, kind)
    for overwrite in (False, True):
        if overwrite and anyway:
            check_free("--output", [path], overwrite)
            continue
        with pytest.raises(ValueError, match=f"^--output: {path} {said}") as error:
            check_free("--output", [tmp_path / "free.png", path], overwrite)
        assert "\n" not in str(error.value)


def test_a_link_is_replaced_and_what_it_leads_to_stays(tmp_path):
    Image.fromarray(PICTURE).save(tmp_path / "real.png")
    before = (tmp_path / "real.png").read_bytes()
    (tmp_path / "a.png").symlink_to(tmp_path / "real.png")
    write_png(tmp_path / "a.png", 255 - PICTURE)
    assert (tmp_path / "real.png").read_bytes() == before and not (tmp_path / "a.png").is_symlink()


def test_a_failure_leaves_what_was_there(tmp_path):
    path = write(tmp_path / "a.png")
    before = path.read_bytes()
    with pytest.raises(RuntimeError), finished(path) as scratch:
        scratch.write_bytes(b"half")
        raise RuntimeError
    assert path.read_bytes() == before and [p.name for p in tmp_path.iterdir()] == ["a.png"]
    longest = tmp_path / ("x" * (os.pathconf(tmp_path, "PC_NAME_MAX") - 4) + ".png")
    assert stamped(write(longest))


def test_results_go_beside_the_model_and_none_takes_anothers_place(tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    (run / "best.safetensors").touch()
    assert beside(Path("scores"), run) == Path("scores")
    for place, name, first in (
        (run, "evaluation", run / "evaluation"),
        (run / "best.safetensors", "evaluation", run / "best-evaluation"),
        (run, "animation.gif", run / "animation.gif"),
        (run / "best.safetensors", "animation.gif", run / "best-animation.gif"),
    ):
        for number in ("", "-2", "-3"):
            found = beside(Path("<model>", name), place)
            assert found == first.with_name(f"{first.stem}{number}{first.suffix}")
            found.mkdir()


COMMANDS = [
    ("evaluate mednca --data {data}", "{o}", "scores.csv"),
    ("evaluate mednca --data {data}", "{o}", "worst.png"),
    ("predict mednca --input {data}/image.nii.gz", "{o}", "image.nii.gz"),
    ("predict mednca --input {data}", "{o}", "image.nii.gz"),
    ("predict mednca --input {data}/image.nii.gz", "{o}", "image.png"),
    ("predict mednca --input {data}/image.nii.gz", "{o}/a.nii.gz", "a.nii.gz"),
    ("predict mednca --uncertainty --input {data}/image.nii.gz", "{o}", "uncertainty/image_runs.nii.gz"),
    ("predict mednca --uncertainty --input {data}/image.nii.gz", "{o}/a.nii.gz", "a-uncertainty/report.json"),
    ("animate mednca --input {data}/image.nii.gz", "{o}/a.gif", "a.gif"),
    ("evaluate segmentation --data {data}", "{o}", "worst.png"),
    ("predict segmentation --input {data}", "{o}", "cat/1.png"),
    ("predict segmentation --input {data}/cat/1.png", "{o}", "overlays/1.png"),
    ("predict depth --input {data}", "{o}", "pictures/cat/1.png"),
    ("evaluate classification --data {data}", "{o}", "predictions.csv"),
    ("evaluate classification --data {data}", "{o}", "confusion.png"),
    ("predict classification --input {data}", "{o}", "cat/1.png"),
    ("predict classification --input {data}/cat/1.png", "{o}", "predictions.csv"),
    ("animate classification --input {data}/cat/1.png", "{o}/a.mp4", "a.mp4"),
    ("evaluate texture", "{o}", "texture.png"),
    ("animate texture", "{o}/a.png", "a.png"),
    ("animate texture", "{o}/a.gif", "a.gif"),
    ("evaluate growing", "{o}", "healing.json"),
    ("animate growing", "{o}/a.gif", "a.gif"),
    ("evaluate selfclassify --data {data}", "{o}", "scores.json"),
    ("predict selfclassify --input {data}/cat", "{o}", "1.png"),
    ("animate selfclassify --data {data}", "{o}/a.gif", "a.gif"),
]


@pytest.mark.parametrize(("words", "output", "name"), COMMANDS)
def test_no_command_replaces_a_file_of_the_user(tmp_path, capsys, words, output, name):
    """It says so before it reads the model, which does not exist here; but a Med-NCA says which files a case has."""
    if name.endswith(".mp4"):
        pytest.importorskip("imageio_ffmpeg")
    data, out = tmp_path / "data", tmp_path / "o"
    (data / "cat").mkdir(parents=True)
    image(data)
    Image.fromarray(PICTURE).save(data / "cat" / "1.png")
    theirs = out / name
    theirs.parent.mkdir(parents=True)
    theirs.write_text("mine")
    model, reads = tmp_path / "none", words.startswith("predict mednca")
    if reads:
        model = tmp_path / "model.safetensors"
        checkpoint.save(model, MedNCA(4, 4, (3, 3), (2, 2), 2), task="mednca", **metadata_of(Recipe(), 1))
    argv = [word.format(data=data) for word in words.split()]
    argv += ["--model", str(model), "--output", output.format(o=out)]
    assert cli.main(argv) == 1
    assert f"{theirs} exists and was not written by ncafast" in capsys.readouterr().err
    assert theirs.read_text() == "mine"
    assert cli.main([*argv, "--overwrite"]) == (0 if reads else 1)
    if reads:
        assert theirs.read_bytes() != b"mine"
    else:
        assert f"{model}: there is no such file or folder" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["curves.png", "history.csv", "split.json", "pictures/a.png", "a.safetensors"])
def test_a_new_run_replaces_nothing_in_its_folder(tmp_path, name):
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_text('{"my": "split"}')
    with pytest.raises(ValueError, match=f"^{tmp_path}: holds .*no config.json.*another folder with --output"):
        RunFolder(tmp_path).claim(Settings(output=tmp_path), {"train": {}, "held_out": {}})
    assert path.read_text() == '{"my": "split"}' and not (tmp_path / "config.json").exists()


def test_a_run_that_was_killed_while_it_began_begins_again(tmp_path):
    data = {"train": {"a": 1}, "held_out": {}}
    (tmp_path / "split.json").write_text(json.dumps(data))
    assert RunFolder(tmp_path).claim(Settings(output=tmp_path), data) is None
    assert RunFolder(tmp_path).claim(Settings(output=tmp_path), data) is None  # and is its own


def test_folds_and_searches_replace_no_table(tmp_path):
    (tmp_path / "results.csv").write_text("mine")
    for name in ("folds.json", "grid.json"):
        with pytest.raises(ValueError, match=rf"results.csv: is there already, but no {name}; give another folder"):
            claim(tmp_path, name, [], "other")
    assert [path.name for path in tmp_path.iterdir()] == ["results.csv"]


@pytest.mark.parametrize("content", [b"patient,age\n1,2\n", b"\xff\xfe\0x", b""])
def test_bench_adds_to_its_own_results_alone(tmp_path, content):
    options = parse(["--output", str(tmp_path)])
    path = tmp_path / "cpu.csv"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"^{path} is not a file of results.*--output, or --overwrite to replace it"):
        check_out(path, options)
    assert path.read_bytes() == content
    check_out(path, parse(["--output", str(tmp_path), "--overwrite"]))
    assert results.is_results(path) and results.read(path) == []
    check_out(path, options)
