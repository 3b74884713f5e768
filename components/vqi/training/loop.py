"""The training loop: plain PyTorch, the same for every learner.

Everything that happens at a step follows from the seed and the step (`order.py`), so a run that was killed at any
moment and resumed from its last checkpoint ends, on the CPU, in the very weights of an uninterrupted one. Where a time
budget ends the run, its schedule follows the clock, and no two runs are the same.
"""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from types import FrameType

import torch
from torch import Tensor

from vqi.detectors.interface import ImageBatches
from vqi.detectors.learner import Learner, Schedule, TrainingImages, Views
from vqi.evaluation.training_summary import Point
from vqi.platform.devices import Compute, is_out_of_memory
from vqi.platform.errors import RunFailed, VqiError
from vqi.platform.logs import logger
from vqi.platform.progress import Progress
from vqi.training.batch_size import largest_batch
from vqi.training.checkpoints import Checkpoint, Checkpoints, load_optimiser, optimiser_state
from vqi.training.distributed import Group, SynchronisedBatchNorm
from vqi.training.history import History
from vqi.training.layouts import lay_out_gradients
from vqi.training.order import batch_numbers, generator, step_seed, steps_per_epoch
from vqi.training.prefetching import Prefetcher
from vqi.training.record import LoopRecord
from vqi.training.settings import LARGEST, HasBudget, TrainSettings

log = logger(__name__)

# At most so often is a checkpoint written, seconds.
CHECKPOINT_SECONDS = 60.0
# On an accelerator, reading the loss back makes it wait for the device.
STEPS_BETWEEN_CHECKS = 10


@dataclass(frozen=True)
class Training:
    """How a run went. `stopped` says what ended it: the budget that ran out (steps, seconds), patience, or the learner
    itself (satisfied).

    `points`: the history, means of every loss over stretches of steps. `best_step`: that of the smallest held-out loss;
    the last one where nothing is held out. `tracked`: what `observe` returned at the first epoch's end.
    `waited_share`: the part of the time that steps stood waiting for data.
    """

    steps: int
    epochs: float
    batch_size: int
    micro_batches: int
    processes: int
    precision: str
    seconds: float
    images_per_second: float
    waited_share: float
    stopped: str
    best_step: int
    points: list[dict[str, float]]
    tracked: dict[str, Tensor] = field(default_factory=dict)

    @property
    def record(self) -> LoopRecord:
        """Without the tensors."""
        values = {key: value for key, value in vars(self).items() if key not in ("tracked", "points")}
        return LoopRecord(**values, points=tuple(Point(**point) for point in self.points))


@dataclass
class _Position:
    """Where a run stands: what a checkpoint holds beside the learner and the optimiser. `ended`: what ended it for good
    before its budget did."""

    step: int = 0
    batch_size: int = 0
    micro_batches: int = 1
    seconds: float = 0.0
    best: float = math.inf
    best_step: int = 0
    epochs_without_better: int = 0
    epoch_loss: float = 0.0
    epoch_steps: int = 0
    ended: str = ""


class Loop:
    """One run of one learner. `record` is told every point of the history (with MLflow in mind), `observe` looks at the
    learner at the first epoch's end. `stopping`: held-out images whose loss decides what is best and when patience is
    over. `run` holds the checkpoints, or None.
    """

    def __init__(
        self,
        learner: Learner,
        images: TrainingImages,
        *,
        name: str,
        settings: TrainSettings,
        budget: HasBudget,
        compute: Compute,
        seed: int,
        stopping: TrainingImages | None = None,
        checkpoints: Checkpoints | None = None,
        group: Group | None = None,
        record: Callable[[dict[str, float]], None] | None = None,
        track: Callable[[], dict[str, Tensor]] | None = None,
        checkpoint_seconds: float = CHECKPOINT_SECONDS,
    ) -> None:
        self.learner, self.images, self.name, self.settings, self.budget = learner, images, name, settings, budget
        self.compute, self.seed, self.stopping, self.checkpoints = compute, seed, stopping, checkpoints
        self.group = group or Group()
        self.record, self.track, self.checkpoint_seconds = record, track, checkpoint_seconds
        self.device = next(learner.parameters()).device
        self.position = _Position()
        self.tracked: dict[str, Tensor] = {}
        self.interrupted = False
        # The best weights, on the CPU, where there are no checkpoints to keep them.
        self.best: dict[str, Tensor] | None = None
        # Whether the store of checkpoints has shown that it takes them.
        self.kept = False

    def run(self, normals: ImageBatches, tuning: ImageBatches | None = None) -> Training:
        """Train to the end of the budget, from the last checkpoint where there is one. `normals` are what `prepare`
        takes; `finish` takes `tuning`, or `normals` where it is None.

        Raises RunFailed where the loss is no longer a number, memory does not suffice for one image, or SIGTERM or
        SIGINT came: the checkpoint is written then, and the same call resumes.
        """
        checkpoint = self.checkpoints.latest() if self.checkpoints else None
        if not self.group.agrees(checkpoint.step if checkpoint else -1, self.device):
            raise RunFailed(
                f"The {self.group.size} processes do not see the same checkpoint; train.checkpoints must be one place "
                "that all of them read."
            )
        self.kept = checkpoint is not None
        self.schedule = self._schedule(checkpoint)
        if checkpoint is None:
            self.learner.prepare(normals)
        self.batch_norm = SynchronisedBatchNorm(self.learner) if self.group.size > 1 else None
        self.optimisation = self.learner.optimisation(self.schedule)
        for group in self.optimisation.optimiser.param_groups:
            group.setdefault("initial_lr", group["lr"])
        precision = self.compute.precision
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=precision == "float16")
        self.history = History(self.schedule.steps)
        if checkpoint is not None:
            self._restore(checkpoint)
        self.group.share(self.learner.state_dict().values())
        if self.settings.patience and self.stopping is None and self.group.rank == 0:
            log.warning(
                f"{self.name}: train.patience is {self.settings.patience}, and no images are held out to stop by: "
                "learning ends with its other budgets, and its last weights are taken"
            )
        with self._handle_signals():
            stopped, waited, seconds, images = self._learn()
        self._take_best()
        self.learner.eval()
        with torch.no_grad():
            self.learner.finish(tuning if tuning is not None else normals)
        step = self.position.step
        return Training(
            steps=step,
            epochs=round(step / self.schedule.steps_per_epoch, 3),
            batch_size=self.schedule.batch_size,
            micro_batches=self.position.micro_batches,
            processes=self.group.size,
            precision=precision,
            seconds=round(self.position.seconds, 3),
            images_per_second=round(images / seconds, 3) if seconds else 0.0,
            waited_share=round(waited / seconds, 4) if seconds else 0.0,
            stopped=stopped,
            best_step=self.position.best_step if self.stopping is not None else step,
            points=self.history.points,
            tracked=self.tracked,
        )

    def _take_best(self) -> None:
        """Go back to the weights of the smallest held-out loss, where there is one and learning went on after it."""
        if not self.settings.patience or self.stopping is None or self.position.best_step == self.position.step:
            return
        if self.best is not None:
            self.learner.load_state_dict(self.learner.state_dict() | self.best)
        elif self.checkpoints and (best := self.checkpoints.best()):
            self._load_learner(best.tensors)

    def _schedule(self, checkpoint: Checkpoint | None) -> Schedule:
        size = self.settings.batch_size or self.budget.batch_size
        if checkpoint:
            size = checkpoint.state["position"]["batch_size"]
        elif size == LARGEST:
            size = largest_batch(self.learner, self.images, self.device, self.seed)
        size = self.group.smallest(min(size, len(self.images)), self.device)
        if size < self.group.size:
            raise RunFailed(
                f"{self.group.size} processes cannot share a batch of {size}; lower train.processes or train.nodes, or "
                "raise train.batch_size."
            )
        self.position.batch_size = size
        epoch = steps_per_epoch(len(self.images), size)
        return Schedule(self.settings.steps(self.budget, epoch), epoch, size)

    def _learn(self) -> tuple[str, float, float, int]:
        """Steps until the end: what stopped them, seconds waited for data, seconds in all, images seen (both since this
        process began)."""
        position, schedule = self.position, self.schedule
        if ended := position.ended or ("seconds" if self._out_of_time() else ""):
            return ended, 0.0, 0.0, 0
        first, begun, before = position.step, time.monotonic(), position.seconds
        saved, images = begun, 0
        progress = Progress(f"{self.name}: step", schedule.steps, begun=first)
        prefetcher = Prefetcher(self._views, first, schedule.steps)
        stopped = "steps"
        if first < schedule.steps:
            self.learner.begin_epoch(first // schedule.steps_per_epoch, self._expected(first))
            self.learner.train()
        for step, views in zip(range(first, schedule.steps), prefetcher, strict=False):
            epoch, step_of_epoch = divmod(step, schedule.steps_per_epoch)
            if step_of_epoch == 0 and step > first:
                self.learner.begin_epoch(epoch, self._expected(step))
                self.learner.train()
            images += self._step(step, views)
            position.step, position.seconds = step + 1, before + time.monotonic() - begun
            better = False
            if step_of_epoch == schedule.steps_per_epoch - 1 or step == schedule.steps - 1:
                better, position.ended = self._end_epoch(epoch)
                stopped = position.ended or stopped
            if self._out_of_time():
                stopped = "seconds"
            interrupted, stopping = self._agreed(stopped)
            if point := self.history.close(step + 1, self._rate(), last=stopping or step == schedule.steps - 1):
                self._check_finite(point)
                if self.record and self.group.rank == 0:
                    self.record(point)
            due = time.monotonic() - saved >= self.checkpoint_seconds
            if better or due or interrupted or stopping or step == schedule.steps - 1:
                if better and self.checkpoints is None:
                    self.best = {name: value.detach().cpu().clone() for name, value in self._changing().items()}
                self._save(better, needed=better or interrupted)
                saved = time.monotonic()
            seconds = time.monotonic() - begun
            if interrupted:
                where = (
                    f"its checkpoint is in {self.checkpoints.shown} and the same run resumes from it"
                    if self.checkpoints
                    else "none is kept"
                )
                raise RunFailed(f"{self.name} was told to stop at step {step + 1} of {schedule.steps}; {where}.")
            if stopping:
                break
            note = ", ".join(
                f"{name} {value:.4g}" for name, value in (self.history.means() if self.history.count else {}).items()
            )
            if self.group.rank == 0:
                progress.advance(1, f"{note or 'recording'}, {images / max(seconds, 1e-9):.1f} images/s")
        return stopped, prefetcher.waited, time.monotonic() - begun, images

    def _out_of_time(self) -> bool:
        return 0 < self.settings.max_seconds <= self.position.seconds

    def _time_share(self) -> float:
        """The share of the time allowed that is over, 0 where time is not limited; the same in every process."""
        if not self.settings.max_seconds:
            return 0.0
        share = self.position.seconds / self.settings.max_seconds
        return float(self.group.sum(torch.tensor(share, device=self.device))) / self.group.size

    def _scheduled(self, step: int) -> int:
        """The step that learning rates stand at: `step`, or a later one where time is used up sooner than steps.

        So a schedule comes to its end with either budget.
        """
        steps = self.schedule.steps
        return min(max(step, int(self._time_share() * steps)), steps - 1)

    def _expected(self, step: int) -> Schedule:
        """The schedule with as many steps as will have been made when the time is over, by the speed so far."""
        share = self._time_share()
        if not step or step >= share * self.schedule.steps:
            return self.schedule
        return replace(self.schedule, steps=max(step + 1, round(step / share)))

    def _agreed(self, stopped: str) -> tuple[bool, bool]:
        """Whether any process was told to stop, and whether any has run out of its budget."""
        interrupted = self.group.any(self.interrupted, self.device)
        return interrupted, self.group.any(stopped != "steps", self.device) and not interrupted

    def _views(self, step: int) -> Views:
        numbers = batch_numbers(len(self.images), self.schedule.batch_size, self.seed, step)
        labels = None if self.images.labels is None else self.images.labels[numbers]
        return self.learner.views(self.images.load(numbers), labels, generator(self.seed, "views", step))

    def _step(self, step: int, views: Views) -> int:
        """Learn from a batch: one optimiser step, or one for each mini_batch the learner cuts it into. The number of
        images in it."""
        rate = self.optimisation.factor(self._scheduled(step))
        for group in self.optimisation.optimiser.param_groups:
            group["lr"] = group["initial_lr"] * (1.0 if group.get("fixed") else rate)
        values_by_name: dict[str, list[Tensor]] = {}
        for number, mini_batch in enumerate(self.learner.mini_batches(views)):
            for name, value in self._update(step_seed(self.seed, "loss", step) + number, mini_batch).items():
                values_by_name.setdefault(name, []).append(value)
        losses = {name: self.group.sum(torch.stack(values).mean()) for name, values in values_by_name.items()}
        self.history.add(losses)
        if self.device.type == "cpu" or step % STEPS_BETWEEN_CHECKS == 0:
            self._check_finite({name: value.item() for name, value in losses.items()})
        self.position.epoch_loss += losses["loss"].item() if self.device.type == "cpu" else 0.0
        self.position.epoch_steps += 1
        return len(next(iter(views.values())))

    def _update(self, seed: int, views: Views) -> dict[str, Tensor]:
        """One optimiser step; this process's share of every loss. Where memory does not suffice, `views` are learnt
        from in more micro-batches."""
        length = len(next(iter(views.values())))
        counts = [self.learner.get_buffer(name) for name in self.learner.counted]
        before = [count.clone() for count in counts]
        while True:
            try:
                losses = self._gradients(seed, views, length)
                break
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                self._more_micro_batches(length, error)
        self.group.sum_gradients(self.learner.parameters())
        if self.group.shares(length):
            self.group.sum_counts(counts, before)
        if self.optimisation.clip:
            self.scaler.unscale_(self.optimisation.optimiser)
            torch.nn.utils.clip_grad_norm_(
                [p for p in self.learner.parameters() if p.grad is not None], self.optimisation.clip
            )
        lay_out_gradients(self.optimisation.optimiser)
        self.scaler.step(self.optimisation.optimiser)
        self.scaler.update()
        return losses

    def _gradients(self, seed: int, views: Views, images: int) -> dict[str, Tensor]:
        """Gradients of the mean loss over the batch, added up micro_batch by micro_batch; this process's share of every
        loss."""
        torch.manual_seed(seed)
        self.optimisation.optimiser.zero_grad(set_to_none=True)
        part = self.group.part(images)
        mine = part.stop - part.start
        # All learn the same from a batch that is not split, and what they learn is summed all the same.
        repeated = 1 if self.group.shares(images) else self.group.size
        if self.batch_norm:
            self.batch_norm.active = repeated == 1
        totals: dict[str, Tensor] = {}
        for micro_batch in range(min(self.position.micro_batches, mine)):
            micro_batches = min(self.position.micro_batches, mine)
            span = slice(
                part.start + micro_batch * mine // micro_batches, part.start + (micro_batch + 1) * mine // micro_batches
            )
            inputs = {name: values[span].to(self.device, non_blocking=True) for name, values in views.items()}
            with _autocast(self.device, self.compute.precision):
                losses = self.learner.loss(inputs)
            share = (span.stop - span.start) / images / repeated
            self.scaler.scale(losses["loss"] * share).backward()
            for name, value in losses.items():
                totals[name] = totals.get(name, 0.0) + value.detach().float() * share
        return totals

    def _more_micro_batches(self, images: int, error: BaseException) -> None:
        if self.group.size > 1 or self.position.micro_batches >= images:
            raise RunFailed(
                f"{self.name} runs out of memory with {images} images a step on {self.group.size} device(s); "
                "lower train.batch_size or image.size, or use a larger node."
            ) from error
        self.position.micro_batches = min(2 * self.position.micro_batches, images)
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        log.warning(
            f"{self.name}: out of memory; the batch of {images} is learnt from in {self.position.micro_batches} "
            "micro-batches"
        )

    def _check_finite(self, losses: dict[str, float]) -> None:
        wrong = next((name for name, value in losses.items() if not math.isfinite(value)), None)
        if wrong:
            kept = (
                f"the last good checkpoint is in {self.checkpoints.shown}"
                if self.checkpoints
                else "no checkpoint was kept"
            )
            raise RunFailed(
                f"The {wrong} of {self.name} is {losses[wrong]} near step {self.position.step + 1}, so it learns no "
                f"more; {kept}; "
                "lower the method's learning rate, or use compute.precision=float32."
            )

    def _end_epoch(self, epoch: int) -> tuple[bool, str]:
        """After an epoch: whether it was the best, and what stops the run here."""
        position = self.position
        if epoch == 0 and self.track and not self.tracked:
            self.learner.eval()
            with torch.no_grad():
                self.tracked = self.track()
            self.learner.train()
        value = (
            self._held_out_loss() if self.stopping is not None else position.epoch_loss / max(position.epoch_steps, 1)
        )
        position.epoch_loss, position.epoch_steps = 0.0, 0
        better = value < position.best
        if better:
            position.best, position.best_step, position.epochs_without_better = value, position.step, 0
        else:
            position.epochs_without_better += 1
        if (
            self.stopping is not None
            and self.settings.patience
            and position.epochs_without_better >= self.settings.patience
        ):
            return better, "patience"
        return better and self.stopping is not None, "satisfied" if self.group.any(
            self.learner.satisfied(), self.device
        ) else ""

    @torch.no_grad()
    def _held_out_loss(self) -> float:
        """The mean loss on the held-out images, seen the same way every time."""
        assert self.stopping is not None
        self.learner.eval()
        total, size = 0.0, self.schedule.batch_size
        for start in range(0, len(self.stopping), size):
            numbers = range(start, min(start + size, len(self.stopping)))
            labels = None if self.stopping.labels is None else self.stopping.labels[list(numbers)]
            views = self.learner.views(self.stopping.load(numbers), labels, generator(self.seed, "held out", start))
            torch.manual_seed(step_seed(self.seed, "held out loss", start))
            with _autocast(self.device, self.compute.precision):
                loss = self.learner.loss({name: values.to(self.device) for name, values in views.items()})["loss"]
            total += loss.item() * len(numbers)
        self.learner.train()
        return total / len(self.stopping)

    def _rate(self) -> float:
        return float(self.optimisation.optimiser.param_groups[0]["lr"])

    def _save(self, best: bool, needed: bool) -> None:
        """A checkpoint of a state whose every number is finite.

        A store that took one before and is full or away now does not end a night of training, unless this one is
        `needed`: it is said, and the next checkpoint is tried in its time.
        """
        if self.checkpoints is None or self.group.rank:
            return
        self._check_finite(self.history.means() if self.history.count else {})
        tensors = {f"learner.{name}": value for name, value in self._changing().items()}
        if any(not torch.isfinite(value).all() for value in tensors.values() if value.is_floating_point()):
            raise RunFailed(
                f"A weight of {self.name} is no longer finite at step {self.position.step}; lower the method's "
                "learning rate."
            )
        moments, plain = optimiser_state(self.optimisation.optimiser)
        tensors |= {f"optimiser.{name}": value for name, value in moments.items()}
        tensors |= {f"tracked.{name}": value for name, value in self.tracked.items()}
        state = {
            "position": vars(self.position) | {"best": None if math.isinf(self.position.best) else self.position.best}
        }
        state |= {"history": self.history.state(), "optimiser": plain, "scaler": self.scaler.state_dict()}
        try:
            self.checkpoints.save(Checkpoint(self.position.step, tensors, state), best)
            self.kept = True
        except VqiError as error:
            if needed or not self.kept:
                raise
            log.warning(f"{error} Learning goes on; the next checkpoint is tried in its time.")

    def _changing(self) -> dict[str, Tensor]:
        return {
            name: value
            for name, value in self.learner.state_dict().items()
            if not name.startswith(self.learner.unchanged)
        }

    def _restore(self, checkpoint: Checkpoint) -> None:
        state = checkpoint.state
        self._load_learner(checkpoint.tensors)
        load_optimiser(self.optimisation.optimiser, _below("optimiser.", checkpoint.tensors), state["optimiser"])
        self.scaler.load_state_dict(state["scaler"])
        best = state["position"]["best"]
        self.position = _Position(**{**state["position"], "best": math.inf if best is None else best})
        self.history = History(self.schedule.steps, state["history"])
        self.tracked = _below("tracked.", checkpoint.tensors)
        assert self.checkpoints is not None
        log.info(
            f"{self.name}: resumed at step {checkpoint.step} of {self.schedule.steps} from {self.checkpoints.shown}"
        )

    def _load_learner(self, tensors: dict[str, Tensor]) -> None:
        self.learner.load_state_dict(self.learner.state_dict() | _below("learner.", tensors))

    @contextmanager
    def _handle_signals(self) -> Iterator[None]:
        """SIGTERM (a pod is evicted) and SIGINT end the run after the step that is under way."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def interrupt(number: int, frame: FrameType | None) -> None:
            self.interrupted = True

        before = {number: signal.signal(number, interrupt) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def _below(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def _autocast(device: torch.device, precision: str) -> torch.autocast:
    return torch.autocast(
        device.type, dtype=getattr(torch, precision) if precision != "float32" else None, enabled=precision != "float32"
    )
