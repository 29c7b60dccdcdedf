"""Makes small random INT8 `.tflite` files for tests/importers/test_import.py, with Keras and TensorFlow's converter.

`make keras-models` runs this in the environment that has TensorFlow. `edgelora import` must refuse the files named
`refused-*.tflite`.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import tensorflow as tf

K = tf.keras
L = tf.keras.layers
Build = Callable[[np.random.Generator], tf.keras.Model]


def sequential(shape: tuple[int, ...], *layers: K.layers.Layer) -> K.Model:
    return K.Sequential([K.Input(shape), *layers])


def conv_net(rng: np.random.Generator) -> K.Model:
    """Convolutions of random geometry, a pool, a head."""
    side, channels = int(rng.integers(9, 17)), int(rng.integers(1, 4))
    layers = []
    for _ in range(int(rng.integers(1, 3))):
        stride = int(rng.integers(1, 3))
        layers.append(
            L.Conv2D(
                int(rng.integers(3, 9)),
                tuple(int(k) for k in rng.integers(1, 4, 2)),
                strides=stride,
                dilation_rate=int(rng.integers(1, 3)) if stride == 1 else 1,
                padding=str(rng.choice(["same", "valid"])),
                use_bias=bool(rng.random() < 0.7),
                activation=str(rng.choice(["relu", "relu6", "linear", "tanh"])),
            )
        )
    pool = L.MaxPooling2D if rng.random() < 0.5 else L.AveragePooling2D
    layers.append(pool(2, strides=int(rng.integers(1, 3)), padding=str(rng.choice(["same", "valid"]))))
    head = L.Flatten() if rng.random() < 0.5 else L.GlobalAveragePooling2D(keepdims=bool(rng.random() < 0.3))
    return sequential((side, side + 2, channels), *layers, head, L.Flatten(), L.Dense(4, activation="softmax"))


def separable_net(rng: np.random.Generator) -> K.Model:
    """Depthwise separable layers with batch normalization, as in keyword networks."""
    layers = [L.Conv2D(6, (5, 3), strides=2, padding="same", use_bias=False), L.BatchNormalization(), L.ReLU()]
    for _ in range(2):
        layers += [
            L.DepthwiseConv2D(3, padding="same", depth_multiplier=int(rng.integers(1, 3)), use_bias=False),
            L.BatchNormalization(),
            L.ReLU(6.0),
            L.Conv2D(int(rng.integers(4, 9)), 1),
            L.BatchNormalization(),
            L.ReLU(),
        ]
    layers += [L.SeparableConv2D(5, 3, padding="same"), L.AveragePooling2D((4, 3)), L.Dropout(0.2), L.Flatten()]
    return sequential((20, 10, 1), *layers, L.Dense(5, activation="softmax"))


def residual_net(rng: np.random.Generator) -> K.Model:
    x = source = K.Input((int(rng.integers(6, 12)), 8, 3))
    x = L.Conv2D(6, 3, padding="same", activation="relu")(x)
    for _ in range(2):
        y = L.Conv2D(6, 3, padding="same", activation="relu")(x)
        y = L.Conv2D(6, 1)(y)
        x = L.Add()([x, y])
        x = L.ReLU(6.0 if rng.random() < 0.5 else None)(x) if rng.random() < 0.7 else x
    return K.Model(source, L.Dense(3)(L.GlobalAveragePooling2D()(x)))


def branches_net(rng: np.random.Generator) -> K.Model:
    source = K.Input((8, 8, 2))
    paths = [
        L.Conv2D(3, 1, activation="relu")(source),
        L.Conv2D(4, 3, padding="same", activation="relu")(source),
        L.Conv2D(2, 5, padding="same", activation="tanh")(source),
        L.AveragePooling2D(3, strides=1, padding="same")(source),
    ]
    axis = int(rng.integers(1, 4))
    x = L.Concatenate(axis=3)(paths) if axis == 3 else L.Concatenate(axis=axis)([source, paths[3], source])
    x = L.ZeroPadding2D(((1, 2), (0, 1)))(x)
    x = L.DepthwiseConv2D(3, strides=2)(x)
    return K.Model(source, L.Dense(4, activation="softmax")(L.Flatten()(x)))


def time_series_net(rng: np.random.Generator) -> K.Model:
    """1-D convolutions and pools."""
    layers = []
    for _ in range(int(rng.integers(1, 4))):
        layers.append(
            L.Conv1D(
                int(rng.integers(4, 9)),
                int(rng.integers(2, 6)),
                strides=int(rng.integers(1, 3)),
                padding=str(rng.choice(["same", "valid"])),
            )
        )
        layers += [L.BatchNormalization()] if rng.random() < 0.4 else []
        layers.append(L.ReLU())
    layers.append(L.MaxPooling1D(2) if rng.random() < 0.5 else L.AveragePooling1D(2, padding="same"))
    head = [L.Flatten(), L.Dense(6, activation="relu")] if rng.random() < 0.5 else [L.GlobalAveragePooling1D()]
    return sequential((48, 3), *layers, *head, L.Dense(4, activation="softmax"))


def causal_net(rng: np.random.Generator) -> K.Model:
    """Dilated causal 1-D convolutions with a residual connection, as in a TCN."""
    x = source = K.Input((32, 2))
    x = L.Conv1D(5, 3, padding="causal", activation="relu")(x)
    y = L.Conv1D(5, 3, padding="causal", dilation_rate=1, activation="relu")(x)
    x = L.Add()([x, y])
    x = L.ZeroPadding1D((2, 1))(x)
    return K.Model(source, L.Dense(1, activation="sigmoid")(L.GlobalAveragePooling1D()(x)))


def dense_net(rng: np.random.Generator) -> K.Model:
    activation = str(rng.choice(["relu", "tanh", "sigmoid", "leaky_relu", "relu6", "hard_swish"]))
    size = int(rng.integers(5, 40))
    last = L.Dense(1, activation="sigmoid") if rng.random() < 0.5 else L.Dense(3, use_bias=False)
    return sequential((size,), L.Dense(12, activation=activation), L.Dense(9, activation="relu"), last)


def activation_net(rng: np.random.Generator) -> K.Model:
    """Activations that the converter keeps as separate operators."""
    x = source = K.Input((7, 6, 2))
    for name in rng.permutation(["leaky_relu", "hard_swish", "tanh", "sigmoid", "relu6"])[:3]:
        x = L.Activation(str(name))(L.Conv2D(4, 3, padding="same")(x))
    x = L.LeakyReLU(negative_slope=0.3)(x)
    return K.Model(source, L.Dense(3, activation="softmax")(L.Flatten()(x)))


def autoencoder_net(rng: np.random.Generator) -> K.Model:
    if rng.random() < 0.5:
        return sequential((24,), L.Dense(8, activation="relu"), L.Dense(4, activation="relu"), L.Dense(24))
    shape = (6, 5, 2)
    return sequential(shape, L.Flatten(), L.Dense(8, activation="relu"), L.Dense(60), L.Reshape(shape))


def per_step_net(rng: np.random.Generator) -> K.Model:
    """A dense layer on every time step."""
    return sequential((12, 4), L.Dense(6, activation="relu"), L.Dense(3), L.Flatten(), L.Dense(2, activation="softmax"))


def reshaped_net(rng: np.random.Generator) -> K.Model:
    """Flat features, which Edge Impulse's blocks reshape before convolutions."""
    shape = (16, 3) if rng.random() < 0.5 else (8, 6)
    layers = [L.Reshape(shape), L.Conv1D(5, 3, padding="same", activation="relu"), L.MaxPooling1D(2, padding="same")]
    layers += [L.Conv1D(6, 3, padding="same", activation="relu"), L.MaxPooling1D(2), L.Flatten()]
    return sequential((48,), *layers, L.Dense(3, activation="softmax"))


def recurrent_net(rng: np.random.Generator) -> K.Model:
    """An unrolled recurrent layer, with few steps, since each step adds operators."""
    make = (L.LSTM, L.GRU, L.SimpleRNN)[int(rng.integers(3))]
    units = int(rng.integers(3, 12))
    layer = make(units, unroll=True, return_sequences=bool(rng.random() < 0.3))
    return sequential((int(rng.integers(2, 6)), 4), layer, L.Flatten(), L.Dense(3, activation="softmax"))


def upsampling_net(rng: np.random.Generator) -> K.Model:
    """Layers of segmentation networks and decoders: transposed convolutions, nearest neighbours, PReLU."""
    padding = str(rng.choice(["same", "valid"]))
    strides = tuple(int(s) for s in rng.integers(1, 4, 2))
    x = source = K.Input((5, 4, 3))
    x = L.Conv2DTranspose(4, tuple(int(k) for k in rng.integers(1, 5, 2)), strides=strides, padding=padding)(x)
    x = L.PReLU(shared_axes=[1, 2] if rng.random() < 0.5 else None, alpha_initializer="random_normal")(x)
    x = L.Resizing(*(int(side) for side in rng.integers(3, 25, 2)), interpolation="nearest")(x)
    return K.Model(source, L.Conv2D(2, 3, padding="same")(x))


def arithmetic_net(rng: np.random.Generator) -> K.Model:
    """Gates, differences, minimum and maximum, permuted axes, a batch normalization after an activation."""
    x = source = K.Input((6, 5, 3))
    x = L.BatchNormalization()(L.Conv2D(4, 3, padding="same", activation="relu")(x))
    gate = L.Dense(4, activation="sigmoid")(L.GlobalAveragePooling2D(keepdims=True)(x))
    x = L.Multiply()([x, gate])
    y = L.Conv2D(4, 1)(x)
    join = (L.Subtract, L.Maximum, L.Minimum, L.Multiply)[int(rng.integers(4))]
    x = join()([x, y]) if rng.random() < 0.5 else join()([y, x])
    x = L.Permute(tuple(int(axis) for axis in rng.permutation([1, 2, 3])))(x)
    return K.Model(source, L.Dense(3, activation="softmax")(L.Flatten()(x)))


FAMILIES: tuple[Build, ...] = (
    conv_net,
    separable_net,
    residual_net,
    branches_net,
    time_series_net,
    causal_net,
    dense_net,
    activation_net,
    autoencoder_net,
    per_step_net,
    reshaped_net,
)
LATER: tuple[Build, ...] = (recurrent_net, upsampling_net, arithmetic_net)  # from number 99 on


def normalized(center: bool) -> K.layers.Layer:
    return L.LayerNormalization() if center else L.RMSNormalization()


def encoder_net(rng: np.random.Generator) -> K.Model:
    """A transformer's encoder: attention and a feed-forward part, each behind a normalization, added to its input."""
    heads, size, center = int(rng.choice([1, 2, 4])), int(rng.integers(3, 9)), bool(rng.random() < 0.5)
    rows, width = int(rng.integers(5, 21)), heads * size
    x = source = K.Input((rows, int(rng.integers(2, 7))))
    x = L.Dense(width)(x) if rng.random() < 0.5 else L.Conv1D(width, 3, padding="same", activation="relu")(x)
    for _ in range(int(rng.integers(1, 3))):
        y = normalized(center)(x)
        x = L.Add()([x, L.MultiHeadAttention(heads, size)(y, y)])
        y = normalized(center)(x)
        y = L.Dense(int(rng.integers(8, 33)), activation=str(rng.choice(["relu", "silu"])))(y)
        x = L.Add()([x, L.Dense(width)(y)])
    x = normalized(center)(x) if rng.random() < 0.5 else x
    x = L.GlobalAveragePooling1D()(x) if rng.random() < 0.5 else L.Flatten()(x)
    return K.Model(source, L.Dense(4, activation="softmax")(x))


STARTS = (((encoder_net,), 126), (LATER, 99), (FAMILIES, 0))
FIXED = (per_step_net, encoder_net, *LATER)  # with a dynamic batch, TFLite Micro can't run these


def randomize(model: K.Model, rng: np.random.Generator) -> None:
    """Sets weights as after training: biases and statistics of batch normalization other than 0 and 1."""
    for variable in model.variables:
        if any(name in variable.path for name in ("bias", "beta", "moving_mean")):
            variable.assign(rng.normal(0, 0.3, variable.shape))
        elif any(name in variable.path for name in ("gamma", "moving_variance")):
            variable.assign(rng.uniform(0.5, 2, variable.shape))


def convert(model: K.Model, rng: np.random.Generator, io_type: tf.DType, per_tensor: bool, fixed_batch: bool) -> bytes:
    """Full integer quantization; `fixed_batch`: batch 1 in the graph, else a dynamic one."""
    shape = model.input_shape[1:]
    scale = float(rng.uniform(0.5, 4))

    samples = [[rng.normal(0.2, scale, (1, *shape)).astype(np.float32)] for _ in range(40)]

    if fixed_batch:
        source = K.Input(batch_shape=(1, *shape))
        model = K.Model(source, model(source))
    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: samples
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = converter.inference_output_type = io_type
    converter._experimental_disable_per_channel = per_tensor
    return converter.convert()


def is_integer(content: bytes) -> bool:
    """Whether no tensor between input and output is float32."""
    interpreter = tf.lite.Interpreter(model_content=content)
    ends = {end["index"] for end in interpreter.get_input_details() + interpreter.get_output_details()}
    tensors = interpreter.get_tensor_details()
    return all(tensor["dtype"] != np.float32 for tensor in tensors if tensor["index"] not in ends)


def converted(build: Build, seed: int, io_type: tf.DType, fixed_batch: bool) -> bytes:
    """The file of a seed. The converter sometimes leaves an operator in floats; then it is run again."""
    for _ in range(20):
        rng = np.random.default_rng(seed)
        K.backend.clear_session()
        K.utils.set_random_seed(seed)
        model = build(rng)
        randomize(model, rng)
        content = convert(model, rng, io_type, per_tensor=seed % 4 == 3, fixed_batch=fixed_batch)
        if is_integer(content) or build is encoder_net:  # whose NEG and SQUARE have no integer kernels
            return content
    raise SystemExit(f"seed {seed}: TensorFlow's converter left real numbers inside the network 20 times")


def write_refused(folder: Path) -> None:
    """Writes float and hybrid files, one with 16-bit activations and one with a softsign."""
    K.utils.set_random_seed(0)
    conv = sequential((8, 8, 1), L.Conv2D(3, 3), L.Flatten(), L.Dense(64))
    (folder / "refused-float.tflite").write_bytes(tf.lite.TFLiteConverter.from_keras_model(conv).convert())
    hybrid = tf.lite.TFLiteConverter.from_keras_model(conv)
    hybrid.optimizations = [tf.lite.Optimize.DEFAULT]
    (folder / "refused-hybrid.tflite").write_bytes(hybrid.convert())
    rng = np.random.default_rng(0)
    wide = tf.lite.TFLiteConverter.from_keras_model(conv)
    wide.optimizations = [tf.lite.Optimize.DEFAULT]
    wide.representative_dataset = lambda: ([rng.normal(size=(1, 8, 8, 1)).astype(np.float32)] for _ in range(8))
    wide.target_spec.supported_ops = [
        tf.lite.OpsSet.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8,
    ]
    (folder / "refused-int16x8.tflite").write_bytes(wide.convert())
    source = K.Input((8, 8, 1))
    softsign = L.Activation("softsign")(L.Conv2D(3, 3)(source))
    last = K.Model(source, L.Dense(2)(L.Flatten()(softsign)))
    (folder / "refused-softsign.tflite").write_bytes(convert(last, rng, tf.int8, False, True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--count", type=int, default=146, help="how many models (%(default)s)")
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    for seed in range(args.count):
        families, number = next((made, seed - first) for made, first in STARTS if seed >= first)
        turn, family = divmod(number, len(families))
        build = families[family]
        io_type = (tf.int8, tf.float32, tf.uint8)[(turn + family) % 3]
        content = converted(build, seed, io_type, fixed_batch=seed % 2 == 0 or build in FIXED)
        path = args.folder / f"{build.__name__}-{seed:02}-{io_type.name}.tflite"
        path.write_bytes(content)
        print(path.name, len(content), flush=True)
    write_refused(args.folder)


if __name__ == "__main__":
    main()
