"""What a user gets from pip: the wheel's contents and links, and an import with parts missing."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import nvcc
import pytest
import torch

import ncafast

ROOT = Path(__file__).resolve().parents[2]
SMOKE = ROOT / "tests" / "smoke.py"
SHIPPED = ["pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "LICENSE", "CHANGELOG.md"]


def run(*command: str | Path, cwd: Path = ROOT, **environment: str) -> str:
    """Run a command, with none of this package's variables but the given ones; what it prints is the message when it
    fails."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("NCAFAST_")}
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env={**kept, "PIP_DEFAULT_TIMEOUT": "300", "PIP_RETRIES": "10", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def copy_source(folder: Path) -> Path:
    """The source tree as a fresh clone has it, and leftovers of an older build in place."""
    folder.mkdir()
    for name in SHIPPED:
        shutil.copy(ROOT / name, folder)
    junk = shutil.ignore_patterns("__pycache__", "*.so", "_build.json")
    for name in ("csrc", "ncafast", "tests"):
        shutil.copytree(ROOT / name, folder / name, ignore=junk)
    for name in ("_C.older.so", "_CUDA.older.so"):
        (folder / "ncafast" / name).write_text("stale")
    (folder / "ncafast" / "_build.json").write_text('{"version": "stale"}')
    return folder


def build_wheel(source: Path, **environment: str) -> str:
    """Build a wheel beside the source with pip, isolated; return what was printed."""
    pip = (sys.executable, "-m", "pip", "wheel", "-v", "--no-deps")
    return run(*pip, "-w", source.parent, source, **environment)


def unpack(folder: Path) -> Path:
    """Unpack the one wheel in a folder."""
    (wheel,) = folder.glob("ncafast-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "installed")
    return folder / "installed"


def ask_native(folder: Path, expression: str) -> str:
    """Evaluate an expression with the `ncafast.native` of the wheel unpacked in `folder`.

    -S leaves .pth files unread: an editable install of the tree would fill the gaps of the wheel.
    """
    paths = [str(folder), *dict.fromkeys(sysconfig.get_path(key) for key in ("purelib", "platlib"))]
    code = f"import sys; sys.path[:0] = {paths};from ncafast import native; print(native.__file__); print({expression})"
    file, answer = run(sys.executable, "-S", "-c", code, cwd=folder).split("\n", 1)
    assert Path(file).is_relative_to(folder)
    return answer.strip()


def test_wheel_passes_the_smoke_test(installed):
    paths = [str(installed), *dict.fromkeys(sysconfig.get_path(key) for key in ("purelib", "platlib"))]
    begin = f"import runpy, sys; sys.path[:0] = {paths}; sys.argv[1:] = []"
    code = f"{begin}; runpy.run_path({str(SMOKE)!r}, run_name='__main__')"
    shown = run(sys.executable, "-S", "-c", code, cwd=installed)
    assert f" in {installed / 'ncafast'}, " in shown and shown.count("ok: ") == 5


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """The unpacked wheel of an isolated build, made from the source distribution."""
    folder = tmp_path_factory.mktemp("wheel")
    source = copy_source(folder / "source")
    run(
        sys.executable, "-m", "build", "--outdir", folder, source, NCAFAST_CUDA="0"
    )  # tests/backends/test_cuda_compiled.py has it
    return unpack(folder)


def test_wheel_holds_the_package_and_nothing_else(installed):
    assert {path.name.split("-")[0] for path in installed.iterdir()} == {"ncafast"}
    package = installed / "ncafast"
    source = {path.relative_to(ROOT) for path in (ROOT / "ncafast").rglob("*.py")}
    assert {path.relative_to(installed) for path in package.rglob("*.py")} == source
    assert (package / "py.typed").exists()
    models = {path.name for path in (ROOT / "ncafast" / "pretrained").glob("*.safetensors")}
    assert {path.name for path in (package / "pretrained").glob("*.safetensors")} == models != set()
    assert len(list(package.glob("_C.*"))) == 1
    assert not [*package.glob("*.older.so"), *package.glob("_CUDA.*")]


def test_wheel_says_what_was_built(installed):
    record = json.loads((installed / "ncafast" / "_build.json").read_text())
    assert record["version"] == ncafast.__version__
    assert record["cpu"]["built"] is True
    assert "-march=native" not in record["cpu"]["flags"]
    assert "-ffast-math" not in record["cpu"]["flags"]
    assert record["cuda"]["built"] is False
    assert record["cuda"]["reason"] == "switched off by NCAFAST_CUDA=0"
    assert (
        ask_native(installed, "native.cuda_reason()") == "ncafast._CUDA was not built: switched off by NCAFAST_CUDA=0"
    )
    assert ask_native(installed, "native.reason()") == "None"


def test_extension_links_to_neither_torch_nor_cuda(installed):
    (extension,) = (installed / "ncafast").glob("_C.*")
    linked = extension.read_bytes()  # names of needed libraries stand in the file as they are
    if shutil.which("ldd"):
        linked += run("ldd", extension).encode()
    for library in (b"libtorch", b"libc10", b"libcuda", b"libcudart", b"libpython"):
        assert library not in linked


def test_failing_compiler_still_installs_and_is_recorded(tmp_path):
    source = copy_source(tmp_path / "source")
    for other in (source / "csrc" / "cpu").glob("*.cpp"):
        other.unlink()  # they would be compiled all the same
    (source / "csrc" / "bind.cpp").write_text('#error "no such instruction"\n')
    shown = build_wheel(source, NCAFAST_CUDA="0")
    assert "WARNING: ncafast._C could not be compiled" in shown
    installed = unpack(tmp_path)
    assert not list((installed / "ncafast").glob("_C.*"))
    record = json.loads((installed / "ncafast" / "_build.json").read_text())
    assert record["cpu"]["built"] is False
    assert "no such instruction" in record["cpu"]["reason"]
    assert record["cuda"]["reason"] == "switched off by NCAFAST_CUDA=0"
    assert "no such instruction" in ask_native(installed, "native.reason()")
    assert ask_native(installed, "native.load()") == "None"


def test_parts_can_be_switched_off(tmp_path):
    build_wheel(copy_source(tmp_path / "source"), NCAFAST_CPU="0", NCAFAST_CUDA="0")
    installed = unpack(tmp_path)
    record = json.loads((installed / "ncafast" / "_build.json").read_text())
    assert not [*(installed / "ncafast").glob("_C.*"), *(installed / "ncafast").glob("_CUDA.*")]
    assert record["cpu"] == {"built": False, "reason": "switched off by NCAFAST_CPU=0"}
    assert record["cuda"]["reason"] == "switched off by NCAFAST_CUDA=0"


NO_COMPILERS = dict.fromkeys(("CC", "CXX", "LDSHARED", "LDCXXSHARED"), "/no/such/compiler")


def test_missing_compilers_still_install(tmp_path):
    """Neither a C++ compiler nor, on a PATH where none was, an nvcc."""
    found = [shutil.which("nvcc", path=folder) for folder in os.get_exec_path()]
    path = os.pathsep.join(f for f, nvcc in zip(os.get_exec_path(), found, strict=True) if nvcc is None)
    build_wheel(copy_source(tmp_path / "source"), PATH=path, CUDA_HOME="", **NO_COMPILERS)
    installed = unpack(tmp_path)
    assert not [*(installed / "ncafast").glob("_C.*"), *(installed / "ncafast").glob("_CUDA.*")]
    record = json.loads((installed / "ncafast" / "_build.json").read_text())
    assert record["cpu"]["built"] is record["cuda"]["built"] is False
    assert record["cpu"]["reason"] == "no C++ compiler was found (there is no /no/such/compiler)"
    assert record["cuda"]["reason"].startswith("no nvcc was found: neither in $CUDA_HOME, nor on PATH")


def test_pip_brings_nvcc_along_where_asked():
    code = "from setuptools import build_meta as b; print(*b.get_requires_for_build_wheel(), sep='\\n')"
    assert "nvidia" not in run(sys.executable, "-c", code)
    asked = run(sys.executable, "-c", code, NCAFAST_CUDA="wheels")
    versions = set(re.findall(r"^nvidia-[a-z-]+==([^;]+);", asked, re.M))
    assert asked.count("nvidia-") == 5 and versions == {"13.0.*"}  # of mixed versions none compiles


def test_without_a_gpu_no_cuda_kernels_are_compiled(monkeypatch, tmp_path):
    """Unless somebody asks for them; where PyTorch is a build for the CPU neither."""
    monkeypatch.setattr(nvcc.sysconfig, "get_path", lambda name: str(tmp_path))
    monkeypatch.setattr(nvcc, "_of_gpus", lambda: gpus)
    for name in ("NCAFAST_CUDA", "NCAFAST_CUDA_ARCHS"):
        monkeypatch.delenv(name, raising=False)
    gpus = ["90"]
    nvcc.check_wanted("nvcc")
    tmp_path.joinpath("torch").mkdir()
    for version, wanted in (("13.0", True), (None, False)):
        text = f"__version__ = '2.13.0'\ncuda: Optional[str] = {version!r}\nhip: Optional[str] = None\n"
        tmp_path.joinpath("torch", "version.py").write_text(text)
        assert nvcc.torch_is_for_cpu() is not wanted
    with pytest.raises(nvcc.NoCudaTorch, match="when ncafast was built, the installed PyTorch was a build for the CPU"):
        nvcc.check_wanted("nvcc")
    tmp_path.joinpath("torch", "version.py").unlink()
    gpus = []
    with pytest.raises(nvcc.Unavailable, match="when ncafast was built, no NVIDIA GPU of sm_80 or newer was found"):
        nvcc.check_wanted("nvcc")
    for name, value in (("NCAFAST_CUDA", "force"), ("NCAFAST_CUDA", "wheels"), ("NCAFAST_CUDA_ARCHS", "90")):
        with monkeypatch.context() as patch:
            patch.setenv(name, value)
            nvcc.check_wanted("nvcc")
    monkeypatch.setenv("NCAFAST_CUDA", "yes")
    with pytest.raises(nvcc.Unavailable, match="'yes' is not known: choose one of auto, force, wheels, 0"):
        nvcc.check_wanted("nvcc")


def test_failing_nvcc_still_installs_and_is_recorded(tmp_path):
    """A CUDA compiler that does not know what it is asked to compile for, and one that fails."""
    tools = tmp_path / "bin"
    tools.mkdir()
    tools.joinpath("nvcc").write_text(
        "#!/bin/sh\ncase $1 in\n--version) echo 'Cuda compilation tools, release 12.8' ;;\n"
        "--list-gpu-arch) printf 'compute_80\\ncompute_90\\n' ;;\n*) echo 'no such instruction'; exit 1 ;;\nesac\n"
    )
    tools.joinpath("nvcc").chmod(0o755)
    source = copy_source(tmp_path / "source")
    for asked, reason in (
        ("", "no such instruction"),
        ("75", "'75' is not among 80;90, which this nvcc knows"),
    ):
        command = (sys.executable, "setup.py", "-q", "build_ext", "--inplace")
        shown = run(
            *command,
            cwd=source,
            CUDA_HOME=str(tmp_path),
            NCAFAST_CUDA="force",
            NCAFAST_CUDA_ARCHS=asked,
            **NO_COMPILERS,
        )
        record = json.loads((source / "ncafast" / "_build.json").read_text())
        assert record["cuda"]["built"] is False
        assert record["cuda"]["nvcc_version"] == "Cuda compilation tools, release 12.8"
        assert reason in record["cuda"]["reason"]
        assert "WARNING: ncafast is installed without its CUDA kernels" in shown


def test_import_and_rollout_without_extension_and_triton(tmp_path):
    code = (
        "import sys; sys.modules['triton'] = None; sys.modules['ncafast._C'] = sys.modules['ncafast._CUDA'] = None;"
        "import ncafast, torch; torch.manual_seed(0);"
        "nca = ncafast.NCA(channels=4, hidden=8, zero_init=False);"
        f"torch.save(nca(torch.rand(1, 4, 5, 6), steps=2).detach(), {str(tmp_path / 'out.pt')!r});"
        "from ncafast import native; print(native.load(), native.reason())"
    )
    shown = run(sys.executable, "-c", code)
    *before, last = shown.splitlines()
    assert last.startswith("None ncafast._C cannot be imported")
    assert [line.split(": ")[1] for line in before if not line.startswith("  ")] == ["FallbackWarning"]
    torch.manual_seed(0)
    with ncafast.backends.use("reference"):
        nca = ncafast.NCA(channels=4, hidden=8, zero_init=False)
        expected = nca(torch.rand(1, 4, 5, 6), steps=2)
    assert torch.equal(torch.load(tmp_path / "out.pt"), expected)
