"""Counts the work of each kernel in *terms*: named counts that follow from an op's shape and rank.

A term's name begins with its part of the core. Its count says how often something happens: products of 4 positions and
4 inputs, rows of weights, blocks, elements. cost.py multiplies the counts by a chip's cycles. The block sizes here
are those of core/kernels/packed, which a test compares: a wheel has none of its sources.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product
from math import prod

from edgelora.core.formats.network import MASK_KINDS, MATRIX_KINDS, WEIGHT_KINDS, WINDOW_KINDS, Op, QuantModel

from .zeros import Zeros

Terms = Iterator[tuple[str, float]]
LSTM_ROW, LSTM_PRODUCT = 4.4, 0.68  # of a gate, in rows and products of a plain layer; from four LSTMs on a Pico
BLOCK_BYTES = 6144  # of packed values that a convolution processes at a time
CHUNK = 16  # groups of 4 values that a row multiplies at a time
UP_BYTES = 512  # bytes of B unpacked at a time
UP_GROUPS = 2  # groups of B that a row multiplies along with its weights
ROWS_BYTES = 1408  # of columns of weights that are unpacked together
LONG_GROUPS, LONG_BYTES = 32, 10240  # columns of more groups, and bytes of packed errors then processed at a time
STRIP = 8  # columns of a depthwise strip
DENSE_TILE = 64  # inputs
WINDOW_OUTPUTS = 24  # least number that windows of sparse errors are faster for than tiles
WINDOW_GROUPS = 2  # groups of t's errors that windows of sparse errors can have, at most
LIST_BYTES = 528  # of rows that are summed at a time, and two more
LISTED = LIST_BYTES // 8 - 2
SMALL = (1 << 21) - (1 << 12)  # sums below are requantized faster
WIDEN_LEAST = 512  # values that are widened by a table
GROUP = 16  # positions whose errors share an exponent, in a sequence
SPARSE, SPARSE_WINDOWS = 4 / 8, 3 / 8  # least share of errors of 0 for other kernels: of 1x1 convolutions, of others


def groups_of(count: int) -> int:
    """Groups of 4, the last one padded."""
    return (count + 3) // 4


def left_alone(positions: int) -> int:
    """Positions left over from groups of 4 that are computed singly: 0 or 1, as more make a padded group."""
    return int(positions > 4 and positions % 4 == 1)


def parts_of(count: int, size: int) -> int:
    return -(-count // size)


@dataclass(frozen=True)
class Layer:
    """An op's shape. inputs, outputs: K and O of its weights; fused: an activation masks its errors.

    reads: elements of the kernel inside the input, over all positions; rows: number of parts along an axis that a
    concatenate or slice moves. phases: for height and width, for each remainder of the stride: (input positions,
    elements of the kernel that read them). heads: of an attend's queries, and of its keys. rounds: whether errors
    are rounded. grouped: whether positions go backward in groups, which have an exponent each. table: bytes that it
    reads of its own besides weights. zeros: of its outputs and their errors.
    """

    kind: str
    source: tuple[int, int, int]
    target: tuple[int, int, int]
    source2: tuple[int, int, int]
    kernel: tuple[int, int]
    stride: tuple[int, int]
    inputs: int
    fused: bool
    padded: bool
    reads: int
    rows: int
    phases: tuple[tuple[tuple[int, int], ...], ...]
    heads: tuple[int, int]
    causal: bool
    rounds: bool
    grouped: bool
    table: int
    zeros: Zeros

    @property
    def positions(self) -> int:
        return self.target[0] * self.target[1]

    @property
    def in_positions(self) -> int:
        return self.source[0] * self.source[1]

    @property
    def channels(self) -> int:
        return self.source[2]

    @property
    def outputs(self) -> int:
        return self.target[2]

    @property
    def elements(self) -> int:
        return prod(self.target)

    @property
    def taps(self) -> int:
        return self.kernel[0] * self.kernel[1]

    @property
    def in_place(self) -> bool:
        """Whether it is a 1x1 convolution that reads the input in place: same positions, whole groups."""
        return self.taps == 1 and self.source[:2] == self.target[:2] and self.channels % 4 == 0 and not self.padded


def layer(model: QuantModel, index: int, zeros: Zeros) -> Layer:
    """The shape of op `index`."""
    op = model.ops[index]
    source, target = model.tensors[op.input].shape, model.tensors[op.output].shape
    kernel = {"dense": source[:2], "mean": source[:2]}.get(op.kind, op.kernel)
    return Layer(
        op.kind,
        source,
        target,
        model.tensors[op.input2].shape,
        kernel,
        op.stride,
        prod(kernel) * (1 if op.kind == "depthwise" else source[2]),
        op.kind in MASK_KINDS and (op.mask_low or op.mask_high),
        any(op.padding) or op.dilation != (1, 1),
        prod(_reads(op, axis, source[axis], target[axis]) for axis in (0, 1))
        if op.kind in WINDOW_KINDS
        else prod(kernel),
        prod((1, *(source if op.kind == "slice" else target))[: op.axis]),
        tuple(tuple(_phases(op, axis, source[axis])) for axis in (0, 1)) if op.kind in ("conv", "project") else (),
        op.heads,
        op.causal,
        model.rounds,
        model.rounds and model.learns_sequences and _goes_by_rows(model, op),
        _table(op, prod(target)),
        zeros,
    )


def _goes_by_rows(model: QuantModel, op: Op) -> bool:
    """Whether each position of an op's output depends on the same position of its inputs alone (SPEC.md, section 5)."""
    source, target = model.tensors[op.input].shape, model.tensors[op.output].shape
    if op.kind in ("conv", "project"):
        return op.kernel == op.stride == (1, 1) and not any(op.padding) and source[:2] == target[:2]
    if op.kind in ("add", "multiply"):
        return model.tensors[op.input2].shape == target
    return op.kind in ("embed", "widen", "norm", "rotate", "lookup")


def _positions(layer: Layer, count: int) -> Layer:
    """The layer on some of its positions."""
    return replace(
        layer,
        source=(count, 1, layer.source[2]),
        target=(count, 1, layer.target[2]),
        source2=(count, 1, layer.source2[2]),
        reads=count if layer.kind in ("conv", "project") else layer.reads,
        phases=(((count, 1),), ((1, 1),)) if layer.phases else (),
        grouped=False,
    )


def _table(op: Op, elements: int) -> int:
    """Bytes of an op's own that a pass reads: a row a symbol, angles, a norm's gain and bias, a function, constants."""
    arrays = (op.angles, op.gain, op.bias if op.kind == "norm" else None, op.table, op.values)
    return elements if op.kind == "embed" else sum(array.nbytes for array in arrays if array is not None)


def _phases(op: Op, axis: int, size: int) -> Iterator[tuple[int, int]]:
    """(positions, elements of the kernel that read them) along one axis, for each set of positions a stride apart."""
    stride = op.stride[axis]
    for first in range(min(stride, size)):
        starts = (first + op.padding[axis] - k * op.dilation[axis] for k in range(op.kernel[axis]))
        yield parts_of(size - first, stride), sum(start % stride == 0 for start in starts)


def _reads(op: Op, axis: int, size: int, outputs: int) -> int:
    """Elements of the kernel inside the input along one axis, over all outputs."""
    starts = (out * op.stride[axis] - op.padding[axis] for out in range(outputs))
    return sum(0 <= start + k * op.dilation[axis] < size for start in starts for k in range(op.kernel[axis]))


# ---- forward ---------------------------------------------------------------------------------------------------------


def forward(layer: Layer, rank: int, whole_a: bool, fast: bool) -> Terms:
    """Terms of an op's inference. whole_a: A's rows read all inputs, also in a 1x1 convolution."""
    yield "op", 1
    if layer.kind in MATRIX_KINDS:
        once = layer.kind != "dense" and layer.taps == 1 and not whole_a and groups_of(layer.inputs) >= rank
        if not fast:
            yield from _plain_forward(layer, rank)
        elif layer.positions <= 2:
            yield from _single_forward(layer, rank)
        else:
            yield from _block_forward(layer, rank, groups_of(layer.inputs) * (1 if once else rank))
    elif layer.kind == "depthwise":
        yield from _depthwise_forward(layer, fast)
    elif layer.kind == "attend":
        yield from _attend(layer, "attend", fast)
    else:
        yield from _other_forward(layer)


def _block_forward(g: Layer, rank: int, scanned: int) -> Terms:
    groups, low, outputs = groups_of(g.inputs), groups_of(rank), g.outputs
    chunks, direct = parts_of(groups, CHUNK), g.inputs % 4 == 0
    up_rows = _up_rows(outputs, rank)
    blocks, alone = tiles(g, rank), left_alone(g.positions)
    quads = groups_of(g.positions) - alone
    yield "conv.row", blocks * outputs * chunks
    yield "conv.quad", quads * outputs * chunks
    yield "conv.products", quads * outputs * groups
    yield "conv.alone", alone * outputs
    yield "conv.alone_products", alone * outputs * groups
    yield from _requantized(g)
    if not direct:
        yield "conv.unpack_row", blocks * outputs
        yield "conv.unpack", blocks * outputs * g.inputs
    yield from _gather(g)
    if rank:
        yield "branch", 1
        yield "branch.scan", rank * g.inputs
        yield "branch.row", blocks * rank
        yield "branch.products", quads * scanned
        yield "conv.alone_products", alone * scanned
        yield "branch.pack", quads * low
        yield "branch.unpack", outputs * rank * (blocks if outputs > up_rows else 1)
        yield "branch.up", quads * outputs * low
        yield "conv.alone_products", alone * outputs * low
        if low > UP_GROUPS:
            yield "branch.apart", quads * outputs


def _requantized(g: Layer) -> Terms:
    """Sums become outputs: with a fused activation, those that are not positive at once."""
    large = g.inputs * 127 * 128 >= SMALL
    if g.kind == "project":
        yield "project" if large else "project.small", g.elements
    elif large:
        yield "requantize", g.elements
    elif g.fused:
        yield "requantize.positive", g.elements * g.zeros.positive
        yield "requantize.zero", g.elements * (1 - g.zeros.positive)
    else:
        yield "requantize.small", g.elements


def _up_rows(outputs: int, rank: int) -> int:
    return min(outputs, UP_BYTES // 8 // groups_of(rank)) if rank else 0


def tiles(g: Layer, rank: int) -> int:
    """How often a forward pass reads the weights."""
    if g.kind == "depthwise" or g.positions <= 2:
        return g.positions if g.kind in ("conv", "project") else 1
    groups, low = groups_of(g.inputs), groups_of(rank)
    aligned = 0 if g.inputs % 4 == 0 else 4 * groups * max(2, min(8, 64 // groups))
    fixed = 1024 + aligned + 8 * low * _up_rows(g.outputs, rank) + 4 * rank + 4 * groups
    return blocks_of(groups_of(g.positions), 32 * (groups + low) + 16 * low, fixed)


def blocks_of(quads: int, quad_bytes: int, fixed: int, room: int = BLOCK_BYTES) -> int:
    """The number of blocks in which `quads`, groups of 4 positions, are processed."""
    return parts_of(quads, max(1, (room - fixed) // quad_bytes))


def _gather(g: Layer) -> Terms:
    """Packs the inputs of all positions."""
    if g.in_place:
        yield "pack.group", g.positions * groups_of(g.inputs)
    elif g.channels % 4 == 0:
        yield "pack.row", g.positions * g.kernel[0]
        yield "pack.group", g.positions * groups_of(g.inputs)
    else:
        yield "gather.position", g.positions
        if g.kernel[0] == 1 and g.stride[1] * g.channels % 4 == 0:
            yield "gather.group", g.positions * groups_of(g.inputs)
        else:
            yield "gather.row", g.positions * g.kernel[0]
            yield "gather.value", g.positions * g.inputs


def _single_forward(g: Layer, rank: int) -> Terms:
    positions, outputs, low = g.positions, g.outputs, groups_of(rank)
    yield "dense", positions
    yield "dense.row", positions * outputs
    yield "dense.products", positions * outputs * parts_of(g.inputs, 8)
    if g.inputs % 4:
        copies = 4 if g.inputs % 2 else 2
        yield "dense.odd_row", positions * outputs
        yield "dense.odd_pack", positions * copies * g.inputs
    else:
        yield "dense.pack", positions * groups_of(g.inputs)
    if g.kind == "conv":
        yield "gather.position", positions
        yield "gather.row", positions * g.kernel[0]
        yield "gather.value", positions * g.inputs
    if rank:
        yield "dense.low_row", positions * rank
        yield "dense.low", positions * rank * g.inputs
        if g.inputs % 4:
            yield "dense.low_odd", positions * rank * g.inputs
        if rank in (4, 4 * UP_GROUPS):
            yield "dense.up_groups", positions * outputs * low
        else:
            yield "dense.up_row", positions * outputs
            yield "dense.up", positions * outputs * rank


def _plain_forward(g: Layer, rank: int) -> Terms:
    positions, outputs = g.positions, g.outputs
    if g.taps > 1 and g.kind == "conv":
        yield "plain.patch", positions * g.inputs
    yield "plain.row", positions * outputs
    yield "plain.products", positions * outputs * g.inputs
    if rank:
        yield "plain.low", positions * rank * g.inputs
        yield "plain.up_row", positions * outputs
        yield "plain.up", positions * outputs * rank


def _depthwise_forward(g: Layer, fast: bool) -> Terms:
    if not fast:
        yield "depthwise", g.elements
        yield "depthwise.row", g.elements * g.kernel[0]
        yield "depthwise.products", g.elements * g.taps
        return
    if g.stride == (1, 1):
        yield from _strips(g.target, g.source, g.padded)
    else:
        yield "taps.output", g.elements
        yield "taps.plane_row", g.channels * g.source[0]
        yield "taps.plane", g.channels * g.in_positions
    yield from _requantized(g)


def _strips(to: tuple[int, int, int], source: tuple[int, int, int], padded: bool) -> Terms:
    """A 3x3 kernel of stride 1 over the planes of `source`, two outputs at a time; rows of padding take no time."""
    (height, width, outputs), (in_h, in_w, channels) = to, source
    parts = parts_of(width, STRIP)
    strips = blocks_of(height, 40 * parts + 4 * width, 84 * parts)
    yield "strip", outputs * strips * parts
    yield "strip.row", outputs * parts * height
    kernel_rows, each = outputs * (3 * height - 2 * padded), parts_of(width, parts)
    odd = (parts - 1) * (each % 2) + (width - (parts - 1) * each) % 2
    yield "strip.pair", kernel_rows * (width - odd) / 2
    yield "strip.single", kernel_rows * odd
    yield "strip.plane", channels * (in_w + 2 * (parts - 1)) * (in_h + 2 * (strips - 1))


def _attend(g: Layer, name: str, fast: bool) -> Terms:
    """Attention, forward or backward: fast kernels multiply rows of queries with groups of keys.

    Backward, they sum three errors, and compute weights and products with values of all heads but the last one twice.
    """
    of, (heads, keys) = name if fast else f"{name}_plain", g.heads
    values, rows, step = prod(g.source) // heads, g.positions, 4 if fast else 1
    padded, back = step * parts_of(rows, step), fast and name == "attend_back"
    scores = rows * (rows + 1) // 2 if g.causal else rows * rows
    products = values // rows * (padded * (padded + step) // 2 if g.causal else padded * padded)
    yield f"{of}.row", heads * rows
    yield f"{of}.score", (2 * heads - 1 if back else heads) * scores
    yield f"{of}.products", (3 * heads + 2 * (2 * heads - 1) if back else heads) * products
    if fast:
        yield f"{of}.value", heads * values
        yield f"{of}.key", keys * values


def _other_forward(g: Layer) -> Terms:
    elements = g.elements
    if g.kind in ("average_pool", "max_pool", "mean"):
        yield f"{g.kind}", elements
        yield "pool.row", elements * g.kernel[0]
        if g.outputs % 4:
            yield "pool.value", g.reads * g.outputs
        else:
            yield "max_pool.word" if g.kind == "max_pool" else "pool.word", g.reads * g.outputs / 4
    elif g.kind == "concatenate":
        yield from _copies(g.rows, prod(g.source) // g.rows, elements // g.rows)
        yield from _copies(g.rows, prod(g.source2) // g.rows, elements // g.rows)
    elif g.kind == "slice":
        yield from _copies(g.rows, elements // g.rows, prod(g.source) // g.rows)
    elif g.kind == "pad":
        yield "fill", elements
        yield from _copies(g.source[0], g.source[1] * g.channels, g.target[1] * g.channels)
    elif g.kind in ("reshape", "history"):
        yield from _copies(1, elements, prod(g.source))
    elif g.kind == "softmax":
        yield "softmax", g.positions
        yield "softmax.value", elements
    elif g.kind == "gather":
        yield from _copies(1, elements, 1)
    elif g.kind == "norm":
        yield "norm", g.positions
        yield "norm.value", elements
    elif g.kind == "multiply" and g.source2 != g.target:
        yield "multiply.repeated", elements
    elif g.kind == "widen" and elements >= WIDEN_LEAST:
        yield "widen.table", 1
        yield "widen.value", elements
    elif g.kind in ("lookup", "multiply", "embed", "widen", "rotate"):
        yield g.kind, elements
    elif g.kind == "lstm":  # four gates of each unit, at every position of the input
        rows = 4 * g.in_positions * g.outputs
        yield "plain.row", LSTM_ROW * rows
        yield "plain.products", LSTM_PRODUCT * rows * (g.channels + g.outputs)
    elif g.kind == "svdf_features":
        yield "plain.row", g.outputs // 2
        yield "plain.products", g.outputs // 2 * prod(g.source)
    elif g.kind == "svdf_time":
        yield "plain.row", elements
        yield "plain.products", prod(g.source) // 2
    elif g.kind == "matmul":
        yield "plain.row", elements
        yield "plain.products", elements * g.channels
    elif g.kind != "constant":  # ops with two inputs: at most the cost of an add
        yield "add", elements


def _copies(rows: int, count: int, pitch: int) -> Terms:
    """`rows` copies of `count` values, `pitch` apart in the longer tensor: by words if all are aligned."""
    yield "copy.row", rows
    yield ("copy.word", rows * count / 4) if count % 4 == pitch % 4 == 0 else ("copy.value", rows * count)


# ---- backward --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Step:
    """An op's work in the backward pass. wanted: how many of its inputs get an error, without the stream that it adds
    to; stream: whether that gets one.

    joined: elements of errors that are added to earlier ones; again: its output is recomputed.
    """

    trains_a: bool
    wanted: int
    stream: bool
    joined: int
    again: bool


def backward(layer: Layer, rank: int, step: Step, room: int) -> Terms:
    """Terms of an op's backward pass. room: bytes of scratch memory; 0 for plain kernels."""
    yield "back", 1
    yield "back.join", step.joined
    if layer.fused:
        yield "back.mask", layer.elements
    if not layer.grouped:
        yield from _positions_back(layer, rank, step, room)
        return
    whole, rest = divmod(layer.positions, GROUP)
    yield from _times(whole, _positions_back(_positions(layer, GROUP), rank, step, room))
    if rest:
        yield from _positions_back(_positions(layer, rest), rank, step, room)


def _positions_back(layer: Layer, rank: int, step: Step, room: int) -> Terms:
    """Terms of the backward pass of positions that share an exponent."""
    fast = room > 0
    if rank:
        yield from _b_gradient(layer, rank, fast)
    if step.stream:
        yield "copy.word", layer.elements / 4
    if not step.trains_a and not step.wanted:
        return
    if layer.kind in WEIGHT_KINDS or layer.kind in ("mean", "multiply", "widen", "matmul"):
        of = "round" if layer.rounds else "back"
        yield f"{of}.requantize_channel", layer.outputs
        yield f"{of}.requantize", layer.elements
    if rank:
        yield from _branch_backward(layer, rank, fast)
    if step.trains_a:
        yield from _a_gradient(layer, rank, fast)
    if step.wanted:
        yield from _input_backward(layer, rank, step, room)


def _put(g: Layer, values: int) -> Terms:
    """Sums become errors."""
    yield ("round.put" if g.rounds else "dx.put"), values


def _b_gradient(g: Layer, rank: int, fast: bool) -> Terms:
    if not fast:
        yield "b.plain", g.outputs * rank * g.positions
    elif g.kind == "dense":
        yield from _outer(g.outputs, rank)
    else:
        yield "b.pack" if g.outputs % 4 == 0 else "b.pack_odd", g.outputs * groups_of(g.positions)
        yield from _products_over_positions(g.positions, groups_of(g.outputs), rank, 0)
        yield "b.add", g.outputs * rank


def _outer(rows: int, count: int) -> Terms:
    yield "outer.row", rows
    yield "outer", rows * count


def _products_over_positions(positions: int, quads: int, rank: int, quad_bytes: int) -> Terms:
    """Sums of a matrix's gradient over quads of columns. quad_bytes: bytes of a quad besides its values and sums."""
    groups, rows = min(groups_of(positions), CHUNK), min(rank, 4)
    blocks = blocks_of(quads, 32 * groups + 16 * rank + quad_bytes, 8 * groups * rows)
    chunks = parts_of(positions, 4 * CHUNK)
    yield "b.unpack", blocks * rank * groups_of(positions)
    yield "b.row", blocks * chunks * parts_of(rank, 4)
    yield "b.quad", quads * chunks * rank
    yield "b.products", quads * groups_of(positions) * rank


def _a_gradient(g: Layer, rank: int, fast: bool) -> Terms:
    if not fast:
        yield "a.plain", rank * g.inputs
        yield "a.plain_row", rank * g.inputs * g.target[0]
        yield "a.plain_products", rank * g.channels * g.reads
    elif g.kind == "dense":
        yield from _outer(rank, g.inputs)
    else:
        runs, length = g.kernel[0], g.kernel[1] * g.channels
        quads = runs * groups_of(length)
        yield "a.run", g.positions * runs
        yield "a.pack" if g.channels % 4 == 0 else "a.pack_odd", quads * groups_of(g.positions)
        yield from _products_over_positions(g.positions, quads, rank, 16)
        yield "a.add", rank * g.inputs


def _columns(positions: int, groups: int, low_groups: int, part: int) -> tuple[int, int]:
    """(quads per block, columns computed together) for kernels whose rows are columns of a matrix."""
    longest = max(groups, low_groups)
    rows = max(1, min(4, ROWS_BYTES // (8 * longest)))
    fixed = 8 * longest * rows + 4 * part
    quads, room = groups_of(positions), LONG_BYTES if longest > LONG_GROUPS else BLOCK_BYTES
    return parts_of(quads, blocks_of(quads, 32 * (groups + low_groups) + 16 * rows, fixed, room)), rows


def _branch_backward(g: Layer, rank: int, fast: bool) -> Terms:
    positions, outputs = g.positions, g.outputs
    if not fast:
        yield "u.plain_row", positions * outputs
        yield "u.plain", positions * outputs * rank * g.zeros.live
        return
    if g.kind == "dense":
        yield "u.dense", 1
        yield from _weighted_rows(1, rank, outputs, g.zeros.live, rank % 4 == 0, "signed")
        return
    part, quads = groups_of(outputs), groups_of(positions)
    size, rows = _columns(positions, part, 0, part)
    yield "u", 1
    if g.rounds:
        yield from _put(g, positions * rank)
    yield "back.pack_part", positions
    yield "back.pack" if outputs % 4 == 0 else "back.pack_odd", positions * part
    yield _unpacked(rank, rows, outputs), parts_of(quads, size) * part * rank
    yield from _rows(parts_of(quads, size), rank, rows, positions, part)


def _weighted_rows(calls: int, columns: int, rows: int, live: float, whole: bool, of: str = "weights") -> Terms:
    """Sums of `rows` rows, each times a value, over all `columns` of `calls` calls. live: the share of values that are
    not 0; whole: rows are whole words.
    """
    if whole:
        yield "rows.group", parts_of(rows, LISTED) * columns / 4
        yield f"rows.{of}", rows * columns * live
    else:
        yield "rows.odd_row", calls * rows
        yield "rows.odd", rows * columns * live


def _unpacked(columns: int, rows: int, count: int) -> str:
    """The term that unpacks columns of `count` values: 4 at once if all are whole groups."""
    return "columns.unpack" if rows == 4 and columns % 4 == 0 and count % 4 == 0 else "columns.unpack_odd"


def _rows(blocks: int, columns: int, rows: int, positions: int, groups: int) -> Terms:
    chunks, alone = parts_of(groups, CHUNK), left_alone(positions)
    quads = groups_of(positions) - alone
    yield "columns.block", blocks
    yield "columns.row", blocks * parts_of(columns, rows) * chunks
    yield "columns.quad", quads * columns * chunks
    yield "columns.products", quads * columns * groups
    yield "columns.alone", alone * columns
    yield "conv.alone_products", alone * columns * groups


def _input_backward(g: Layer, rank: int, step: Step, room: int) -> Terms:
    if g.kind == "dense":
        yield from _dense_backward(g, rank, room > 0)
    elif g.kind in ("conv", "project"):
        yield from _conv_backward(g, rank, step.trains_a, room) if room else _plain_backward(g, rank)
    elif g.kind == "depthwise":
        yield from _depthwise_backward(g, room > 0)
    elif g.kind == "attend":
        yield from _attend(g, "attend_back", room > 0)
    else:
        yield from _other_backward(g, step.wanted)


def _dense_backward(g: Layer, rank: int, fast: bool) -> Terms:
    if not fast:
        yield from _plain_backward(g, rank)
        return
    yield "dense_back.value", g.inputs
    yield from _position_backward(g, rank, 1, 1)


def _sparse_backward(g: Layer, rank: int, whole_a: bool) -> Terms:
    """Each position of a 1x1 convolution whose errors are mostly 0, as a dense layer."""
    yield "sparse_back.tile", g.positions * parts_of(g.inputs, DENSE_TILE)
    yield "sparse_back.value", g.positions * g.inputs
    yield from _position_backward(g, rank, g.positions, 1 - g.zeros.last if _reads_once(g, rank, whole_a) else 1)


def _position_backward(g: Layer, rank: int, positions: int, of_rows: float) -> Terms:
    """Errors of a position's inputs. of_rows: the share of samples where those through A are sums of rows."""
    calls, inputs, whole = positions * parts_of(g.inputs, DENSE_TILE), positions * g.inputs, g.inputs % 4 == 0
    yield from _weighted_rows(calls, inputs, g.outputs, g.zeros.live, whole)
    if rank:
        yield "back.cut", of_rows * inputs
        yield from _times(of_rows, _weighted_rows(calls, inputs, rank, 1, whole, "signed"))


def _reads_once(g: Layer, rank: int, whole_a: bool) -> bool:
    """Whether each input of a 1x1 convolution is read by one row of A."""
    return rank > 0 and not whole_a and g.channels % (4 * rank) == 0


def _fits_windows(g: Layer, rank: int, rows: int, room: int) -> bool:
    """Whether a convolution's errors of its input are computed window by window."""
    low, faster = groups_of(rank), g.outputs >= WINDOW_OUTPUTS or rows < 4
    wanted = 4 * (prod(g.source) + 2 * min(g.outputs + 2, LISTED + 2) + 2 * low * g.inputs)
    whole = g.channels % 4 == rank % 4 == 0 and low <= WINDOW_GROUPS
    return whole and faster and not g.in_place and wanted <= room


def _windows_backward(g: Layer, rank: int) -> Terms:
    """Sums of weighted rows for what each position reads; products with A's columns are part of a row's time."""
    rows = g.positions * g.kernel[0]
    yield "windows.listed", rows * g.outputs
    yield "windows.sums", g.reads * g.channels * (0, 16, 25)[groups_of(rank)]
    yield "windows.value", prod(g.source)
    yield from _weighted_rows(rows, g.reads * g.channels, g.outputs, g.zeros.live, True)
    yield "back.cut", prod(g.source) if rank else 0


def _conv_backward(g: Layer, rank: int, whole_a: bool, room: int) -> Terms:
    """By the kernel that a sample's errors choose. whole_a: A's rows read all inputs."""
    part, low = groups_of(g.outputs), groups_of(rank)
    most = [max(numbers) for axis in g.phases for numbers in zip(*axis, strict=True)]
    most_taps = most[1] * most[3]
    size, rows = _columns(most[0] * most[2], most_taps * part, most_taps * low, max(part, low))
    sparse = 0.0
    if g.in_place and g.outputs % 4 == rank % 4 == 0:
        sparse = g.zeros.chosen(SPARSE)
        yield from _times(sparse, _sparse_backward(g, rank, whole_a))
    elif _fits_windows(g, rank, rows, room):
        sparse = g.zeros.chosen(SPARSE_WINDOWS)
        yield from _times(sparse, _windows_backward(g, rank))
    yield from _times(1 - sparse, _phases_backward(g, rank, whole_a, size, rows))


def _times(share: float, of: Terms) -> Terms:
    """What happens for this share of the samples."""
    if share:
        yield from ((name, share * count) for name, count in of)


def _phases_backward(g: Layer, rank: int, whole_a: bool, size: int, rows: int) -> Terms:
    """A convolution of stride 1 for each phase of both axes."""
    part, low, channels = groups_of(g.outputs), groups_of(rank), g.channels
    for (height, down), (width, across) in product(*g.phases):
        positions, taps = height * width, down * across
        if not taps:
            yield "dx.clear", positions * channels
            continue
        quads = groups_of(positions)
        yield from _put(g, positions * channels)
        for of_a, count, groups in ((False, g.outputs, part), (True, rank, low))[: 2 if rank else 1]:
            whole, share = count % 4 == 0, 1.0
            if g.in_place and whole and rank % 4 == 0:
                yield "pack.group", positions * groups
                if of_a and rows == 4 and _reads_once(g, rank, whole_a):
                    share -= g.zeros.last
            else:
                yield "dx.row", positions * down
                yield "back.pack_part", positions * (down if whole else taps)
                yield "back.pack" if whole else "back.pack_odd", positions * taps * groups
            yield _unpacked(channels, rows, count), share * parts_of(quads, size) * taps * groups * channels
            yield from _times(share, _rows(parts_of(quads, size), channels, rows, positions, taps * groups))


def _plain_backward(g: Layer, rank: int) -> Terms:
    yield "plain_back.row", g.reads * (g.outputs + rank)
    yield "plain_back.products", g.reads * g.channels * (g.outputs * g.zeros.live + rank)


def _depthwise_backward(g: Layer, fast: bool) -> Terms:
    (in_h, in_w, channels), out_w = g.source, g.target[1]
    if not fast:
        yield "depthwise_back", g.in_positions * channels
        yield "depthwise_back.tap", g.in_positions * g.taps
        yield "depthwise_back.products", g.reads * g.outputs
        return
    if g.stride == (1, 1):
        yield from _strips(g.source, g.target, g.padded)
        yield from _put(g, g.in_positions * channels)
        return
    pitch = 3 + max((in_w + 1) // 2 * 2 + 4, (out_w - 1) * g.stride[1] + 2)
    strips = blocks_of(in_h, 4 * pitch + 4 * in_w, 8 * pitch)
    yield "taps_back", channels * strips
    yield "taps_back.output", channels * g.in_positions
    yield "taps_back.plane" if g.stride[1] == 1 else "taps_back.plane2", g.elements


def _other_backward(g: Layer, wanted: int) -> Terms:
    elements = g.elements
    if g.kind in ("average_pool", "max_pool"):
        yield "pool_back", g.in_positions * g.channels
        yield "pool_back.window", g.reads
        if g.kind == "max_pool":
            yield "pool_back.compare", g.reads * g.outputs
    elif g.kind == "mean":
        yield "mean_back.value" if g.channels % 4 else "mean_back", prod(g.source)
    elif g.kind == "concatenate":
        yield from _copies(g.rows * wanted, elements // g.rows // 2, elements // g.rows)
    elif g.kind == "slice":
        yield "fill", prod(g.source)
        yield from _copies(g.rows, elements // g.rows, prod(g.source) // g.rows)
    elif g.kind == "pad":
        yield from _copies(g.source[0], g.source[1] * g.channels, g.target[1] * g.channels)
    elif g.kind == "reshape":
        yield from _copies(1, prod(g.source), elements)
    elif g.kind == "history":
        yield "history_back", elements
    elif g.kind == "svdf_features":
        yield "plain.row", g.inputs
        yield "plain.products", g.inputs * g.outputs // 2
    elif g.kind == "svdf_time":
        yield "plain.products", prod(g.source) // 2
    elif g.kind == "softmax":
        yield "softmax_back", g.positions
        yield "softmax_back.value", elements
    elif g.kind == "gather":
        yield "fill", prod(g.source)
        yield from _copies(1, elements, 1)
    elif g.kind == "norm":
        yield "norm_back", g.positions
        yield "norm_back.value", elements
    elif g.kind == "widen":
        yield "copy.word", elements / 4
    elif g.kind == "multiply" and g.source2 != g.target or g.kind == "squared_difference":
        yield "shares", elements * wanted
    elif g.kind == "matmul":
        yield "plain_back.row", elements * wanted
        yield "plain_back.products", elements * g.channels * wanted
    elif g.kind in ("lookup", "multiply", "rotate"):
        yield f"{g.kind}_back", elements * wanted
    else:  # other ops with two inputs
        yield "add_back", elements * wanted


# ---- the rest of a step ----------------------------------------------------------------------------------------------


def call(outputs: int) -> Terms:
    """The call of an inference, which finds the largest output."""
    yield "infer", 1
    yield "infer.output", outputs


def reset(elements: int) -> Terms:
    """The start of a sample, if histories hold `elements` elements."""
    yield "reset", elements


def loss(kind: str, elements: int, positions: int) -> Terms:
    """The loss, at so many positions, and the call of a training step."""
    yield "train", 1
    yield kind, elements
    if positions > 1:
        yield "train.position", positions


def update(count: int, momentum: int) -> Terms:
    """The update of a matrix of `count` elements, which also clears its gradient."""
    yield "update", 1
    yield "update.momentum" if momentum else "update.element", count
