"""PyTorch modules that torch.fx traces as one call, rewritten as calls that the importer supports."""

from __future__ import annotations

from typing import Any

from torch import nn as tnn
from torch.nn import functional as F
from torch.nn.utils import parametrize

from edgelora.base.errors import InputError


def settle(module: Any) -> None:
    """Replaces parametrized layers (weight_norm, spectral_norm) and transformer modules by plain ones, in place."""
    for name, part in list(module.named_children()):
        if parametrize.is_parametrized(part):
            setattr(module, name, _computed(part))
        elif type(part) in _PLAIN and _PLAIN[type(part)].fits(part):
            setattr(module, name, _PLAIN[type(part)](part))
        else:
            settle(part)


def _computed(part: Any) -> Any:
    """The plain layer with the weights that its parametrizations compute."""
    kind = parametrize.type_before_parametrizations(part)
    plain = kind.__new__(kind)
    plain.__dict__ = dict(part.__dict__)
    plain._modules = {key: value for key, value in part._modules.items() if key != "parametrizations"}
    plain._parameters = part._parameters | {
        key: tnn.Parameter(getattr(part, key).detach()) for key in part.parametrizations
    }
    return plain


def _linear(weight: Any, bias: Any) -> Any:
    layer = tnn.Linear(weight.shape[1], weight.shape[0])
    layer.weight = tnn.Parameter(weight.detach())
    layer.bias = None if bias is None else tnn.Parameter(bias.detach())
    return layer


class Attention(tnn.Module):  # type: ignore[misc]
    """MultiheadAttention without masks."""

    def __init__(self, of: Any) -> None:
        super().__init__()
        self.heads, self.batch_first, width = of.num_heads, of.batch_first, of.embed_dim
        for place, name in enumerate(("query", "key", "value")):
            rows = slice(place * width, (place + 1) * width)
            bias = None if of.in_proj_bias is None else of.in_proj_bias[rows]
            setattr(self, name, _linear(of.in_proj_weight[rows], bias))
        self.out_proj = _linear(of.out_proj.weight, of.out_proj.bias)

    @staticmethod
    def fits(of: Any) -> bool:
        return of.in_proj_weight is not None and of.bias_k is None and not of.add_zero_attn

    def forward(
        self, query: Any, key: Any, value: Any, key_padding_mask: Any = None, need_weights: bool = True, **more: Any
    ) -> Any:
        """The output, and None in place of the attention weights. Raises InputError for masks."""
        if key_padding_mask is not None or more.get("attn_mask") is not None or more.get("is_causal"):
            raise InputError("attention with a mask isn't supported")
        sides = [query, key, value]
        if not self.batch_first:
            sides = [side.transpose(0, 1) for side in sides]
        layers = (self.query, self.key, self.value)
        q, k, v = (
            layer(side).unflatten(2, (self.heads, -1)).transpose(1, 2)
            for layer, side in zip(layers, sides, strict=True)
        )
        made = self.out_proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        return (made if self.batch_first else made.transpose(0, 1)), None


class EncoderLayer(tnn.Module):  # type: ignore[misc]
    """TransformerEncoderLayer without masks."""

    def __init__(self, of: Any) -> None:
        super().__init__()
        self.self_attn, self.linear1, self.linear2 = Attention(of.self_attn), of.linear1, of.linear2
        self.norm1, self.norm2, self.norm_first, self.activation = of.norm1, of.norm2, of.norm_first, of.activation

    @staticmethod
    def fits(of: Any) -> bool:
        return Attention.fits(of.self_attn)

    def forward(self, x: Any) -> Any:
        """The layer's output for x, in evaluation mode."""
        if self.norm_first:
            x = x + self._attended(self.norm1(x))
            return x + self._fed(self.norm2(x))
        x = self.norm1(x + self._attended(x))
        return self.norm2(x + self._fed(x))

    def _attended(self, x: Any) -> Any:
        return self.self_attn(x, x, x)[0]

    def _fed(self, x: Any) -> Any:
        return self.linear2(self.activation(self.linear1(x)))


class Encoder(tnn.Module):  # type: ignore[misc]
    """TransformerEncoder without masks."""

    def __init__(self, of: Any) -> None:
        super().__init__()
        self.layers, self.norm = tnn.ModuleList(EncoderLayer(layer) for layer in of.layers), of.norm

    @staticmethod
    def fits(of: Any) -> bool:
        return all(type(layer) is tnn.TransformerEncoderLayer and EncoderLayer.fits(layer) for layer in of.layers)

    def forward(self, x: Any) -> Any:
        """The output of all layers in sequence, for x."""
        for layer in self.layers:
            x = layer(x)
        return x if self.norm is None else self.norm(x)


_PLAIN: dict[type, Any] = {
    tnn.MultiheadAttention: Attention,
    tnn.TransformerEncoderLayer: EncoderLayer,
    tnn.TransformerEncoder: Encoder,
}
