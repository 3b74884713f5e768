"""The loop: budgets, resuming bit for bit, early stop, memory, and what it refuses to go on with."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from killed_run import resumable
from toy_learner import ToyImages, ToyLearner

from vqi.detectors.learner import Schedule
from vqi.detectors.settings import Budget
from vqi.platform.devices import Compute
from vqi.platform.errors import BadInput, RunFailed
from vqi.platform.settings import read_settings
from vqi.training.batch_size import largest_batch
from vqi.training.checkpoints import Checkpoints, identity
from vqi.training.loop import Loop, Training
from vqi.training.order import batch_numbers, steps_per_epoch
from vqi.training.settings import LARGEST, TrainSettings

BUDGET = Budget(batch_size=4, epochs=3)
SCRIPT = Path(__file__).parent / "killed_run.py"


def trained(
    learner: ToyLearner, settings: TrainSettings, images: int = 10, precision: str = "float32", **options: Any
) -> Training:
    pictures = ToyImages(images)
    compute = Compute(precision=precision)
    return Loop(
        learner, pictures, name="toy", settings=settings, budget=BUDGET, compute=compute, seed=3, **options
    ).run(pictures)


def test_an_epoch_shows_every_image_once_and_every_epoch_in_another_order() -> None:
    epochs = [[n for step in range(3 * e, 3 * e + 3) for n in batch_numbers(10, 4, 0, step)] for e in range(3)]
    assert all(sorted(epoch) == list(range(10)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 3
    assert [batch_numbers(10, 4, 0, 4), batch_numbers(10, 4, 1, 4)][0] != batch_numbers(10, 4, 1, 4)


def test_a_last_batch_of_one_image_is_left_out() -> None:
    assert [steps_per_epoch(n, 4) for n in (1, 4, 5, 6, 9)] == [1, 1, 1, 2, 2]
    assert steps_per_epoch(5, 1) == 5


@pytest.mark.parametrize(
    ("settings", "steps", "stopped"),
    [
        (TrainSettings(), 9, "steps"),
        (TrainSettings(max_steps=5), 5, "steps"),
        (TrainSettings(max_epochs=2), 6, "steps"),
        (TrainSettings(max_steps=20, max_epochs=2), 6, "steps"),
        (TrainSettings(max_epochs=2, batch_size=2), 10, "steps"),
        (TrainSettings(max_seconds=1e-9), 1, "seconds"),
    ],
)
def test_budgets(settings: TrainSettings, steps: int, stopped: str) -> None:
    training = trained(ToyLearner(), settings)
    assert (training.steps, training.stopped) == (steps, stopped)
    assert training.points[-1]["step"] == steps
    assert training.images_per_second > 0


def test_the_loss_falls_and_what_is_frozen_stays() -> None:
    learner = ToyLearner()
    before = {name: value.clone() for name, value in learner.state_dict().items()}
    training = trained(learner, TrainSettings(max_epochs=40))
    first, last = training.points[0]["loss"], sum(point["loss"] for point in training.points[-10:]) / 10
    assert last < first / 4
    changed = {name for name, value in learner.state_dict().items() if not torch.equal(value, before[name])}
    assert not any(name.startswith("frozen.") for name in changed)
    assert {"body.0.weight", "head.weight", "mean"} <= changed
    assert training.points[0]["half"] == pytest.approx(training.points[0]["loss"] / 2)


def test_a_fixed_group_keeps_its_rate_and_the_others_follow_the_schedule() -> None:
    loop = Loop(
        ToyLearner(),
        ToyImages(8),
        name="toy",
        settings=TrainSettings(max_steps=4),
        budget=BUDGET,
        compute=Compute(),
        seed=0,
    )
    loop.run(ToyImages(8))
    assert [group["lr"] for group in loop.optimisation.optimiser.param_groups] == pytest.approx(
        [1e-2 * (1 - 3 / 4), 1e-2]
    )


def test_the_same_seed_gives_the_same_weights_and_another_seed_others() -> None:
    first, second = ToyLearner(), ToyLearner()
    trained(first, TrainSettings())
    trained(second, TrainSettings())
    assert all(
        torch.equal(a, b) for a, b in zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    )


def run_script(folder: Path, steps: int, pause: float = 0.0) -> subprocess.Popen[str]:
    command = [sys.executable, str(SCRIPT), str(folder), str(steps), str(pause)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def stopped_after(process: subprocess.Popen[str], steps: int, number: int) -> str:
    assert process.stdout
    for _ in range(steps):
        assert process.stdout.readline().strip() == "step"
    time.sleep(random.Random(steps).uniform(0, 0.06))
    process.send_signal(number)
    return process.communicate(timeout=60)[1]


@pytest.mark.slow
def test_a_run_killed_at_any_moment_and_resumed_ends_in_the_same_weights(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    whole = resumable(str(tmp_path / "whole"), 14)
    stopped_after(run_script(tmp_path / "killed", 14, 0.02), 4, signal.SIGKILL)
    stopped_after(run_script(tmp_path / "killed", 14, 0.02), 3, signal.SIGKILL)
    capfd.readouterr()
    assert resumable(str(tmp_path / "killed"), 14) == whole
    output, log = capfd.readouterr()
    assert "resumed at step" in log
    assert output.count("step") < 14


@pytest.mark.slow
def test_sigterm_writes_a_checkpoint_and_the_run_resumes(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    log = stopped_after(run_script(tmp_path, 12, 0.05), 3, signal.SIGTERM)
    assert "was told to stop at step" in log
    assert "the same run resumes from it" in log
    at = Checkpoints(str(tmp_path), "run", 2).latest()
    assert at is not None
    resumable(str(tmp_path), 12)
    output, log = capfd.readouterr()
    assert f"resumed at step {at.step}" in log
    assert output.count("step") == 12 - at.step


def test_only_the_last_checkpoints_are_kept_and_a_damaged_one_is_passed_over(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = Checkpoints(str(tmp_path), "run", 2)
    trained(ToyLearner(), TrainSettings(max_steps=6), checkpoints=kept, checkpoint_seconds=0.0)
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["step-000000005", "step-000000006"]
    tensors = tmp_path / "run" / "step-000000006" / "tensors.safetensors"
    tensors.write_bytes(tensors.read_bytes()[:-1] + b"\0")
    checkpoint = kept.latest()
    assert checkpoint is not None
    assert checkpoint.step == 5
    assert "step-000000006 cannot be read" in capsys.readouterr().err
    assert "learner.frozen.weight" not in checkpoint.tensors


def test_another_run_is_another_identity() -> None:
    assert identity({"seed": 0}) != identity({"seed": 1})
    assert identity({"a": 1, "b": 2}) == identity({"b": 2, "a": 1})


@pytest.mark.parametrize("kept", [True, False], ids=["checkpoints", "memory"])
def test_patience_ends_a_run_that_no_longer_gets_better_and_takes_the_best(tmp_path: Path, kept: bool) -> None:
    class Worse(ToyLearner):
        """Its held-out loss rises from the third epoch on."""

        rounds = 0

        def loss(self, views: Any) -> dict[str, torch.Tensor]:
            losses = super().loss(views)
            if not self.training:
                self.rounds += 1
                losses["loss"] = torch.tensor(float(abs(self.rounds - 3)))
            return losses

    learner, best = Worse(), Worse()
    checkpoints = Checkpoints(str(tmp_path), "run", 1) if kept else None
    settings = TrainSettings(max_epochs=50, patience=2)
    training = trained(learner, settings, stopping=ToyImages(4), checkpoints=checkpoints)
    assert (training.stopped, training.steps, training.best_step) == ("patience", 15, 9)
    # What it had learnt after nine of the steps of the same schedule.
    options: dict[str, Any] = {"compute": Compute(), "seed": 3, "stopping": ToyImages(4)}
    interrupted = Loop(best, ToyImages(10), name="toy", settings=settings, budget=BUDGET, **options)
    end_epoch = interrupted._end_epoch
    interrupted._end_epoch = lambda epoch: end_epoch(epoch) if epoch < 2 else (False, "enough")  # type: ignore[method-assign]
    interrupted._take_best = lambda: None  # type: ignore[method-assign]
    interrupted.run(ToyImages(10))
    assert interrupted.position.step == 9
    for name, value in learner.state_dict().items():
        assert torch.equal(value, best.state_dict()[name]), name


def test_patience_without_held_out_images_is_reported(capsys: pytest.CaptureFixture[str]) -> None:
    training = trained(ToyLearner(), TrainSettings(max_epochs=2, patience=1))
    assert (training.steps, training.best_step) == (6, 6)
    assert "train.patience is 1, and no images are held out to stop by" in capsys.readouterr().err


class Clock:
    """A clock that a step advances by so many seconds."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
        self.now, self.seconds = 1000.0, seconds
        monkeypatch.setattr("vqi.training.loop.time.monotonic", lambda: self.now)

    def learner(self) -> ToyLearner:
        clock = self

        class Timed(ToyLearner):
            expected: tuple[int, ...] = ()

            def begin_epoch(self, epoch: int, schedule: Schedule) -> None:
                super().begin_epoch(epoch, schedule)
                self.expected = (*self.expected, schedule.steps)

            def loss(self, views: Any) -> dict[str, torch.Tensor]:
                clock.now += clock.seconds
                return super().loss(views)

        return Timed()


def test_a_schedule_comes_to_its_end_with_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """30 of 300 steps fit into the time: the rate falls to its end in these, as it would in a budget of 30 steps."""
    learner = Clock(monkeypatch, seconds=2.0).learner()
    training = trained(learner, TrainSettings(max_steps=300, max_seconds=60.0))
    assert (training.steps, training.stopped) == (30, "seconds")
    rates = [point["learning_rate"] for point in training.points]
    assert rates == pytest.approx([1e-2 * (1 - step / 30) for step in range(30)], rel=0.02, abs=1e-4)
    # What is expected after the first epoch, by its speed.
    assert learner.expected[0] == 300
    assert set(learner.expected[1:]) == {30}


def test_a_time_budget_that_is_not_used_up_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    plain, timed = ToyLearner(), Clock(monkeypatch, seconds=2.0).learner()
    trained(plain, TrainSettings(max_steps=9))
    trained(timed, TrainSettings(max_steps=9, max_seconds=19.0))
    assert all(torch.equal(a, b) for a, b in zip(plain.state_dict().values(), timed.state_dict().values(), strict=True))


def test_a_run_that_is_out_of_time_learns_no_more_until_its_budget_grows(tmp_path: Path) -> None:
    def again(seconds: float) -> Training:
        return trained(
            ToyLearner(),
            TrainSettings(max_steps=3, max_seconds=seconds),
            checkpoints=Checkpoints(str(tmp_path), "run", 1),
        )

    runs = [again(seconds) for seconds in (1e-9, 1e-9, 1000)]
    assert [(run.steps, run.stopped) for run in runs] == [(1, "seconds"), (1, "seconds"), (3, "steps")]


def test_a_loss_that_is_no_number_stops_the_run_and_keeps_the_last_good_checkpoint(tmp_path: Path) -> None:
    kept = Checkpoints(str(tmp_path), "run", 2)

    class Explodes(ToyLearner):
        steps = 0

        def loss(self, views: Any) -> dict[str, torch.Tensor]:
            self.steps += 1
            self.explode_at = 0 if self.steps == 4 else -1
            return super().loss(views)

    with pytest.raises(
        RunFailed,
        match=r"The loss of toy is nan near step 4, so it learns no more; the last good checkpoint is in .*run",
    ):
        trained(Explodes(), TrainSettings(max_steps=9), checkpoints=kept, checkpoint_seconds=0.0)
    checkpoint = kept.latest()
    assert checkpoint is not None
    assert checkpoint.step == 3


def test_out_of_memory_halves_what_is_learnt_from_at_once_and_gives_the_same_gradients() -> None:
    class NoNorm(ToyLearner):
        def __init__(self) -> None:
            super().__init__(dropout=0.0)
            self.body[1] = torch.nn.Identity()

    whole, micro_batches = NoNorm(), NoNorm()
    micro_batches.largest_micro_batch = 2
    assert trained(whole, TrainSettings(max_steps=6)).micro_batches == 1
    assert trained(micro_batches, TrainSettings(max_steps=6)).micro_batches == 2
    for a, b in zip(whole.state_dict().values(), micro_batches.state_dict().values(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)
    micro_batches.largest_micro_batch, micro_batches.loss = 0, lambda views: (_ for _ in ()).throw(MemoryError())  # type: ignore[method-assign]
    with pytest.raises(RunFailed, match="runs out of memory with 4 images a step"):
        trained(micro_batches, TrainSettings(max_steps=6))


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_reduced_precision_learns(precision: str) -> None:
    training = trained(ToyLearner(), TrainSettings(max_epochs=40), precision=precision)
    assert sum(point["loss"] for point in training.points[-10:]) / 10 < training.points[0]["loss"] / 4


def test_the_largest_batch_size_is_computed(capsys: pytest.CaptureFixture[str]) -> None:
    learner = ToyLearner()
    before = {name: value.clone() for name, value in learner.state_dict().items()}
    size = largest_batch(learner, ToyImages(20, 64), torch.device("cpu"), 0)
    assert size == 16  # the largest power of two that 20 images give, on any machine with some MiB
    assert "batch size 16" in capsys.readouterr().err
    assert all(torch.equal(value, before[name]) for name, value in learner.state_dict().items())
    assert trained(ToyLearner(), TrainSettings(max_steps=2, batch_size=LARGEST)).batch_size == 8


def test_tracked_images_of_the_first_epoch_survive_a_resume(tmp_path: Path) -> None:
    kept = Checkpoints(str(tmp_path), "run", 1)
    calls: list[int] = []

    def track() -> dict[str, torch.Tensor]:
        calls.append(1)
        return {"maps": torch.full((2,), 5.0)}

    trained(ToyLearner(), TrainSettings(max_steps=4), checkpoints=kept, checkpoint_seconds=0.0, track=track)
    again = trained(ToyLearner(), TrainSettings(max_steps=4), checkpoints=kept, track=track)
    assert len(calls) == 1
    assert again.tracked["maps"].tolist() == [5.0, 5.0]


@pytest.mark.parametrize("wrong", [{"max_steps": -1}, {"batch_size": -2}, {"patience": -1}, {"processes": 0}])
def test_settings_out_of_range_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(BadInput, match=f"train.{next(iter(wrong))} is"):
        read_settings(TrainSettings, wrong, "train.")
