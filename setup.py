"""Builds the native parts of ncafast and writes down what was built; all else is in pyproject.toml.

Nothing here needs torch, and no part has to succeed: without a compiler the package installs as
pure Python, without nvcc with no CUDA kernels, and `ncafast/_build.json` keeps the reasons, which
`ncafast info` prints.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

sys.path.insert(0, str(Path("csrc").resolve()))  # pip keeps the folder of setup.py off the path
import nvcc  # noqa: E402
import objects  # noqa: E402
import readme  # noqa: E402

MSVC = ["/O2", "/std:c++17", "/EHsc", "/we4062"]  # the last one: as -Werror=switch
UNIX = ["-O3", "-g", "-std=c++17", "-fvisibility=hidden", "-Werror=switch"]  # every case of an enum is there


class BuildNative(build_ext):
    """build_ext that survives a failing compiler and records what happened in _build.json."""

    def run(self) -> None:
        """Build, in place or not, and put the record beside the extension."""
        self.cpu: dict[str, object] = {"built": False, "reason": "the build was skipped"}
        self.cuda: dict[str, object] = {"built": False, "reason": "the build was skipped"}
        super().run()
        for name, part in (("_C", self.cpu), ("_CUDA", self.cuda)):
            for stale in self.package_dir().glob(f"{name}.*") if not part["built"] else ():
                stale.unlink()  # an older build must not pass for this
        record = {
            "version": self.distribution.get_version(),
            "python": platform.python_version(),
            "platform": sysconfig.get_platform(),
            "cpu": self.cpu,
            "cuda": self.cuda,
        }
        text = json.dumps(record, indent=2) + "\n"
        self.package_dir().joinpath("_build.json").write_text(text)

    def package_dir(self) -> Path:
        """Return the folder that the extension goes to."""
        source = self.get_finalized_command("build_py").get_package_dir("ncafast")
        package = Path(source) if self.inplace else Path(self.build_lib, "ncafast")
        package.mkdir(parents=True, exist_ok=True)
        return package

    def build_extension(self, ext: Extension) -> None:
        """Compile and link; on failure go on without, loudly."""
        if ext.name == "ncafast._CUDA":
            self.build_cuda(ext)
            return
        if os.environ.get("NCAFAST_CPU") == "0":
            self.cpu = {"built": False, "reason": "switched off by NCAFAST_CPU=0"}
            return
        printed: list[str] = []
        try:
            with kept_stderr(printed):
                openmp = self.configure(ext)
                if self.compiler.compiler_type == "unix":
                    ext.extra_objects, ext.sources = [str(made) for made in self.compile_cpu(ext)], []
                    self.force = True  # no time of a file tells whether the module holds these objects
                super().build_extension(ext)
        except Exception as error:  # a compiler can fail in more ways than can be listed
            self.give_up(ext, self.failure(error, "\n".join(printed).strip()))
        else:
            self.cpu = {
                "built": True,
                "compiler": self.compiler_version(),
                "flags": ext.extra_compile_args,
                "openmp": openmp,
            }

    def build_cuda(self, ext: Extension) -> None:
        """Compile the kernels with nvcc and the binding with the C++ compiler, or note why not."""
        compiler = nvcc.find()
        self.cuda = {"built": False, "nvcc": compiler}
        try:
            nvcc.check_wanted(compiler)
            if self.compiler.compiler_type != "unix":
                raise nvcc.Unavailable("the CUDA kernels are built on Linux only")
            self.cuda["nvcc_version"] = first_line([compiler, "--version"], contains="release")
            self.cuda["architectures"] = wanted = nvcc.architectures(compiler)
            host = os.environ.get("CXX")
            parts = nvcc.compile_all(compiler, wanted, Path("build", "cuda"), host)
            parts += self.compile_binding(ext)
            made = Path(self.get_ext_fullpath(ext.name))
            made.parent.mkdir(parents=True, exist_ok=True)
            nvcc.link(compiler, parts, made, host)
        except nvcc.Unavailable as error:
            self.cuda |= {"reason": str(error), "torch_is_for_cpu": isinstance(error, nvcc.NoCudaTorch)}
            if "nvcc_version" in self.cuda:  # there was an attempt
                print(f"\nWARNING: ncafast is installed without its CUDA kernels.\n{error}\n", file=sys.stderr)
        else:
            self.cuda["built"] = True

    def compile_cpu(self, ext: Extension) -> list[Path]:
        """Compile the sources of the CPU's kernels and their binding."""
        import pybind11

        include = [f"-I{folder}" for folder in [*ext.include_dirs, *self.include_dirs]]
        command = [*self.compiler.compiler_so_cxx, *ext.extra_compile_args, *include]
        versions = f"{self.compiler_version()}, Python {sys.version}, pybind11 {pybind11.__version__}"
        ours = [Path("csrc"), Path("csrc", "cpu")]
        made = Path("build", "cpu", sys.implementation.cache_tag)  # one per Python, none removes the others
        return objects.compiled(list(map(Path, ext.sources)), command, ours, made, versions)

    def compile_binding(self, ext: Extension) -> list[Path]:
        """Compile what stands between Python and the kernels."""
        import pybind11

        printed: list[str] = []
        include_dirs = [*ext.include_dirs, pybind11.get_include(), *self.include_dirs]
        try:
            with kept_stderr(printed):
                parts = self.compiler.compile(
                    ext.sources, output_dir=self.build_temp, include_dirs=include_dirs, extra_postargs=UNIX
                )
        except Exception as error:  # a compiler can fail in more ways than can be listed
            raise nvcc.Unavailable("\n".join([str(error), *printed]).strip()) from error
        return [Path(name) for name in parts]

    def configure(self, ext: Extension) -> bool:
        """Set flags and include paths for the compiler at hand; return whether it has OpenMP."""
        import pybind11

        ext.include_dirs.append(pybind11.get_include())
        msvc = self.compiler.compiler_type == "msvc"
        openmp = "/openmp" if msvc else "-fopenmp"
        found = self.links_with(openmp)
        ext.extra_compile_args = (MSVC if msvc else UNIX) + [openmp] * found
        ext.extra_link_args = [openmp] * (found and not msvc)
        return found

    def links_with(self, flag: str) -> bool:
        """Return whether a shared library that calls OpenMP can be made with this flag."""
        with tempfile.TemporaryDirectory() as folder, contextlib.suppress(Exception):
            source = Path(folder, "probe.cpp")
            source.write_text("#include <omp.h>\nint probe() { return omp_get_max_threads(); }\n")
            with kept_stderr([]):
                objects = self.compiler.compile([str(source)], output_dir=folder, extra_postargs=[flag])
                link_args = [] if self.compiler.compiler_type == "msvc" else [flag]
                self.compiler.link_shared_object(
                    objects, str(Path(folder, "probe")), extra_postargs=link_args, target_lang="c++"
                )
            return True
        return False

    def give_up(self, ext: Extension, message: str) -> None:
        """Record and say why the extension is missing."""
        self.cpu = {"built": False, "compiler": self.compiler_version(), "reason": message}
        print(
            f"\nWARNING: {ext.name} could not be compiled. ncafast is installed without its C++ "
            f"kernels and runs on the slower reference backend.\n{message}\n",
            file=sys.stderr,
        )

    def failure(self, error: Exception, printed: str) -> str:
        """A sentence that says why compiling failed; on further lines what the compiler said."""
        command = self.compiler_command()
        if self.compiler.compiler_type == "unix" and shutil.which(command) is None:
            return f"no C++ compiler was found (there is no {command})"
        all_said = "\n".join(text for text in (str(error), printed) if text)
        said = next((line.strip() for line in all_said.splitlines() if "error" in line.lower()), "")
        first = f"the C++ compiler {command} failed" + (f": {said}" if said else "")
        return f"{first}\n{all_said}"

    def compiler_command(self) -> str:
        """The C++ compiler as it is called."""
        command = getattr(self.compiler, "compiler_so_cxx", None) or ["cl"]
        return str(command[0])

    def compiler_version(self) -> str:
        """First line of the compiler's --version, or its kind where it has none."""
        return first_line([self.compiler_command(), "--version"]) or self.compiler.compiler_type


def first_line(command: list[str], contains: str = "") -> str | None:
    """Return the first line with `contains` that a command prints, None when it cannot be run."""
    try:
        text = subprocess.run(command, capture_output=True, text=True, timeout=60).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    return next((line.strip() for line in text.splitlines() if contains in line), None)


@contextlib.contextmanager
def kept_stderr(printed: list[str]) -> Iterator[None]:
    """Append to `printed` what this process and the programs it starts write to stderr."""
    sys.stderr.flush()
    original = os.dup(2)
    with tempfile.TemporaryFile() as file:
        os.dup2(file.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(original, 2)
            os.close(original)
            file.seek(0)
            printed.append(file.read().decode(errors="replace"))


repository = os.environ.get("NCAFAST_REPOSITORY")  # address of a web page; the release workflow knows it
page = Path("README.md").read_text(encoding="utf-8")

setup(
    long_description=readme.with_absolute_links(page, repository) if repository else page,
    long_description_content_type="text/markdown",
    project_urls={"Repository": repository} if repository else {},
    ext_modules=[
        Extension(
            "ncafast._C",
            sources=["csrc/bind.cpp", *sorted(str(path) for path in Path("csrc/cpu").rglob("*.cpp"))],
            depends=sorted(str(path) for path in Path("csrc").rglob("*.h")),
            include_dirs=["csrc", "csrc/cpu"],
            language="c++",
            optional=True,  # setuptools then accepts that the file is missing
        ),
        Extension(
            "ncafast._CUDA",
            sources=["csrc/bind_cuda.cpp"],
            include_dirs=["csrc"],
            language="c++",
            optional=True,
        ),
    ],
    cmdclass={"build_ext": BuildNative},
    setup_requires=nvcc.WHEELS if nvcc.from_wheels() else [],  # pip puts them beside the build requirements
)
