"""What `ncafast info` prints: versions, backends, built parts, missing packages; or what a checkpoint holds.

Needs the core dependencies only. Everything that is missing is said with its reason.
"""

from __future__ import annotations

import importlib.util
import json
import os
import platform
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from ncafast import backends, checkpoint, native, parsers
from ncafast.backends import registry, trust
from ncafast.rule import Rule
from ncafast.versions import package_version, version

_CORE = ("torch", "numpy", "safetensors", "triton")
_IMPORT_NAMES = {"imageio-ffmpeg": "imageio_ffmpeg", "pillow": "PIL"}
_EXTRAS = {
    "cli": (
        "filelock",
        "imageio",
        "matplotlib",
        "nibabel",
        "pillow",
        "scipy",
        "tensorboard",
        "torchmetrics",
        "tqdm",
        "tyro",
    ),
    "tasks": ("torchvision",),
    "video": ("imageio-ffmpeg",),
    "demo": ("nilearn",),
}
_LONGEST = 160  # characters of a metadata entry that are shown
_MAIN_FIELDS = ("channels", "fire_rate", "hidden", "kernel_size", "norm", "padding")


def main(words: Sequence[str]) -> int:
    """`ncafast info [FILE]`. Returns the exit code; errors of a file as in `checkpoint.find` and `describe`."""
    file = parsers.info().parse_args(list(words)).file
    print("\n".join(_machine() if file is None else _checkpoint(file)))
    return 0


def versions() -> dict[str, str]:
    """Versions of ncafast, Python and the core packages, by name."""
    core = {name: package_version(name) for name in _CORE}
    core["torch"] = torch.__version__  # it names the CUDA version it was built for, which the package's does not
    return {"ncafast": version(), "python": platform.python_version(), **core, "cuda": _cuda()}


def _cuda() -> str:
    return torch.version.cuda or "none (this torch was built without)"


def _machine() -> list[str]:
    blocks = {
        "versions": versions().items(),
        "machine": _devices(),
        "backends, fastest first": _backends(),
        "compiled parts": _parts(),
        "optional packages": _extras(),
    }
    return [line for title, rows in blocks.items() for line in (*_block(title, rows), "")][:-1]


def _block(title: str, rows: Any) -> Iterator[str]:
    yield title
    rows = [(name, str(text).splitlines() or [""]) for name, text in rows]
    width = max((len(name) for name, _ in rows), default=0)
    for name, (first, *more) in rows:
        yield f"  {name:<{width}}  {first}"
        yield from (f"  {'':<{width}}  {line}" for line in more)


def _devices() -> Iterator[tuple[str, str]]:
    threads, cores = torch.get_num_threads(), os.cpu_count()
    features = torch.backends.cpu.get_cpu_capability()
    yield "cpu", f"{platform.machine()}, {features}, {cores} cores; torch uses {threads} of them"
    if not torch.cuda.is_available():
        yield "gpu", "none that torch can use"
    for index in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        found = torch.cuda.get_device_properties(index)
        memory = found.total_memory / 2**30
        yield f"gpu {index}", f"{found.name}, sm_{found.major}{found.minor}, {memory:.0f} GiB"


def _backends() -> Iterator[tuple[str, str]]:
    for name in backends.names():
        backend = backends.get(name)
        reason = backend.unavailable()
        plugin = registry.plugin(name)
        doubt = f" ({backend.UNVERIFIED})" if backend.UNVERIFIED else ""
        source = f", from {plugin.package}" if plugin is not None else ""
        devices = trust.devices(name) if reason is None else []
        rows = [line for device in devices for line in trust.report(name, device)]
        yield name, "\n".join([("yes" if reason is None else f"no: {reason}") + source + doubt, *rows])


def _parts() -> Iterator[tuple[str, str]]:
    """What the build recorded, and whether the extension could be loaded."""
    record = native.build_info()
    reason = native.reason()
    if reason is not None:
        yield "C++", f"no: {reason}"
    else:
        cpu = record.get("cpu", {})
        threads = "with OpenMP" if cpu.get("openmp") else "without OpenMP"
        yield "C++", f"yes: {cpu['compiler']}, {threads}" if "compiler" in cpu else "yes"
    cuda = record.get("cuda", {})
    nvcc = f" ({cuda['nvcc_version']})" if cuda.get("nvcc_version") else ""
    made = ", ".join(f"sm_{a}" for a in cuda.get("architectures", ()))
    yield "CUDA", f"yes: {made}{nvcc}" if cuda.get("built") else f"no: {native.cuda_build_reason()}{nvcc}"


def _extras() -> Iterator[tuple[str, str]]:
    for extra, packages in _EXTRAS.items():
        missing = [p for p in packages if importlib.util.find_spec(_IMPORT_NAMES.get(p, p)) is None]
        advice = f"missing {', '.join(missing)}; run: pip install 'ncafast[{extra}]'"
        yield extra, advice if missing else "yes"


def _checkpoint(path: Path) -> Iterator[str]:
    """Class, constructor arguments, rules and further metadata of a checkpoint."""
    path = checkpoint.find(path)
    header = checkpoint.describe(path)
    module = checkpoint.load(path)  # which says in one line what a damaged file lacks
    config = json.loads(header.pop("config"))
    count = sum(parameter.numel() for parameter in module.parameters())
    kind = {"model": header.pop("model"), "parameters": f"{count:,}", "ncafast": header.get("ncafast", "unknown")}
    yield from _block(str(path), kind.items())
    yield ""
    config |= config.pop("nca", {})  # of a Classifier
    arguments = {key: value for key, value in config.items() if key != "rule"}
    yield from _block("constructor arguments", arguments.items())
    for name, rule in _rules(module):
        yield ""
        yield from _block(f"rule{name} (fields not shown have their default)", _shown(rule))
    internal = ("format", "format_version", "ncafast")
    rest = {key: value for key, value in header.items() if key not in internal}
    if rest:
        yield ""
        yield from _block("metadata", ((key, _shortened(value)) for key, value in rest.items()))


def _shortened(text: str) -> str:
    """Without the middle of a long text, such as a table of numbers or an image."""
    if len(text) <= _LONGEST:
        return text
    return f"{text[: _LONGEST // 2]} ... ({len(text):,} characters)"


def _rules(module: torch.nn.Module) -> Iterator[tuple[str, Rule]]:
    several = getattr(module, "rules", None)
    if several is None:
        yield "", module.rule  # type: ignore[misc]
    else:
        yield from ((f" {number}", rule) for number, rule in enumerate(several, start=1))


def _shown(rule: Rule) -> list[tuple[str, str]]:
    """The main fields, and whatever differs from the default."""
    mine, plain = json.loads(rule.to_json()), json.loads(Rule().to_json())
    return [(k, json.dumps(v)) for k, v in mine.items() if k in _MAIN_FIELDS or v != plain.get(k)]
