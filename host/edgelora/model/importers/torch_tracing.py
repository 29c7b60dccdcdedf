"""Traces PyTorch modules on samples: what doesn't depend on their values is computed as in any call of the module.

Sizes, positions, masks and everything else that is made of shapes and parameters alone are plain numbers and tensors to
the module's code; the graph has only calls on activations. Functions that are compositions of others are traced as
these.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import fx
from torch import nn as tnn
from torch.nn import functional as F
from torch.nn.utils import parametrize

from edgelora.base.errors import InputError

IDS = (
    "an Embedding of ids isn't imported from PyTorch: import a model in Hugging Face's files by from_language_model, a "
    "Keras one by from_keras(fused=True), or give the rest of the module the embedded samples"
)
_OF_SHAPES = {  # what depends on an activation's shape, but not on its values
    *(torch.zeros_like, torch.ones_like, torch.full_like, torch.empty_like),
    *("new_zeros", "new_ones", "new_full", "new_empty", "new_tensor"),
}


def settle(module: Any) -> None:
    """Replaces parametrized layers (weight_norm, spectral_norm) by plain ones, in place."""
    for name, part in list(module.named_children()):
        if parametrize.is_parametrized(part):
            setattr(module, name, _computed(part))
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


class Activation(fx.Proxy):  # type: ignore[misc]
    """An activation while its module is traced; its shape is known."""

    def __getattr__(self, name: str) -> Any:
        value = getattr(self.node.meta["value"], name)
        if isinstance(value, torch.Tensor):
            return self.tracer.create_proxy("call_function", getattr, (self, name), {})
        return fx.proxy.Attribute(self, name) if callable(value) else value

    def __len__(self) -> int:
        return len(self.node.meta["value"])

    def __iter__(self) -> Iterator[Any]:
        return (self[i] for i in range(len(self)))


class Tracer(fx.Tracer):  # type: ignore[misc]
    """Records calls on activations, with their results for some samples. `leaves`: modules that are recorded whole."""

    def __init__(self, samples: Any, leaves: set[type]) -> None:
        super().__init__()
        self.samples, self.leaves = samples, leaves

    def is_leaf_module(self, m: Any, module_qualified_name: str) -> bool:
        """Whether a module's call is recorded, and not those in its forward."""
        return type(m) in self.leaves

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: dict[str, Any]) -> Any:
        """Parameters are plain tensors."""
        return attr_val

    def create_proxy(self, kind: str, target: Any, args: Any, kwargs: Any, *rest: Any, **more: Any) -> Any:
        """Records a call, or those that it is a composition of."""
        if kind in ("call_function", "call_method") and target in _COMPOSED:
            return _COMPOSED[target](*args, **kwargs)
        return super().create_proxy(kind, target, args, kwargs, *rest, **more)

    def create_node(self, kind: str, target: Any, args: Any, kwargs: Any, *rest: Any, **more: Any) -> Any:
        """Records a call with its value, and whether that depends on the input."""
        node = super().create_node(kind, target, args, kwargs, *rest, **more)
        if kind != "output":
            of_input = any(source.meta["of_input"] for source in node.all_input_nodes)
            node.meta["of_input"] = kind == "placeholder" and not args or of_input and target not in _OF_SHAPES
            with torch.no_grad():
                node.meta["value"] = self._value(node)
        return node

    def proxy(self, node: Any) -> Any:
        """An activation as one, anything else as it is."""
        value = node.meta["value"]
        return Activation(node, self) if node.meta["of_input"] and _has_tensors(value) else value

    def _value(self, node: Any) -> Any:
        if node.op == "placeholder":
            return node.args[0] if node.args else self.samples
        args, kwargs = fx.map_arg((node.args, node.kwargs), lambda source: source.meta["value"])
        if node.op == "get_attr":
            return _attribute(self.root, node.target)
        if node.op == "call_module":
            return self.root.get_submodule(node.target).forward(*args, **kwargs)
        return (
            getattr(args[0], node.target)(*args[1:], **kwargs)
            if node.op == "call_method"
            else node.target(*args, **kwargs)
        )


def _attribute(owner: Any, path: str) -> Any:
    for part in path.split("."):
        owner = getattr(owner, part)
    return owner.detach()


def _has_tensors(value: Any) -> bool:
    if isinstance(value, tuple | list):
        return any(_has_tensors(part) for part in value)
    return isinstance(value, torch.Tensor)


# ---- compositions ----------------------------------------------------------------------------------------------------


def _gated(x: Any, dim: int = -1) -> Any:
    value, gate = x.chunk(2, dim)
    return value * torch.sigmoid(gate)


def _instance_norm(
    x: Any,
    running_mean: Any = None,
    running_var: Any = None,
    weight: Any = None,
    bias: Any = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Any:
    if use_input_stats:
        return F.group_norm(x, x.shape[1], weight, bias, eps)
    return F.batch_norm(x, running_mean, running_var, weight, bias, eps=eps)


def _attention(
    query: Any,
    key: Any,
    value: Any,
    width: int,
    heads: int,
    weight: Any,
    bias: Any,
    bias_k: Any,
    bias_v: Any,
    add_zero_attn: bool,
    dropout: float,
    out_weight: Any,
    out_bias: Any,
    key_padding_mask: Any = None,
    attn_mask: Any = None,
    is_causal: bool = False,
    **more: Any,
) -> tuple[Any, None]:
    """F.multi_head_attention_forward: [rows, batch, channels]; None in place of the attention weights."""
    if bias_k is not None or add_zero_attn or key_padding_mask is not None:
        raise InputError("MultiheadAttention with a key_padding_mask, add_bias_kv or add_zero_attn isn't supported")
    names = ("q_proj_weight", "k_proj_weight", "v_proj_weight")
    weights = [more[name] for name in names] if more.get("use_separate_proj_weight") else weight.chunk(3)
    sides = (
        F.linear(side, matrix, shift).unflatten(2, (heads, -1)).permute(1, 2, 0, 3)
        for side, matrix, shift in zip(
            (query, key, value), weights, (None,) * 3 if bias is None else bias.chunk(3), strict=True
        )
    )
    made = F.scaled_dot_product_attention(*sides, attn_mask=attn_mask)
    return F.linear(made.permute(2, 0, 1, 3).flatten(2), out_weight, out_bias), None


def _refused(instead: str) -> Callable[..., Any]:
    def refuse(*args: Any, **kwargs: Any) -> Any:
        raise InputError(instead)

    return refuse


_COMPOSED: dict[Any, Callable[..., Any]] = {
    F.glu: _gated,
    F.instance_norm: _instance_norm,
    F.multi_head_attention_forward: _attention,
    torch.maximum: lambda x, y: x + torch.relu(y - x),
    torch.minimum: lambda x, y: x - torch.relu(x - y),
    F.softmin: lambda x, dim=None, **_: torch.softmax(-x, dim),
    torch.addmm: lambda shift, x, y: x @ y + shift,
    **dict.fromkeys((torch.clamp_min, "clamp_min"), lambda x, least: x.clamp(min=least)),
    **dict.fromkeys((torch.clamp_max, "clamp_max"), lambda x, most: x.clamp(max=most)),
    **dict.fromkeys(("long", "int", F.embedding, F.embedding_bag), _refused(IDS)),
    torch.einsum: _refused("torch.einsum isn't supported: write it with @, transpose and sum, or as a Linear layer"),
    **dict.fromkeys(
        (torch.where, "where", torch.masked_fill, "masked_fill", "masked_fill_"),
        _refused(
            "values that a condition or a mask selects aren't supported: compute with relu, clamp or maximum; for "
            "causal attention call F.scaled_dot_product_attention(..., is_causal=True)"
        ),
    ),
}
