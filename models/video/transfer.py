"""Between host and device, without either waiting for the other."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """A CPU tensor on a device; the host goes on while it is copied.

    From memory that is not pinned the host would wait, and with it the device for its next kernel.
    """
    if device.type == "cuda":
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)


class Constant:
    """Numbers for each channel, made a tensor once for each device and dtype.

    Args:
        values: one a channel.
    """

    def __init__(self, values: tuple[float, ...]) -> None:
        self.values = values
        self._made: dict[tuple[torch.device, torch.dtype, bool], Tensor] = {}

    def like(self, tensor: Tensor) -> Tensor:
        """[channels, 1, 1, 1], with the tensor's device and dtype."""
        if torch.compiler.is_compiling():  # then it is made once anyway
            made = torch.tensor(self.values, dtype=tensor.dtype, device=tensor.device)
            return made.view(-1, 1, 1, 1)
        # Training cannot use what was made in inference mode.
        key = (tensor.device, tensor.dtype, torch.is_inference_mode_enabled())
        if key not in self._made:
            made = torch.tensor(self.values, dtype=tensor.dtype).view(-1, 1, 1, 1)
            self._made[key] = to_device(made, tensor.device)
        return self._made[key]


@dataclass(frozen=True)
class Sent:
    """Frames on their way to the host.

    Attributes:
        frames: uint8 on the CPU, [frames, height, width, 3]; not whole before they have arrived.
        arrived: recorded behind the copy; None where there is nothing to wait for.
    """

    frames: Tensor
    arrived: torch.cuda.Event | None = None

    def media(self) -> tuple[tuple[Tensor, int], ...]:
        """Wait, then one media item, or none where there are no frames."""
        if self.arrived:
            self.arrived.synchronize()
        return ((self.frames, len(self.frames)),) if len(self.frames) else ()


class Outlet:
    """The way of decoded frames to the host.

    On a CUDA device decoding has a stream of its own, so that it runs beside what the transformer
    does next, and frames are copied into pinned memory meanwhile. Elsewhere all is done at once.

    Args:
        device: of the decoder.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        # Frames are waited for, the transformer's next forward is not: where both could run, they
        # come first.
        self._stream = torch.cuda.Stream(device, priority=-1) if device.type == "cuda" else None

    @property
    def runs_beside(self) -> bool:
        """Whether what is decoded arrives while other work goes on."""
        return self._stream is not None

    @contextmanager
    def decoding(self) -> Iterator[None]:
        """Within, kernels run behind all that was started before, and beside what comes after.

        Tensors of the other stream that are read here must live until the frames have arrived.
        """
        if self._stream is None:
            yield
            return
        self._stream.wait_stream(torch.cuda.current_stream(self.device))
        with torch.cuda.stream(self._stream):
            yield

    def send(self, pictures: Tensor) -> Sent:
        """Pictures in [0, 1], [1, time, 3, H, W], as uint8; to be called where they are decoded."""
        frames = pictures[0].float().mul(255).round().to(torch.uint8).permute(0, 2, 3, 1)
        frames = frames.contiguous()
        if self._stream is None:
            return Sent(frames.cpu())
        there = torch.empty(frames.shape, dtype=torch.uint8, pin_memory=True)
        there.copy_(frames, non_blocking=True)
        arrived = torch.cuda.Event()
        arrived.record()
        return Sent(there, arrived)
