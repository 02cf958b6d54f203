"""Cut a training off right after a save, in this process."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from ncafast.train import Result
from ncafast.train.run_folder import RunFolder


class PowerCut(BaseException):
    """No error that anything handles."""


def cut_at_every_save(
    train: Callable[[Any], Result], config: Any, saves: int, monkeypatch: pytest.MonkeyPatch
) -> Result:
    """Start `train(config)` again and again, each time cut off right after its next save, until all are done."""
    original = RunFolder.save_resume

    def save(self: RunFolder, state: dict[str, Any]) -> None:
        original(self, state)
        raise PowerCut

    with monkeypatch.context() as patch:
        patch.setattr(RunFolder, "save_resume", save)
        for _ in range(saves):
            with pytest.raises(PowerCut):
                train(config)
        return train(config)  # all is done, nothing more is saved
