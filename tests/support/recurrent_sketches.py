"""`.tflite` files with recurrent operators."""

from __future__ import annotations

import numpy as np
from tflite_writer import BUILTIN, TYPE, Sketch, schema

BIASES, STATE, CELL = 12, 18, 19  # indices of an LSTM's inputs


class LstmSketch(Sketch):
    """A chain of LSTM layers over [1, steps, inputs]."""

    def lstm(
        self,
        units: int,
        power: int = -12,
        clip: float = 0.0,
        gain: float = 1.0,
        grid: tuple[float, int] = (1 / 128, 0),
        weights: tuple[int, int] = (-127, 128),
        largest: int = 3000,
    ) -> LstmSketch:
        """Appends an LSTM. Gates spread over about +-gain; power: exponent of the cell's scale; grid: of the state."""
        _, steps, inputs = self.tensors[self.last].shape
        scale = self.tensors[self.last].quantization.scale[0]
        rng, places = self.rng, np.full(24, -1)
        scales = {1: gain / (scale * 5000 * inputs**0.5), 5: gain / (grid[0] * 5000 * units**0.5)}
        for first, sides in ((1, (units, inputs)), (5, (units, units))):
            for gate in range(4):
                scale_of = float(np.float32(scales[first] * np.exp(rng.uniform(-0.5, 0.5))))
                values = rng.integers(*weights, sides).astype(np.int8)
                places[first + gate] = self.tensor(sides, (scale_of, 0), data=values)
        for gate in range(4):
            values = rng.integers(-largest, largest + 1, units).astype(np.int32)
            places[BIASES + gate] = self.tensor((units,), (0.001, 0), TYPE.INT32, values)
        places[STATE] = self.tensor((1, units), grid)
        places[CELL] = self.tensor((1, units), (2.0**power, 0), TYPE.INT16)
        for place in (STATE, CELL):
            self.tensors[places[place]].isVariable = True
        options = schema.UnidirectionalSequenceLSTMOptionsT(fusedActivationFunction=4, cellClip=clip)
        return self.add(
            BUILTIN.UNIDIRECTIONAL_SEQUENCE_LSTM, options, (1, steps, units), *places[1:].tolist(), grid=grid
        )

    def last_step(self) -> LstmSketch:
        """Appends the selection of the last step: Keras' output without return_sequences."""
        shape, quantization = self.tensors[self.last].shape, self.tensors[self.last].quantization
        grid = (quantization.scale[0], quantization.zeroPoint[0])
        options = schema.StridedSliceOptionsT(beginMask=5, endMask=5, shrinkAxisMask=2)
        bounds = [self.ints(*values) for values in ((0, -1, 0), (0, 0, 0), (1, 1, 1))]
        return self.add(BUILTIN.STRIDED_SLICE, options, (1, shape[2]), *bounds, grid=grid)

    def reverse(self, axis: int) -> LstmSketch:
        tensor = self.tensors[self.last]
        grid = (tensor.quantization.scale[0], tensor.quantization.zeroPoint[0])
        return self.add(BUILTIN.REVERSE_V2, schema.ReverseV2OptionsT(), tuple(tensor.shape), self.ints(axis), grid=grid)


class SvdfSketch(Sketch):
    """A chain of SVDF layers."""

    def svdf(
        self, units: int, memory: int, rank: int = 1, fused: int = 0, zero_point: int = 3, wide: bool = False
    ) -> SvdfSketch:
        """Appends an SVDF layer with grids that its values fill; `state` is its state tensor, int16 if `wide`."""
        source, filters, rng = self.tensors[self.last], units * rank, self.rng
        inputs, scale = source.shape[1], source.quantization.scale[0]
        features = self.weights(filters, inputs, scale=0.013)
        held, time_scale, kind = scale * 0.013 * 60 * inputs**0.5, 0.017, TYPE.INT8
        if wide:
            held, time_scale, kind = held / 200, 0.017 / 200, TYPE.INT16
            values = rng.integers(-32768, 32768, (filters, memory)).astype(np.int16)
            times = self.tensor((filters, memory), (time_scale, 0), kind, values)
        else:
            times = self.weights(filters, memory, scale=time_scale)
        held = float(np.float32(held))
        values = rng.integers(-5000, 5000, units).astype(np.int32) * (20000 if wide else 1)
        bias = self.tensor((units,), (held * time_scale, 0), TYPE.INT32, values.astype(np.int32))
        self.state = self.tensor((1, memory * filters), (held, 0), kind)
        self.tensors[self.state].isVariable = True
        options = schema.SVDFOptionsT(rank=rank, fusedActivationFunction=fused)
        grid = (held * time_scale * (40000 if wide else 1) * 60 * (memory * rank) ** 0.5, zero_point)
        return self.add(BUILTIN.SVDF, options, (1, units), features, times, bias, self.state, grid=grid)
