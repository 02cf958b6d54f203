"""Whether a backend may be chosen by default: one for GPUs, or of another package, only after it passed a trial here.

A trial runs in a child process (`child`, `trial`), once per device model, driver, PyTorch, Triton, kernel sources,
precision and dtype of the states, and once per rule unless the backend is "cuda". Its verdict is kept on disk
(`verdicts`). NCAFAST_TRIAL=0 switches both off: then such backends run only where they are asked for by name.
"""

from __future__ import annotations

import datetime
import functools
import hashlib
import os
import sys
from collections.abc import Hashable
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import torch

from ncafast import native
from ncafast.backends import agreement, child, registry, trial_cases, verdicts
from ncafast.backends.precision import precision
from ncafast.backends.verdicts import Verdict
from ncafast.rule import Rule

CHECKED = ("cuda", "triton")  # built-in backends that need a verdict; all of other packages do
_LIMIT = child.START_LIMIT + child.RUN_LIMIT  # seconds that another process may take for a trial
_UNSEEN = "not checked on this machine yet: checked at first use, or by `ncafast check`"
_OFF = "not checked: NCAFAST_TRIAL=0 switches the check off"
_TOO_EARLY = (
    "not checked: ranks on several nodes cannot agree before torch.distributed.init_process_group; call that first"
)
_CAPTURING = "not checked yet, and a CUDA graph is being captured: run it once before the capture"


class Question(NamedTuple):
    """What is asked about: a backend with a rule, a GPU, a precision of `precision.PRECISIONS`, the states' dtype."""

    backend: str
    rule: Rule
    device: torch.device
    precision: str
    dtype: torch.dtype = torch.float32


_known: dict[Hashable, Verdict] = {}  # what this process has read or found out
_MOST_KNOWN = 4096  # questions that are remembered: fire rates may vary from call to call


def enabled() -> bool:
    """Whether trials are run and their verdicts used."""
    return os.environ.get("NCAFAST_TRIAL", "1") != "0"


def checked() -> list[str]:
    """The backends that need a verdict."""
    return [name for name in registry.names() if name in CHECKED or registry.plugin(name) is not None]


def reason_against(asked: Question, *, may_check: bool) -> str | None:
    """Why a backend is not chosen by default, or None where it may be.

    Args:
        asked: backend, rule, GPU and precision.
        may_check: run a trial where there is no verdict yet, which takes up to some minutes.
    """
    if asked.backend not in checked():
        return None
    if not enabled():
        return _OFF
    if agreement.is_too_early():
        return _TOO_EARLY
    verdict = look_up(asked)
    if verdict is None and may_check:
        verdict = Verdict("unchecked", _CAPTURING) if _is_capturing(asked.device) else _decide(asked)
    if verdict is None:
        return _UNSEEN
    return None if verdict.state == "passed" else verdict.describe()


def gpus() -> list[torch.device]:
    """One GPU of each model; the CPU where kernels run there, for tests."""
    if not torch.cuda.is_available():
        return [torch.device("cpu")]
    names: dict[str, torch.device] = {}
    for index in range(torch.cuda.device_count()):
        names.setdefault(torch.cuda.get_device_name(index), torch.device("cuda", index))
    return list(names.values())


def devices(name: str) -> list[torch.device]:
    """The devices that a backend is checked on: one GPU of each model, or the CPU, or both, as it is made for them."""
    plugin, cpu = registry.plugin(name), torch.device("cpu")
    if plugin is None or plugin.backend.DEVICE == "cuda":
        return gpus()
    return [cpu] if plugin.backend.DEVICE == "cpu" else list(dict.fromkeys([*gpus(), cpu]))


def look_up(asked: Question) -> Verdict | None:
    """The verdict that holds, if there is one. Starts no trial."""
    known = _cheap_key(asked)
    if known not in _known and not agreement.is_needed():  # where ranks must not differ, one of them reads the disk
        kept = verdicts.read(key(asked))
        if kept is None:
            return None
        _remember(asked, kept)
    return _known.get(known)


def check(name: str, rule: Rule | None, device: torch.device) -> Verdict:
    """Run a trial now, whatever the cache holds, and keep its verdict.

    Args:
        name: of the backend, one of `checked()`.
        rule: the rule to try. For "cuda", whose verdict is on all rules, None tries the fixed set; a single rule that
            passes leaves that verdict as it is, one that fails replaces it.
        device: of the GPU.
    """
    with verdicts.locked(_LIMIT):
        if name == "cuda" and rule is not None:
            asked = Question(name, rule, device, precision())
            verdict = _try(asked, [rule])
            return verdict if verdict.state in ("passed", "unchecked") else _keep(asked, verdict)
        asked = Question(name, rule or Rule(), device, precision())
        return _keep(asked, _try(asked, _rules(asked)))


def forget() -> None:
    """Forget what this process knows; the disk is asked again."""
    _known.clear()


def key(asked: Question) -> dict[str, str]:
    """Everything that a verdict depends on. The CUDA backend has one for all rules, Triton one for each."""
    parts = {**_parts(asked.backend, asked.device), "precision": asked.precision, "dtype": _dtype(asked)}
    return parts if asked.backend == "cuda" else {**parts, "rule": _compiled_form(asked.rule).to_json()}


def report(name: str, device: torch.device) -> list[str]:
    """A line for every verdict that holds for this GPU and version, whatever its precision and rule."""
    if name not in checked():
        return []
    if not enabled():
        return [_OFF]
    lines = []
    for found, verdict in verdicts.matching(_parts(name, device)):
        if "dtype" not in found:  # written by a version that asked less
            continue
        what = f", {Rule.from_json(found['rule']).summary()}" if "rule" in found else ""
        lines.append(f"{found['gpu']}, {found['dtype']} states, {found['precision']}{what}: {verdict.describe()}")
    return lines or [_UNSEEN]


@functools.cache
def kernel_hash(name: str) -> str:
    """Of the CUDA extension's file, of Triton's kernel sources, or of another package's version and module."""
    content = hashlib.sha256()
    plugin = registry.plugin(name)
    if plugin is not None:
        content.update(plugin.package.encode())
        files = [Path(str(getattr(sys.modules.get(plugin.module), "__file__", "")))]
    elif name == "cuda":
        files = [Path(str(getattr(native.load_cuda(), "__file__", "")))]
    else:
        files = sorted(Path(__file__).with_name("triton_kernels").glob("*.py")) + [
            Path(__file__).with_name("triton.py")
        ]
    for file in files:
        content.update(file.read_bytes() if file.is_file() else b"")
    return content.hexdigest()[:16]


@functools.cache
def _machine(device: torch.device) -> dict[str, str]:
    versions = {"torch": torch.__version__, "triton": _version("triton")}
    if device.type != "cuda":
        capability = torch.backends.cpu.get_cpu_capability()
        return {"gpu": "the CPU", "capability": capability, "driver": "", **versions}
    properties: Any = torch.cuda.get_device_properties(device)
    return {
        "gpu": str(properties.name),
        "capability": f"{properties.major}.{properties.minor}",
        "driver": _driver(),
        **versions,
    }


def _parts(name: str, device: torch.device) -> dict[str, str]:
    return {"backend": name, **_machine(device), "kernels": kernel_hash(name)}


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "none"


def _driver() -> str:
    """The version of the CUDA driver's interface, and of the kernel module where the system tells it."""
    version = str(torch._C._cuda_getDriverVersion())  # type: ignore[attr-defined]
    try:
        return f"{version} {Path('/proc/driver/nvidia/version').read_text(encoding='utf-8').splitlines()[0]}"
    except (OSError, IndexError, UnicodeDecodeError):
        return version


def _compiled_form(rule: Rule) -> Rule:
    """The rule with the numbers that kernels take at run time set to one value, so that these need no new trial."""
    rate = 0.5 if 0 < rule.fire_rate < 1 else rule.fire_rate
    return rule.replace(fire_rate=rate, step_size=1.0)


def _dtype(asked: Question) -> str:
    """The name of the states' dtype."""
    return str(asked.dtype).removeprefix("torch.")


def _cheap_key(asked: Question) -> Hashable:
    """What a verdict is remembered by: cheap, since every rollout asks."""
    rule = "" if asked.backend == "cuda" else asked.rule.to_json()
    return asked.backend, rule, asked.device, asked.precision, asked.dtype


def _remember(asked: Question, verdict: Verdict) -> None:
    if len(_known) >= _MOST_KNOWN:
        _known.clear()
    _known[_cheap_key(asked)] = verdict


def _decide(asked: Question) -> Verdict:
    """The verdict from a trial, or from another process that runs or ran it."""
    found = key(asked)

    def decide() -> Verdict:
        with verdicts.locked(_LIMIT):
            kept = verdicts.read(found)  # of a process that held the lock before
            return kept if kept is not None else _keep(asked, _try(asked, _rules(asked)))

    verdict = agreement.agreed(f"ncafast/trial/{verdicts.digest(found)}", decide, _LIMIT)
    _remember(asked, verdict)
    return verdict


def _rules(asked: Question) -> list[Rule]:
    """What the default trial of a backend runs."""
    return trial_cases.matrix() if asked.backend == "cuda" else [_compiled_form(asked.rule)]


def _try(asked: Question, rules: list[Rule]) -> Verdict:
    _announce(asked.backend, len(rules), asked.device)
    request = {
        "backend": asked.backend,
        "rules": [rule.to_json() for rule in rules],
        "device": str(asked.device),
        "precision": asked.precision,
        "dtype": _dtype(asked),
    }
    return child.run(request)._replace(date=datetime.date.today().isoformat())


def _keep(asked: Question, verdict: Verdict) -> Verdict:
    """Remember the verdict; on disk too, unless it is that nothing could be checked."""
    _remember(asked, verdict)
    if verdict.state != "unchecked":
        try:
            verdicts.write(key(asked), verdict)
        except OSError as error:
            print(
                f"ncafast: {verdicts.file()}: the result of the check cannot be kept ({error.strerror}); it holds for "
                "this process. NCAFAST_CACHE names another folder",
                file=sys.stderr,
            )
    return verdict


def _announce(name: str, count: int, device: torch.device) -> None:
    what = "1 rule" if count == 1 else f"{count} rules"
    gpu = _machine(device)["gpu"]
    print(
        f"ncafast: checking the {name} backend on {gpu} with {what}, once per device model and version (takes up to "
        "some minutes; NCAFAST_TRIAL=0 skips it)",
        file=sys.stderr,
        flush=True,
    )


def _is_capturing(device: torch.device) -> bool:
    return device.type == "cuda" and torch.cuda.is_current_stream_capturing()
