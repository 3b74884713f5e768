"""Several processes that train one network, on one node or on several: torch's own launcher, and the few collective
operations the loop needs.

All begin with the first one's weights. Every process makes the views of the whole batch and learns from its part of it,
so that random numbers are those of a single process; gradients are summed with each part's share of the batch as its
weight, and batch normalisation takes its statistics over all parts. The result is that of a single process up to the
order of floating-point sums.
"""

from __future__ import annotations

import logging
import os
import signal
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import torch
import torch.distributed
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from vqi.platform.errors import BadInput, GateRefused, RunFailed, VqiError
from vqi.platform.logs import logger

if TYPE_CHECKING:
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig

log = logger(__name__)

Result = TypeVar("Result")

# How long a node waits for the others: each fetches its image and the photographs by itself.
JOIN_SECONDS = 3600


@dataclass(frozen=True)
class Group:
    """The processes that train together; `Group()` is one alone. `local_rank` counts those of one node."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0

    def shares(self, images: int) -> bool:
        """Whether a batch of `images` is split. One of fewer images than processes is not: each learns from all of
        it."""
        return self.size > 1 and images >= self.size

    def part(self, images: int) -> slice:
        """This process's part of a batch of `images`: where it is split, sizes differ by one at most."""
        if not self.shares(images):
            return slice(0, images)
        return slice(self.rank * images // self.size, (self.rank + 1) * images // self.size)

    def sum_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Add up every parameter's gradient over the processes, in one message."""
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        if self.size > 1 and gradients:
            flat = torch.cat([gradient.flatten() for gradient in gradients])
            torch.distributed.all_reduce(flat)
            for gradient, summed in zip(
                gradients, flat.split([gradient.numel() for gradient in gradients]), strict=True
            ):
                gradient.copy_(summed.view_as(gradient))

    def sum(self, value: Tensor) -> Tensor:
        """A tensor added up over the processes."""
        if self.size > 1:
            torch.distributed.all_reduce(value)
        return value

    def share(self, tensors: Iterable[Tensor]) -> None:
        """Make these tensors those of the first process, in place: nodes with other processors round otherwise."""
        if self.size > 1:
            for tensor in tensors:
                # Not the tensor itself: a message is contiguous, and not of bool.
                message = tensor.to(torch.uint8) if tensor.dtype == torch.bool else tensor.contiguous().clone()
                torch.distributed.broadcast(message, 0)
                tensor.copy_(message)

    def smallest(self, number: int, device: torch.device) -> int:
        """The smallest `number` that a process has."""
        if self.size == 1:
            return number
        value = torch.tensor(number, device=device)
        torch.distributed.all_reduce(value, torch.distributed.ReduceOp.MIN)
        return int(value)

    def agrees(self, number: int, device: torch.device) -> bool:
        """Whether every process has this `number`."""
        return self.smallest(number, device) == -self.smallest(-number, device)

    def sum_counts(self, counts: Iterable[Tensor], before: Iterable[Tensor]) -> None:
        """Let counts, in place, hold what every process has added to them since they were `before`."""
        if self.size > 1:
            for count, start in zip(counts, before, strict=True):
                count.copy_(start + self.sum(count - start))

    def any(self, flag: bool, device: torch.device) -> bool:
        """Whether `flag` is set in any process: all of them stop together or not at all."""
        return flag if self.size == 1 else bool(self.sum(torch.tensor([float(flag)], device=device)).item() > 0)


class SynchronisedBatchNorm:
    """Lets every batch normalisation of a module take its statistics over all processes, in place, while it is
    `active`. torch's own does so on CUDA only."""

    def __init__(self, module: nn.Module) -> None:
        self.active = True
        for part in module.modules():
            if isinstance(part, _BatchNorm):
                part.forward = partial(self._forward, part, part.forward)  # type: ignore[method-assign]

    def _forward(self, norm: _BatchNorm, own: Callable[[Tensor], Tensor], values: Tensor) -> Tensor:
        """The forward pass of `norm`: its `own` where it is not in training."""
        if not (norm.training and self.active):
            return own(values)
        result, mean, variance, count = _Normalised.apply(values, norm.weight, norm.bias, norm.eps)
        if norm.track_running_stats and norm.running_mean is not None and norm.running_var is not None:
            with torch.no_grad():
                assert norm.num_batches_tracked is not None
                norm.num_batches_tracked += 1
                momentum = norm.momentum if norm.momentum is not None else 1 / float(norm.num_batches_tracked)
                norm.running_mean.lerp_(mean.to(norm.running_mean.dtype), momentum)
                norm.running_var.lerp_((variance * count / (count - 1)).to(norm.running_var.dtype), momentum)
        return result


class _Normalised(torch.autograd.Function):
    """Batch normalisation of [N, C, ...] by the mean and variance of all processes' positions; these and the number of
    positions as well, without gradients.

    Each direction is one message. The statistics depend on every process's values, so the gradient of them is that of
    the sum of every process's loss.
    """

    @staticmethod
    def forward(context: Any, values: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float) -> Any:
        wide = values if values.dtype == torch.float64 else values.float()
        variance, mean = torch.var_mean(wide, dim=_positions(values), correction=0)
        moments = torch.cat([mean, variance, mean.new_tensor([values.numel() // values.shape[1]])])
        gathered = [torch.empty_like(moments) for _ in range(torch.distributed.get_world_size())]
        torch.distributed.all_gather(gathered, moments)
        stacked, channels = torch.stack(gathered), len(mean)
        means, variances, counts = stacked[:, :channels], stacked[:, channels:-1], stacked[:, -1:]
        count = counts.sum()
        mean = (means * counts).sum(dim=0) / count
        variance = ((variances + (means - mean).square()) * counts).sum(dim=0) / count
        context.save_for_backward(values, weight, mean, variance, count)
        context.eps = eps
        context.mark_non_differentiable(mean, variance, count)
        return F.batch_norm(values, mean, variance, weight, bias, False, 0.0, eps), mean, variance, count

    @staticmethod
    def backward(context: Any, gradient: Tensor, *unused: Tensor) -> Any:
        values, weight, mean, variance, count = context.saved_tensors
        # As in evaluation, with the statistics held fixed; then what changes with them.
        fixed, of_weight, of_bias = torch.ops.aten.native_batch_norm_backward(
            gradient.contiguous(), values, weight, mean, variance, None, None, False, context.eps, [True, True, True]
        )
        sums = torch.cat([of_weight, of_bias]).to(mean.dtype)
        torch.distributed.all_reduce(sums)
        scaled, shift = sums.view(2, -1) / count
        inverse = torch.rsqrt(variance + context.eps)
        factor = inverse if weight is None else inverse * weight
        slope = scaled * inverse * factor
        shape = [1, -1] + [1] * (values.ndim - 2)
        # Centred first: where a channel hardly varies, its mean would take all the digits.
        centred = values - mean.view(shape)
        moving = torch.addcmul((shift * factor).view(shape), centred, slope.view(shape))
        own = None if weight is None else of_weight
        return fixed - moving.to(fixed.dtype), own, None if weight is None else of_bias, None


def _positions(values: Tensor) -> list[int]:
    return [axis for axis in range(values.ndim) if axis != 1]


def launch(processes: int, work: Callable[..., Result], *arguments: Any) -> Result:
    """Run `work(group, *arguments)` in `processes` processes on this machine and return what rank 0 returned.

    `work` is a function of a module and everything handed over can be pickled. Raises what the first process that
    failed raised where that is an error of ours, RunFailed where it is not, or where this process is told to stop: the
    others are told then too.
    """
    from torch.distributed.launcher.api import LaunchConfig

    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=processes,
        run_id=uuid.uuid4().hex,
        rdzv_backend="c10d",
        rdzv_endpoint="127.0.0.1:0",
        max_restarts=0,
        start_method="spawn",
    )
    return _launch(config, work, *arguments)[0]


def launch_node(work: Callable[..., Result], *arguments: Any) -> Result | None:
    """Run `work(group, *arguments)` in this node's processes, together with those of the other nodes, as torchrun does:
    PET_NNODES, PET_NPROC_PER_NODE, PET_NODE_RANK, PET_MASTER_ADDR and PET_MASTER_PORT say how many and where.

    Returns what rank 0 returned, None on the nodes that it is not on. Raises as `launch` does.
    """
    from torch.distributed.run import config_from_args, get_args_parser

    # torchrun wants a program to start; the functions are handed over below instead.
    config, _, _ = config_from_args(
        get_args_parser().parse_args([f"--rdzv-conf=timeout={JOIN_SECONDS}", "--start-method=spawn", "-m", __name__])
    )
    return _launch(config, work, *arguments).get(0)


def _launch(config: LaunchConfig, work: Callable[..., Result], *arguments: Any) -> dict[int, Result]:
    """What each of this node's processes returned, by its rank among all."""
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import elastic_launch

    processes = config.nproc_per_node
    # It prints the traceback of whatever ends a process; what is ours is one sentence, and `_first` shows the others.
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)
    threads = os.environ.get("OMP_NUM_THREADS")
    os.environ["OMP_NUM_THREADS"] = str(max(1, torch.get_num_threads() // processes))
    try:
        return elastic_launch(config, _join_and_work)(work, *arguments)
    except ChildFailedError as error:
        raise _first(error, processes) from error
    except SignalException as error:
        raise RunFailed(
            "The processes that train here were stopped by a signal; what each wrote stands above."
        ) from error
    finally:
        os.environ.pop("OMP_NUM_THREADS") if threads is None else os.environ.update(OMP_NUM_THREADS=threads)


def _first(error: ChildFailedError, processes: int) -> VqiError:
    """The error of the first process that failed, as it was there."""
    message = error.get_first_failure()[1].message
    details: dict[str, Any] = message if isinstance(message, dict) else {}
    text = str(details.get("message", message))
    if error.get_first_failure()[1].exitcode == -signal.SIGKILL:
        return RunFailed(
            f"One of {processes} processes was killed, most likely because memory ran out; lower train.batch_size or "
            "image.size, or give training more memory."
        )
    name, _, sentence = text.partition(": ")
    if kind := {kind.__name__: kind for kind in (BadInput, RunFailed, GateRefused)}.get(name):
        return kind(sentence)
    log.error(str(details.get("extraInfo", {}).get("py_callstack", "")).strip() or text)
    return RunFailed(f"One of {processes} processes ended badly ({text.splitlines()[0]}); its log is above.")


def _join_and_work(work: Callable[..., Result], *arguments: Any) -> Result:
    """In a launched process: join the others, work, leave. The launcher's environment says who and where they are."""
    backend = "nccl" if torch.cuda.is_available() else "gloo"
    torch.distributed.init_process_group(backend)
    group = Group(torch.distributed.get_rank(), torch.distributed.get_world_size(), int(os.environ["LOCAL_RANK"]))
    done = work(group, *arguments)
    # Not where it raised: the others, waiting for this one, would fail before its error is written down, and theirs
    # would be taken for the cause.
    torch.distributed.destroy_process_group()
    return done
