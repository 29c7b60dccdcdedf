"""Residual streams: sums that only normalization reads get 16 bits, and matrices add into them.

Importers emit a norm behind a widen, which makes a stream of what it reads. A sum of 8 bits between the two would lose
what the stream is for, so `streamed` makes it a part of the stream.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from edgelora.model.floatnet import layers as floatnet_layers
from edgelora.model.floatnet.layers import FloatNet, Layer, Shape


def streamed(net: FloatNet) -> FloatNet:
    """The network whose sums are streams where only widens, or other such sums, read them."""
    graph = _Graph(net, floatnet_layers.shapes(net))
    for index in range(len(net.layers)):
        graph.take(index)
    return replace(net, layers=graph.layers)


@dataclass
class _Graph:
    """Layers in the making. Tensors are numbered as in `Layer.inputs`; `made` has those of the network that there was.

    streams: the stream of a tensor, if there is one.
    """

    net: FloatNet
    shapes: list[Shape]
    layers: list[Layer] = field(default_factory=list)
    made: dict[int, int] = field(default_factory=lambda: {0: 0})
    streams: dict[int, int] = field(default_factory=dict)

    def take(self, index: int) -> None:
        layer, read, tensor = self.net.layers[index], self._read(index), index + 1
        if self._is_stream(tensor):
            kept, added = self._sides(index)
            self.streams[tensor] = self._added(added, self._stream(kept))
        elif layer.kind == "widen" and len(read) == 1:
            self.made[tensor] = self._stream(read[0])
        elif not self._is_deferred(tensor):
            self.made[tensor] = self._add(layer, *(self.made[source] for source in read))

    def _added(self, tensor: int, h: int) -> int:
        """The stream h plus a tensor: by the matrix that makes it, if nothing else reads that."""
        if not self._is_deferred(tensor):
            return self._add(Layer("widen"), self.made[tensor], h)
        layer = self.net.layers[tensor - 1]
        return self._add(replace(layer, kind="project"), self.made[self._read(tensor - 1)[0]], h)

    def _stream(self, tensor: int) -> int:
        if tensor not in self.streams:
            self.streams[tensor] = self._add(Layer("widen"), self.made[tensor])
        return self.streams[tensor]

    def _add(self, layer: Layer, *inputs: int) -> int:
        self.layers.append(replace(layer, inputs=() if inputs == (len(self.layers),) else inputs))
        return len(self.layers)

    def _read(self, index: int) -> tuple[int, ...]:
        return floatnet_layers.sources(self.net, index)

    def _readers(self, tensor: int) -> list[int]:
        return [i for i in range(len(self.net.layers)) if tensor in self._read(i)]

    def _is_stream(self, tensor: int) -> bool:
        """Whether a sum needs no grid of 8 bits."""
        layer, readers = self.net.layers[tensor - 1], self._readers(tensor)
        alike = all(self.shapes[source] == self.shapes[tensor] for source in self._read(tensor - 1))
        if layer.kind != "add" or layer.activation != "none" or not alike or not readers:
            return False
        return all(self.net.layers[i].kind == "widen" or i >= tensor and self._is_stream(i + 1) for i in readers)

    def _sides(self, index: int) -> tuple[int, int]:
        """Of a sum's two tensors the one whose stream there is, and the one that is added: by a matrix, if it can."""
        first, second = self._read(index)
        return (second, first) if self._is_matrix(first) and not self._is_matrix(second) else (first, second)

    def _is_matrix(self, tensor: int) -> bool:
        """Whether a matrix at each position makes a tensor, which one layer reads."""
        if tensor == 0:
            return False
        layer = self.net.layers[tensor - 1]
        plain = layer.kind == "conv" and layer.activation == "none" and layer.kernel == layer.stride == (1, 1)
        return plain and len(self._readers(tensor)) == 1

    def _is_deferred(self, tensor: int) -> bool:
        """Whether a tensor is what a sum adds to its stream by a matrix."""
        if not self._is_matrix(tensor):
            return False
        [reader] = self._readers(tensor)
        return self._is_stream(reader + 1) and self._sides(reader)[1] == tensor
