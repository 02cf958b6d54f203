"""Builds the CPU backend as a program, for this processor or another one."""

from __future__ import annotations

import subprocess
from pathlib import Path

import objects

ROOT = Path(__file__).resolve().parents[3]
ENGINE = ROOT / "csrc" / "cpu"


def built(name: str, compiler: str, *flags: str) -> Path:
    """The program of this checkout's sources, built once for all processes that test; its path.

    Args:
        name: of its folder in build/, where its objects lie too.
        compiler: GCC or Clang, for whatever processor.
        flags: more of its flags, of compiling and linking.
    """
    from filelock import FileLock

    folder = ROOT / "build" / name
    folder.mkdir(parents=True, exist_ok=True)
    command = [compiler, "-std=c++17", "-fopenmp", *flags]
    sources = [Path(__file__).with_name("main.cpp"), *sorted(ENGINE.glob("*.cpp"))]
    folders = [ROOT / "csrc", ENGINE]
    with FileLock(folder / ".lock"):
        includes = [f"-I{place}" for place in folders]
        made = objects.compiled(sources, [*command, *includes], folders, folder, output(compiler, "--version"))
        program = folder / "program"
        output(*command, *map(str, made), "-o", f"{program}.part")
        return Path(f"{program}.part").replace(program)  # others may be running it


def output(*command: str) -> str:
    """What a command prints; RuntimeError with all of it when it fails."""
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}\n{done.stdout}{done.stderr}")
    return done.stdout.strip()
