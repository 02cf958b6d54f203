"""Random choices as pure functions of what they are for, so that a stopped run goes on to the same
bits."""

from __future__ import annotations

import hashlib
import json

import torch


def mix(*parts: int | str) -> int:
    """A number from 0 to 2**63 - 1 that depends on all parts and their order alone."""
    text = json.dumps(parts)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator(*parts: int | str) -> torch.Generator:
    """A CPU generator seeded with mix(*parts)."""
    return torch.Generator().manual_seed(mix(*parts))
