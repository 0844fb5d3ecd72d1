"""Linear layers with their weights laid out for a CPU, once and for all."""

from __future__ import annotations

from torch import Tensor, nn

from longtake.kernels import pack, packed_linear


class PackedLinear(nn.Module):
    """A linear layer that multiplies by a packed weight; see :func:`longtake.kernels.pack`.

    Its state dict is that of the plain layer.

    Args:
        packed: the weight.
        bias: [outputs].
        gelu: whether GELU of it is what it gives.
    """

    def __init__(self, packed: Tensor, bias: Tensor, *, gelu: bool = False) -> None:
        super().__init__()
        self.weight = nn.Parameter(packed, requires_grad=False)
        self.bias = nn.Parameter(bias, requires_grad=False)
        self.gelu = gelu

    def forward(self, x: Tensor) -> Tensor:
        """[..., inputs] to [..., outputs]."""
        return packed_linear(x, self.weight, self.bias, gelu=self.gelu)

    def _save_to_state_dict(
        self, destination: dict[str, Tensor], prefix: str, keep_vars: bool
    ) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        destination[f"{prefix}weight"] = self.weight.detach().to_dense()


def packed(layer: nn.Module, *, gelu: bool = False) -> PackedLinear | None:
    """What takes a linear layer's place; None where it is another kind or cannot be packed.

    Args:
        layer: its weight is not changed; without a bias it stays what it is.
        gelu: as in :class:`PackedLinear`.
    """
    if not isinstance(layer, nn.Linear) or layer.bias is None:
        return None
    weight = pack(layer.weight.detach())
    return None if weight is None else PackedLinear(weight, layer.bias.detach(), gelu=gelu)


def pack_linears(module: nn.Module) -> None:
    """Replace every linear layer below a module by a packed one, one after the other."""
    for name, child in module.named_children():
        if layer := packed(child):
            setattr(module, name, layer)
        else:
            pack_linears(child)
