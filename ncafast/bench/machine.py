"""What numbers belong to: processor, clock, threads, versions and revision."""

from __future__ import annotations

import importlib.util
import os
import platform
import re
import subprocess
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path

import torch

from ncafast import info

_PACKAGES = ("jax", "cax", "triton")


def device_name(device: torch.device) -> str:
    """The processor's name, with family and model where the name alone says little."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    facts = _cpuinfo()
    name = facts.get("model name") or platform.processor() or platform.machine()
    name = re.sub(r"\((R|TM|r|tm)\)", "", name)
    number = "-".join(facts[key] for key in ("cpu family", "model") if key in facts)
    capability = torch.backends.cpu.get_cpu_capability()
    details = ", ".join(part for part in (f"model {number}" if number else "", capability) if part)
    return f"{' '.join(name.split())} ({details})"


def slug(text: str) -> str:
    """The text as a file name: letters, digits and hyphens."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def clock_mhz() -> float | None:
    """The processor's clock now, the mean over cores; None where the system does not tell."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return None
    found = [float(value) for value in re.findall(r"^cpu MHz\s*: ([\d.]+)", text, re.MULTILINE)]
    return sum(found) / len(found) if found else None


def load() -> float | None:
    """How many processes wanted to run in the last minute; None where the system does not tell."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else None


def available_bytes(device: torch.device) -> int:
    """Memory that can be had now."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    try:
        found = re.search(r"^MemAvailable:\s+(\d+) kB", Path("/proc/meminfo").read_text(), re.MULTILINE)
        return int(found.group(1)) * 1024 if found else 2**33
    except OSError:
        return 2**33


def usable_cores() -> int:
    """Cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def versions() -> str:
    """Versions as one line: "ncafast 0.1.0; torch 2.13.0; ..."."""
    found = {"ncafast": info.version(), "python": platform.python_version(), "torch": torch.__version__}
    if torch.version.cuda:
        found["cuda"] = torch.version.cuda
    for name in _PACKAGES:
        if importlib.util.find_spec(name) is not None:
            found[name] = metadata.version(name)
    return "; ".join(f"{name} {version}" for name, version in found.items())


def revision() -> str:
    """The checkout's git revision, with "+" when files differ from it; "" outside a checkout."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return ""
    head = _git(root, "rev-parse", "--short=12", "HEAD")
    changed = _git(root, "status", "--porcelain", "--", "ncafast", "csrc", "setup.py")
    return head + ("+" if head and changed else "")


def now() -> str:
    """The present second, UTC."""
    return datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M:%S")


def _git(root: Path, *words: str) -> str:
    try:
        done = subprocess.run(["git", "-C", str(root), *words], capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def _cpuinfo() -> dict[str, str]:
    """The first processor's entries."""
    try:
        text = Path("/proc/cpuinfo").read_text().split("\n\n")[0]
    except OSError:
        return {}
    pairs = (line.split(":", 1) for line in text.splitlines() if ":" in line)
    return {key.strip(): value.strip() for key, value in pairs}
