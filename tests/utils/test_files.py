"""The one writer of files: whole or not at all, and a full disk is named."""

from __future__ import annotations

import errno
import json
import os
import shutil

import numpy as np
import pytest

import ncafast
from ncafast import NCA, checkpoint, files


def full(*_):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.fixture
def free(monkeypatch):
    found = shutil.disk_usage(".")._replace(free=1234)
    monkeypatch.setattr(files.shutil, "disk_usage", lambda _: found)


def test_a_full_disk_names_file_folder_and_bytes(tmp_path, monkeypatch, free):
    (tmp_path / "a").write_bytes(b"old")
    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(OSError) as error:
        files.write_bytes(tmp_path / "a", b"x" * 5000)
    assert error.value.errno == errno.ENOSPC
    text = str(error.value)
    assert f"{tmp_path / 'a'}: no space is left" in text and f" of {tmp_path}: 5,000 bytes are needed" in text
    assert "6,234 are free" in text  # what the scratch file holds is free again
    assert (tmp_path / "a").read_bytes() == b"old" and len(list(tmp_path.iterdir())) == 1


def write_checkpoint(path):
    ncafast.save(path, NCA(4, 6))


def write_state(path):
    checkpoint.save_resume(path, {"step": 1})


def write_table(path):
    files.write_text(path, json.dumps([1, 2]))


def write_picture(path):
    from ncafast.viz.figures import write_png

    write_png(path.with_suffix(".png"), np.zeros((4, 5, 3), np.uint8))


def write_film(path):
    from ncafast.viz.animation import write_animation

    write_animation(path.with_suffix(".gif"), [np.zeros((4, 5, 3), np.uint8)])


@pytest.mark.parametrize("write", [write_checkpoint, write_state, write_table, write_picture, write_film])
def test_every_writer_is_this_one(write, tmp_path, monkeypatch, free):
    monkeypatch.setattr(files.os, "replace", full)
    with pytest.raises(OSError, match="no space is left on the disk") as error:
        write(tmp_path / "a.bin")
    assert str(tmp_path) in str(error.value) and not list(tmp_path.iterdir())


def test_another_error_stays_what_it_is(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(NotADirectoryError):
        files.write_text(tmp_path / "file" / "a", "text")
