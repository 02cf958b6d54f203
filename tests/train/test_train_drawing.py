"""Pictures of a training: as many as a tenth of its time allows, and those of the last epoch."""

from __future__ import annotations

import pytest
from short_training import STATES, loss, nca, settings

from ncafast.train import Job, drawing, run
from ncafast.train.drawing import Drawing


class Clock:
    now = 0.0

    def perf_counter(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch):
    found = Clock()
    monkeypatch.setattr(drawing, "time", found)
    return found


def drawn(clock: Clock, epochs: int, epoch: float, picture: float) -> list[int]:
    """The epochs after which pictures are drawn, and their time."""
    when, found = Drawing(), []
    for number in range(1, epochs + 1):
        clock.now += epoch
        if number == epochs or when.due():
            with when.epoch():
                for _ in range(2):
                    with when.timed():
                        clock.now += picture / 2
            found.append(number)
    return found


def test_long_epochs_have_pictures_each_and_quick_ones_seldom(clock):
    assert drawn(clock, 5, epoch=100.0, picture=1.0) == [1, 2, 3, 4, 5]
    found = drawn(clock, 400, epoch=0.2, picture=1.0)  # 80 s without the pictures
    assert found[-1] == 400 and len(found) <= 9 and found[0] >= 25
    assert drawn(clock, 3, epoch=0.01, picture=1.0) == [3]


class Drawn(Job):
    samples = len(STATES)

    def __init__(self, scores=()) -> None:
        self.model, self.drawn, self.scores = nca(), [], list(scores)

    def load(self, at):
        return STATES[at.micro_batch]

    def losses(self, batch, at):
        return loss(self.model, batch, at)

    def score(self, row):
        return self.scores[row["epoch"] - 1] if self.scores else super().score(row)

    def draw(self, history, best_epoch, report):
        assert report.draws
        self.drawn.append(report.epoch)


def test_a_quick_training_draws_the_last_epoch_alone(tmp_path):
    job = Drawn()
    run(job, settings(tmp_path, epochs=3, steps=(1, 1)))
    assert job.drawn == [3]


def test_the_epoch_after_which_nothing_better_came_is_drawn(tmp_path):
    job = Drawn([1.0, 3.0, 2.0, 1.0, 0.0, 0.0])
    done = run(job, settings(tmp_path, epochs=6, steps=(1, 1), patience=2))
    assert len(done.history) == 4 and job.drawn[-1] == 4
