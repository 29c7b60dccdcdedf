"""Why operators can't be imported and what to do instead, for each operator that converters write."""

from __future__ import annotations

from . import state
from .codes import Code

CONVERT = (
    "convert with full integer quantization: converter.optimizations = [tf.lite.Optimize.DEFAULT], "
    "converter.representative_dataset = ..., "
    "converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]"
)
STATELESS = (
    f"networks with state are supported where {state.RINGS}; "
    "convert others without state, on a complete window, with unroll=True for recurrent layers"
)
_LIST = "what can be imported is listed in docs/guides/own-network.md"
_NORMALIZATION = (
    "batch normalization is supported directly after a layer with weights, before its activation, where the converter "
    "folds it in; scale inputs outside the network"
)
_FIXED_BATCH = "give the network a fixed batch of one: keras.Input(batch_shape=(1, ...))"
_RECURRENT = "is a recurrent layer that isn't supported: " + STATELESS
_LOOP = "is control flow, which boards don't run: " + STATELESS
_FLOAT_ONLY = "has no INT8 kernel in TensorFlow Lite: compute it outside the network, or use another activation"
_CHOICE = (
    "compares or selects values, which has no INT8 arithmetic here: express it with ReLU, Minimum and Maximum, "
    "or compute it outside the network"
)
_INDEX = "computes indices, which have no gradient: end the network before it, and compute them outside"
_REDUCE = "reduces in an unsupported way: use a mean, a sum or a maximum"
_INTEGERS = "computes on integers that aren't activations: " + _FIXED_BATCH
_CAST = (
    "casts floats to integers, as Embedding does with word indices: an int8 input rounds these, which confuses words; "
    "look words up outside, and make the embeddings the network's input"
)
_MOVES = "moves values between batch, height, width and channels: do that outside the network"
_STABLEHLO = f"is an operator of StableHLO, not of TensorFlow Lite: {CONVERT}"

_WHY: dict[Code, str] = {
    **dict.fromkeys(
        (
            Code.LSTM,
            Code.RNN,
            Code.UNIDIRECTIONAL_SEQUENCE_RNN,
            Code.BIDIRECTIONAL_SEQUENCE_RNN,
            Code.BIDIRECTIONAL_SEQUENCE_LSTM,
        ),
        _RECURRENT,
    ),
    **dict.fromkeys((Code.WHILE, Code.IF, Code.CALL), _LOOP),
    **dict.fromkeys((Code.DIV, Code.FLOOR_DIV), "divides by values that aren't constant: " + _NORMALIZATION),
    Code.L2_NORMALIZATION: "scales each sample by its norm: import the Keras model by from_keras, or leave it out",
    Code.LOCAL_RESPONSE_NORMALIZATION: "scales each sample by its neighbors: train with BatchNormalization instead",
    Code.GATHER_ND: "computes on a shape: " + _FIXED_BATCH,
    **dict.fromkeys(
        (Code.EMBEDDING_LOOKUP, Code.EMBEDDING_LOOKUP_SPARSE, Code.HASHTABLE_LOOKUP, Code.ONE_HOT),
        "looks values up in a table: do that outside, and make the result the network's input",
    ),
    **dict.fromkeys(
        (
            *(Code.EXP, Code.LOG, Code.SIN, Code.COS, Code.SQUARE, Code.NEG, Code.POW, Code.FLOOR),
            *(Code.CEIL, Code.ROUND, Code.SIGN, Code.FLOOR_MOD, Code.ATAN2),
        ),
        _FLOAT_ONLY,
    ),
    **dict.fromkeys(
        (
            *(Code.EQUAL, Code.NOT_EQUAL, Code.GREATER, Code.GREATER_EQUAL, Code.LESS, Code.LESS_EQUAL),
            *(Code.LOGICAL_AND, Code.LOGICAL_OR, Code.LOGICAL_NOT, Code.SELECT, Code.SELECT_V2, Code.WHERE),
        ),
        _CHOICE,
    ),
    **dict.fromkeys((Code.ARG_MAX, Code.ARG_MIN, Code.TOPK_V2, Code.UNIQUE), _INDEX),
    **dict.fromkeys((Code.REDUCE_MIN, Code.REDUCE_ANY, Code.REDUCE_ALL), _REDUCE),
    **dict.fromkeys((Code.FILL, Code.RANGE, Code.RANK, Code.SHAPE, Code.BROADCAST_ARGS), _INTEGERS),
    Code.CAST: _CAST,
    Code.REVERSE_SEQUENCE: _MOVES,
    **dict.fromkeys((Code.CONV_3D, Code.CONV_3D_TRANSPOSE), "has three spatial axes: two are supported (Conv2D)"),
    Code.CUSTOM: f"is a custom operator, whose function is unknown: leave its layer out, or {CONVERT}",
    Code.DELEGATE: "is compiled for another processor: import the file from before its compilation",
}


def why(code: int) -> str:
    """Why an operator is refused and what to do instead."""
    if code not in set(Code):
        return "is newer than this version of edgelora: convert with an older TensorFlow, or update edgelora"
    known = Code(code)
    if known.name.startswith("STABLEHLO"):
        return _STABLEHLO
    return _WHY.get(known, f"isn't supported: replace its layer; {_LIST}")
