"""Keras networks as people write them: tutorials, examples and the usual designs for small boards.

They were written down before any of them was imported, and are not chosen by what imports. Keras' defaults stay as
they are: `LSTM(32)` is what people write.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from itertools import chain
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import tensorflow as tf
from networks import Listed, chains, layers

K, L = tf.keras, tf.keras.layers
Shape = tuple[int, ...]
listed = Listed("keras")


def seed_values(model: Any, seed: int = 0) -> None:
    """Gives biases and normalizations values as training does: fresh ones are all 0 and 1."""
    rng = np.random.default_rng(seed)
    for layer in model._flatten_layers():
        if isinstance(layer, L.BatchNormalization):
            parts = {
                "gamma": rng.uniform(0.6, 1.4, layer.moving_mean.shape),
                "beta": rng.normal(0, 0.2, layer.moving_mean.shape),
                "moving_mean": rng.normal(0, 0.3, layer.moving_mean.shape),
                "moving_variance": rng.uniform(0.4, 1.6, layer.moving_mean.shape),
            }
            for name, values in parts.items():
                if getattr(layer, name, None) is not None:
                    getattr(layer, name).assign(values)
        elif isinstance(layer, L.Dense | L.Conv1D | L.Conv2D | L.DepthwiseConv2D) and layer.bias is not None:
            layer.bias.assign(rng.normal(0, 0.1, layer.bias.shape))


def sequential(shape: Shape, *parts: Any) -> Any:
    """A Sequential of layers, and of chains of them as text."""
    each = (_layers(part) if isinstance(part, str) else [part] for part in parts)
    return K.Sequential([K.Input(shape), *chain.from_iterable(each)])


def run(x: Any, text: str) -> Any:
    """What a chain of layers makes of a tensor."""
    for layer in _layers(text):
        x = layer(x)
    return x


def graph(head: str) -> Callable[[Callable[[Any], Any]], None]:
    """Lists a functional model: a function from its input to its output."""

    def add(output: Callable[[Any], Any]) -> None:
        def build(shape: Shape) -> Any:
            x = K.Input(shape)
            return K.Model(x, output(x))

        listed(head, build)

    return add


def _layers(text: str) -> list[Any]:
    for name, rate in (("l1", 1e-5), ("l2", 1e-4)):  # instead of 0.01, Keras' own
        text = text.replace(f"={name}", f'={{"class_name":"{name.upper()}","config":{{"{name}":{rate}}}}}')
    kinds = {"BN": L.BatchNormalization, "LN": L.LayerNormalization, "DWConv2D": L.DepthwiseConv2D}
    return layers(text, lambda kind: kinds.get(kind) or getattr(L, kind))


# ---- chains of layers ------------------------------------------------------------------------------------------------

CHAINS = """
tensorflow-quickstart-beginner quickstart 28x28 image: Flatten, Dense 128 relu, Dropout 0.2, Dense 10
tensorflow-cnn-cifar quickstart 32x32x3 image: Conv2D 32 3 relu, MaxPooling2D 2, Conv2D 64 3 relu, MaxPooling2D 2,
    Conv2D 64 3 relu, Flatten, Dense 64 relu, Dense 10
tensorflow-overfit-higgs regression 28 signal: Dense 64 kernel_regularizer=l2 elu, Dropout 0.5,
    Dense 64 kernel_regularizer=l2 elu, Dropout 0.5, Dense 64 kernel_regularizer=l2 elu, Dropout 0.5,
    Dense 64 kernel_regularizer=l2 elu, Dropout 0.5, Dense 1
tensorflow-credit-fraud classifier 29 signal: Dense 16 relu, Dropout 0.5, Dense 1 sigmoid
tensorflow-text-classification text 250 tokens: Embedding 1000 16, Dropout 0.2, GlobalAveragePooling1D, Dropout 0.2,
    Dense 1 sigmoid
tensorflow-autoencoder-basic autoencoder 28x28 image: Flatten, Dense 64 relu, Dense 784 sigmoid, Reshape (28,28)
tensorflow-autoencoder-denoising autoencoder 28x28x1 image: Conv2D 16 3 relu same strides=2,
    Conv2D 8 3 relu same strides=2, Conv2DTranspose 8 3 strides=2 relu same, Conv2DTranspose 16 3 strides=2 relu same,
    Conv2D 1 3 sigmoid same
tensorflow-anomaly-ecg autoencoder 140 image: Dense 32 relu, Dense 16 relu, Dense 8 relu, Dense 16 relu, Dense 32 relu,
    Dense 140 sigmoid
tensorflow-weather-linear series 24x19 signal: Dense 1
tensorflow-weather-multi-step-dense series 24x19 signal: Flatten, Dense 32 relu, Dense 32 relu, Dense 1, Reshape [1,-1]
tensorflow-weather-conv series 24x19 signal: Conv1D 32 3 relu, Dense 32 relu, Dense 1
tensorflow-weather-lstm recurrent 24x19 signal: LSTM 32 return_sequences=True, Dense 1
tensorflow-weather-multi-lstm recurrent 24x19 signal: LSTM 32, Dense 456, Reshape [24,19]
keras-mnist-convnet quickstart 28x28x1 image: Conv2D 32 3 relu, MaxPooling2D 2, Conv2D 64 3 relu, MaxPooling2D 2,
    Flatten, Dropout 0.5, Dense 10 softmax
keras-getting-started quickstart 28x28x1 image: Conv2D 64 3 relu, Conv2D 64 3 relu, MaxPooling2D 2, Conv2D 128 3 relu,
    Conv2D 128 3 relu, GlobalAveragePooling2D, Dropout 0.5, Dense 10 softmax
keras-timeseries-anomaly autoencoder 288x1 signal: Conv1D 32 7 same strides=2 relu, Dropout 0.2,
    Conv1D 16 7 same strides=2 relu, Conv1DTranspose 16 7 same strides=2 relu, Dropout 0.2,
    Conv1DTranspose 32 7 same strides=2 relu, Conv1DTranspose 1 7 same
keras-imbalanced-classification classifier 29 signal: Dense 256 relu, Dropout 0.3, Dense 256 relu, Dropout 0.3,
    Dense 256 relu, Dense 1 sigmoid
tiny-conv-speech sound 49x40x1 image: Conv2D 8 (10,8) strides=2 same relu, Dropout 0.5, Flatten, Dense 4 softmax
edge-impulse-keywords sound 1287 signal: Reshape (99,13), Conv1D 8 3 same relu, MaxPooling1D 2 strides=2 same,
    Dropout 0.25, Conv1D 16 3 same relu, MaxPooling1D 2 strides=2 same, Dropout 0.25, Flatten, Dense 4 softmax
keywords-gru recurrent 49x40 signal: GRU 48, Dropout 0.2, Dense 12 softmax
cough-detector sound 64x64x1 image: Conv2D 8 3 same, BN, Activation relu, MaxPooling2D 2, Conv2D 16 3 same, BN,
    Activation relu, MaxPooling2D 2, Conv2D 32 3 same, BN, Activation relu, MaxPooling2D 2, GlobalMaxPooling2D,
    Dense 1 sigmoid
glass-break-dense sound 40x40 signal: Flatten, Dense 64 relu, BN, Dropout 0.3, Dense 32 relu, BN, Dense 3 softmax
har-conv1d motion 128x9 signal: Conv1D 64 3 relu, Conv1D 64 3 relu, Dropout 0.5, MaxPooling1D 2, Flatten,
    Dense 100 relu, Dense 6 softmax
har-lstm recurrent 128x9 signal: LSTM 100, Dropout 0.5, Dense 100 relu, Dense 6 softmax
har-conv-lstm recurrent 128x9 signal: Conv1D 32 5 same relu, MaxPooling1D 4, Conv1D 32 5 same relu, MaxPooling1D 2,
    LSTM 32, Dense 6 softmax
magic-wand motion 128x3x1 signal: Conv2D 8 (4,3) same relu, MaxPool2D 3, Dropout 0.1, Conv2D 16 (4,1) same relu,
    MaxPool2D (3,1) same, Dropout 0.1, Flatten, Dense 16 relu, Dropout 0.1, Dense 4 softmax
arduino-gestures motion 714 image: Dense 50 relu, Dense 15 relu, Dense 2 softmax
edge-impulse-motion motion 33 signal: Dense 20 relu activity_regularizer=l1, Dense 10 relu activity_regularizer=l1,
    Dense 4 softmax
fall-detection-separable motion 100x3 signal: SeparableConv1D 16 5 relu same, MaxPooling1D 2,
    SeparableConv1D 32 5 relu same, GlobalAveragePooling1D, Dense 1 sigmoid
gesture-prelu motion 64x3 signal: Conv1D 16 3 strides=2, PReLU shared_axes=[1], Conv1D 32 3 strides=2,
    PReLU shared_axes=[1], GlobalMaxPooling1D, Dense 5
gesture-simple-rnn recurrent 32x6 signal: SimpleRNN 24, Dense 5 softmax
gesture-lstm-unrolled recurrent 20x3 signal: LSTM 16 unroll=True, Dense 5 softmax
gesture-stacked-gru recurrent 30x6 signal: GRU 24 return_sequences=True, Dropout 0.2, GRU 16, Dense 5 softmax
vibration-conv-autoencoder autoencoder 128x3 signal: Conv1D 16 5 strides=2 same relu, Conv1D 8 5 strides=2 same relu,
    UpSampling1D 2, Conv1D 16 5 same relu, UpSampling1D 2, Conv1D 3 5 same
emg-selu vibration 250x2 signal: Conv1D 16 7 strides=2 selu kernel_initializer=lecun_normal,
    Conv1D 32 5 strides=2 selu kernel_initializer=lecun_normal, AlphaDropout 0.1, GlobalAveragePooling1D,
    Dense 6 softmax
spectrogram-elu vibration 64x64x1 image: ZeroPadding2D 1, Conv2D 8 3 strides=2 elu, AveragePooling2D 2,
    Conv2D 16 3 same elu, AveragePooling2D 2, Flatten, Dense 4 softmax
remaining-useful-life-conv regression 60x14 signal: Conv1D 32 5 tanh, Conv1D 32 5 tanh, Flatten, Dropout 0.5,
    Dense 50 tanh, Dense 1
remaining-useful-life-lstm recurrent 30x14 signal: LSTM 64 return_sequences=True, Dropout 0.2, LSTM 32, Dropout 0.2,
    Dense 1
hello-world-sine regression 1 signal: Dense 16 relu, Dense 16 relu, Dense 1
housing-swish regression 13 signal: Dense 64 swish, Dense 32 swish, Dense 1
air-quality-gelu regression 8 signal: BN, Dense 32 gelu, Dense 32 gelu, Dense 2 softplus
iris classifier 4 raw: Dense 8 relu, Dense 3 softmax
pima-diabetes classifier 8 raw: Dense 12 relu, Dense 8 relu, Dense 1 sigmoid
gas-sensor-leaky classifier 16 signal: Dense 32, LeakyReLU, BN, Dropout 0.3, Dense 16, LeakyReLU negative_slope=0.1,
    Dense 5 softmax
lenet5 image 28x28x1 image: Conv2D 6 5 same tanh, AveragePooling2D 2, Conv2D 16 5 tanh, AveragePooling2D 2, Flatten,
    Dense 120 tanh, Dense 84 tanh, Dense 10 softmax
thermal-presence image 24x32x1 signal: Cropping2D ((2,2),(4,4)), Conv2D 8 3 relu, MaxPooling2D 2, Conv2D 16 3 relu,
    AveragePooling2D 2 same, Flatten, Dense 3 softmax
digit-locally-padded image 24x24x1 image: ZeroPadding2D ((1,2),(2,1)), Conv2D 8 5 softsign, MaxPooling2D 2,
    Conv2D 16 3 dilation_rate=2 softplus, Flatten, Dense 32 mish, Dense 10 log_softmax
normed-dense classifier 10 signal: Dense 32 use_bias=False, BN, Activation relu, Dense 16 use_bias=False, BN,
    Activation relu, Dense 4 softmax
normed-after-activation classifier 10 signal: Dense 32 relu, BN, Dense 16 relu, BN, Dense 4 softmax
"""
FUNCTIONAL_CHAINS = """
tensorflow-quickstart-advanced quickstart 28x28x1 image: Conv2D 32 3 relu, Flatten, Dense 128 relu, Dense 10
keras-functional-guide quickstart 784 image: Dense 64 relu, Dense 64 relu, Dense 10 softmax
keras-timeseries-classification series 500x1 signal: Conv1D 64 3 same, BN, ReLU, Conv1D 64 3 same, BN, ReLU,
    Conv1D 64 3 same, BN, ReLU, GlobalAveragePooling1D, Dense 2 softmax
keras-weather-forecasting recurrent 120x7 signal: LSTM 32, Dense 1
keras-convolutional-autoencoder autoencoder 28x28x1 image: Conv2D 32 3 relu same, MaxPooling2D 2 same,
    Conv2D 32 3 relu same, MaxPooling2D 2 same, Conv2DTranspose 32 3 strides=2 relu same,
    Conv2DTranspose 32 3 strides=2 relu same, Conv2D 1 3 sigmoid same
keras-blog-upsampling-autoencoder autoencoder 28x28x1 image: Conv2D 16 3 relu same, MaxPooling2D 2 same,
    Conv2D 8 3 relu same, MaxPooling2D 2 same, Conv2D 8 3 relu same, MaxPooling2D 2 same, Conv2D 8 3 relu same,
    UpSampling2D 2, Conv2D 8 3 relu same, UpSampling2D 2, Conv2D 16 3 relu, UpSampling2D 2, Conv2D 1 3 sigmoid same
keras-eeg-classification vibration 512x1 signal: Conv1D 32 3 strides=2 same relu, BN, Conv1D 64 3 strides=2 same relu,
    BN, Conv1D 64 3 strides=2 same relu, BN, Dropout 0.2, Flatten, Dense 64 relu, Dense 8 softmax
keras-structured-data classifier 13 signal: Dense 32 relu, Dropout 0.5, Dense 1 sigmoid
keywords-crnn recurrent 49x40 signal: Reshape (49,40,1), Conv2D 16 (10,4) strides=(4,2) same relu, Reshape (13,320),
    GRU 32, Dense 32 relu, Dense 12 softmax
bearing-wdcnn vibration 1024x1 signal: Conv1D 16 64 strides=16 same, BN, ReLU, MaxPooling1D 2 strides=2 same,
    Conv1D 32 3 same, BN, ReLU, MaxPooling1D 2 strides=2 same, Conv1D 64 3 same, BN, ReLU,
    MaxPooling1D 2 strides=2 same, Conv1D 64 3 same, BN, ReLU, MaxPooling1D 2 strides=2 same, Flatten, Dense 100 relu,
    Dense 10 softmax
"""
for head, text in chains(CHAINS):
    listed(head, lambda shape, text=text: sequential(shape, text))
for head, text in chains(FUNCTIONAL_CHAINS):
    graph(head)(lambda x, text=text: run(x, text))

# ---- TensorFlow's tutorials ------------------------------------------------------------------------------------------


listed(
    "tensorflow-fashion-mnist quickstart 28x28 image",
    lambda shape: sequential(shape, sequential(shape, "Flatten, Dense 128 relu, Dense 10"), L.Softmax()),
)


def flowers(shape: Shape) -> Any:
    """Image classification, with augmentation and rescaling inside; smaller images than the tutorial's 180."""
    augmentation = sequential(shape, "RandomFlip mode=horizontal, RandomRotation 0.1, RandomZoom 0.1")
    convs = (f"Conv2D {width} 3 same relu, MaxPooling2D" for width in (16, 32, 64))
    head = "Dropout 0.2, Flatten, Dense 128 relu, Dense 5"
    return sequential(shape, augmentation, L.Rescaling(1.0 / 255), *convs, head)


listed("tensorflow-flowers quickstart 96x96x3 pixels", flowers)


def adapted(seen: Any) -> Any:
    """A Normalization that has seen data."""
    norm = L.Normalization()
    norm.adapt(seen)
    return norm


def auto_mpg(shape: Shape, layers: str) -> Any:
    """Basic regression."""
    return sequential(shape, adapted(np.abs(np.random.default_rng(0).normal(5, 30, (200, *shape)))), layers)


listed("tensorflow-auto-mpg regression 9 raw", lambda shape: auto_mpg(shape, "Dense 64 relu, Dense 64 relu, Dense 1"))
listed("tensorflow-auto-mpg-linear regression 9 raw", lambda shape: auto_mpg(shape, "Dense 1"))


def simple_audio(shape: Shape) -> Any:
    """Speech commands: a spectrogram, resized inside."""
    norm = adapted(np.random.default_rng(0).uniform(0, 1, (16, *shape)))
    convs = "Conv2D 32 3 relu, Conv2D 64 3 relu, MaxPooling2D, Dropout 0.25"
    return sequential(shape, L.Resizing(32, 32), norm, convs, "Flatten, Dense 128 relu, Dropout 0.5, Dense 8")


listed("tensorflow-simple-audio sound 124x129x1 image", simple_audio)


def weather_multi_conv(shape: Shape) -> Any:
    last = L.Lambda(lambda x: x[:, -3:, :], output_shape=(3, shape[1]))
    return sequential(shape, last, "Conv1D 256 3 relu, Dense 456, Reshape (24,19)")


listed("tensorflow-weather-multi-conv series 24x19 signal", weather_multi_conv)


@graph("tensorflow-transfer-mobilenet-v2 image 96x96x3 pixels")
def _(x: Any) -> Any:
    """Transfer learning on a narrow MobileNetV2."""
    base = K.applications.MobileNetV2(input_shape=x.shape[1:], alpha=0.35, include_top=False, weights=None)
    base.trainable = False
    x = base(L.Rescaling(1.0 / 127.5, offset=-1)(x), training=False)
    return run(x, "GlobalAveragePooling2D, Dropout 0.2, Dense 1 sigmoid")


# ---- Keras' examples and guides --------------------------------------------------------------------------------------


@graph("keras-functional-guide-toy-resnet residual 32x32x3 image")
def _(x: Any) -> Any:
    one = run(x, "Conv2D 32 3 relu, Conv2D 64 3 relu, MaxPooling2D 3")
    two = L.add([run(one, "Conv2D 64 3 relu same, Conv2D 64 3 relu same"), one])
    three = L.add([run(two, "Conv2D 64 3 relu same, Conv2D 64 3 relu same"), two])
    return run(three, "Conv2D 64 3 relu, GlobalAveragePooling2D, Dense 256 relu, Dropout 0.5, Dense 10")


@graph("keras-timeseries-transformer attention 100x1 signal")
def _(x: Any) -> Any:
    for _ in range(2):
        y = L.MultiHeadAttention(key_dim=16, num_heads=2, dropout=0.1)(x, x)
        x = run(y, "Dropout 0.1, LN epsilon=1e-6") + x
        x = run(x, "Conv1D 4 1 relu, Conv1D 1 1, LN epsilon=1e-6") + x
    return run(x, "GlobalAveragePooling1D, Dense 32 relu, Dense 2 softmax")


@graph("keras-image-classification-from-scratch image 64x64x3 pixels")
def _(x: Any) -> Any:
    """The small Xception, narrower and on smaller images."""
    x = run(L.Rescaling(1.0 / 255)(x), "Conv2D 32 3 strides=2 same, BN, Activation relu")
    for size in (32, 64, 96):
        y = run(x, f"Activation relu, SeparableConv2D {size} 3 same, BN")
        y = run(y, f"Activation relu, SeparableConv2D {size} 3 same, BN, MaxPooling2D 3 strides=2 same")
        x = L.add([y, L.Conv2D(size, 1, strides=2, padding="same")(x)])
    x = run(x, "SeparableConv2D 128 3 same, BN, Activation relu")
    return run(x, "GlobalAveragePooling2D, Dropout 0.25, Dense 1")


@graph("keras-mlp-mixer-block attention 64x16 signal")
def _(x: Any) -> Any:
    """Modern MLPs: a mixer over patches, with GELU."""
    for _ in range(2):
        x = L.Add()([x, run(x, "LN, Permute (2,1), Dense 64 gelu, Dense 64, Permute (2,1)")])
        x = L.Add()([x, run(x, "LN, Dense 64 gelu, Dense 16")])
    return run(x, "GlobalAveragePooling1D, Dense 10 softmax")


@graph("keras-speaker-recognition sound 1000x1 signal")
def _(x: Any) -> Any:
    """Residual blocks of 1-D convolutions over an FFT, at an eighth of the example's length and a narrower width."""
    for filters, count in ((8, 2), (16, 2), (32, 3), (32, 3)):
        s = L.Conv1D(filters, 1, padding="same")(x)
        for _ in range(count - 1):
            x = run(x, f"Conv1D {filters} 3 same, Activation relu")
        x = L.Add()([L.Conv1D(filters, 3, padding="same")(x), s])
        x = run(x, "Activation relu, MaxPool1D 2 strides=2")
    return run(x, "AveragePooling1D 3 strides=3, Flatten, Dense 64 relu, Dense 5 softmax")


@graph("keras-super-resolution-espcn image 48x48x1 image")
def _(x: Any) -> Any:
    """Sub-pixel convolution."""
    x = run(x, ", ".join(f"Conv2D 32 {size} relu same kernel_initializer=orthogonal" for size in (5, 3)))
    x = run(x, "Conv2D 16 3 relu same, Conv2D 4 3 relu same")
    return L.Lambda(lambda t: tf.nn.depth_to_space(t, 2), output_shape=(96, 96, 1))(x)


@graph("keras-convmixer attention 16x16x32 image")
def _(x: Any) -> Any:
    x = run(x, "Conv2D 48 2 strides=2, Activation gelu, BN")
    for _ in range(3):
        x = L.Add()([run(x, "DWConv2D 5 same, Activation gelu, BN"), x])
        x = run(x, "Conv2D 48 1, Activation gelu, BN")
    return run(x, "GlobalAvgPool2D, Dense 10 softmax")


# ---- small boards: sound ---------------------------------------------------------------------------------------------


@graph("mlperf-ds-cnn sound 49x10x1 signal")
def _(x: Any) -> Any:
    """Keyword spotting of MLPerf Tiny."""
    x = run(x, "Conv2D 64 (10,4) strides=2 same kernel_regularizer=l2, BN, Activation relu, Dropout 0.2")
    for _ in range(4):
        x = run(x, "DWConv2D 3 same, BN, Activation relu, Conv2D 64 1 same kernel_regularizer=l2, BN, Activation relu")
    return run(x, "Dropout 0.4, AveragePooling2D (25,5), Flatten, Dense 12 softmax")


@graph("mlperf-anomaly-detection autoencoder 640 signal")
def _(x: Any) -> Any:
    """ToyADMOS of MLPerf Tiny."""
    for width in (128, 128, 128, 128, 8, 128, 128, 128, 128):
        x = run(x, f"Dense {width}, BN, Activation relu")
    return L.Dense(640)(x)


@graph("mlperf-resnet8 residual 32x32x3 image")
def _(x: Any) -> Any:
    """Image classification of MLPerf Tiny."""
    options = "same kernel_initializer=he_normal kernel_regularizer=l2"
    x = run(x, f"Conv2D 16 3 {options}, BN, Activation relu")
    for filters, strides in ((16, 1), (32, 2), (64, 2)):
        y = run(x, f"Conv2D {filters} 3 strides={strides} {options}, BN, Activation relu")
        y = run(y, f"Conv2D {filters} 3 {options}, BN")
        x = x if strides == 1 else run(x, f"Conv2D {filters} 1 strides={strides} {options}")
        x = L.Activation("relu")(L.add([x, y]))
    return run(x, "AveragePooling2D 8, Flatten, Dense 10 softmax kernel_initializer=he_normal")


def visual_wake_words(shape: Shape) -> Any:
    """A quarter of MobileNet V1, from Keras' own applications."""
    base = K.applications.MobileNet(input_shape=shape, alpha=0.25, include_top=False, weights=None)
    return K.Model(base.input, run(base.output, "GlobalAveragePooling2D, Dense 2 softmax"))


listed("mlperf-visual-wake-words image 96x96x3 image", visual_wake_words)


@graph("bc-resnet-like sound 99x40 signal")
def _(x: Any) -> Any:
    """Keywords by broadcasting a mean over frequencies, with swish."""
    x = run(x, "Reshape (99,40,1), Conv2D 16 5 strides=(1,2) same use_bias=False, BN, ReLU")
    for width, pool in ((8, 1), (12, 2), (16, 2)):
        x = run(x, f"Conv2D {width} 1 use_bias=False, BN, ReLU, DWConv2D (1,3) same")
        x = L.MaxPooling2D((1, 2))(x) if pool > 1 else x
        y = L.AveragePooling2D((1, x.shape[2]))(x)
        y = run(y, f"DWConv2D (3,1) same use_bias=False, BN, Activation swish, Conv2D {width} 1")
        x = L.ReLU()(L.Add()([x, y]))
    return run(x, "GlobalAveragePooling2D, Dense 12 softmax")


@graph("tc-resnet8 sound 98x40 signal")
def _(x: Any) -> Any:
    """Temporal convolutions: frequencies are channels."""
    x = run(x, "Conv1D 16 3 same use_bias=False")
    for width in (24, 32, 48):
        y = run(x, f"Conv1D {width} 9 strides=2 same use_bias=False, BN, ReLU")
        y = run(y, f"Conv1D {width} 9 same use_bias=False, BN")
        x = run(x, f"Conv1D {width} 1 strides=2 same use_bias=False, BN, ReLU")
        x = L.ReLU()(L.Add()([x, y]))
    return run(x, "GlobalAveragePooling1D, Dropout 0.5, Dense 12 softmax")


@graph("yamnet-head sound 96x64 image")
def _(x: Any) -> Any:
    """Sound events: depthwise separable layers over a mel spectrogram."""
    normed = "same use_bias=False, BN scale=False epsilon=1e-4, ReLU"
    x = run(x, f"Reshape (96,64,1), Conv2D 16 3 strides=2 {normed}")
    for width, stride in ((32, 1), (48, 2), (48, 1), (96, 2), (96, 1)):
        x = run(x, f"DWConv2D 3 strides={stride} {normed}, Conv2D {width} 1 {normed}")
    return run(x, "GlobalAveragePooling2D, Dense 20 sigmoid")


# ---- motion ----------------------------------------------------------------------------------------------------------


listed(
    "har-bidirectional-lstm recurrent 50x6 signal",
    lambda shape: sequential(shape, L.Bidirectional(L.LSTM(16)), "Dense 16 relu, Dense 5 softmax"),
)


@graph("motion-tcn motion 128x6 signal")
def _(x: Any) -> Any:
    """Dilated causal convolutions with residuals."""
    for dilation in (1, 2, 4, 8):
        conv = f"Conv1D 24 3 causal dilation_rate={dilation} relu"
        y = run(x, f"{conv}, SpatialDropout1D 0.1, {conv}")
        x = x if x.shape[-1] == 24 else L.Conv1D(24, 1)(x)
        x = L.Activation("relu")(L.add([x, y]))
    x = L.Lambda(lambda t: t[:, -1, :], output_shape=(24,))(x)
    return L.Dense(6, activation="softmax")(x)


@graph("motion-attention-pool attention 64x6 signal")
def _(x: Any) -> Any:
    """Convolutions, then a learned weight for each moment."""
    x = run(x, "Conv1D 32 5 same relu")
    x = L.Multiply()([x, run(x, "Dense 1 tanh, Softmax axis=1")])
    return run(x, "GlobalAveragePooling1D, Dense 6 softmax")


@graph("motion-inception motion 96x6 signal")
def _(x: Any) -> Any:
    """InceptionTime's module: kernels of several lengths side by side."""
    for _ in range(2):
        narrow = run(x, "Conv1D 16 1 same use_bias=False")
        branches = [run(narrow, f"Conv1D 12 {k} same use_bias=False") for k in (5, 11, 23)]
        branches.append(run(x, "MaxPool1D 3 strides=1 same, Conv1D 12 1 same use_bias=False"))
        x = run(L.Concatenate(axis=2)(branches), "BN, Activation relu")
    return run(x, "GlobalAveragePooling1D, Dense 6 softmax")


# ---- machines and other signals --------------------------------------------------------------------------------------


@graph("motor-squeeze-excite vibration 256x3 signal")
def _(x: Any) -> Any:
    """1-D convolutions with squeeze and excitation."""
    for width in (16, 32, 32):
        x = run(x, f"Conv1D {width} 5 strides=2 same use_bias=False, BN, ReLU")
        s = run(x, f"GlobalAveragePooling1D, Dense {width // 4} relu, Dense {width} sigmoid, Reshape (1,{width})")
        x = L.Multiply()([x, s])
    return run(x, "GlobalAveragePooling1D, Dense 4 softmax")


def lstm_autoencoder(shape: Shape) -> Any:
    lstms = "LSTM 16, RepeatVector 32, LSTM 16 return_sequences=True"
    return sequential(shape, lstms, L.TimeDistributed(L.Dense(3)))


listed("lstm-autoencoder autoencoder 32x3 signal", lstm_autoencoder)


@graph("ecg-resnet vibration 187x1 image")
def _(x: Any) -> Any:
    """Heartbeats (MIT-BIH): residual blocks with pools."""
    x = L.Conv1D(32, 5)(x)
    for _ in range(4):
        y = run(x, "Conv1D 32 5 same relu, Conv1D 32 5 same")
        x = run(L.Add()([y, x]), "Activation relu, MaxPooling1D 5 strides=2")
    return run(x, "Flatten, Dense 32 relu, Dense 5 softmax")


@graph("power-forecast-residual-mlp regression 48x4 signal")
def _(x: Any) -> Any:
    x = run(x, "Flatten, Dense 64 relu")
    for _ in range(2):
        x = L.LayerNormalization()(L.Add()([x, run(x, "Dense 64 relu, Dense 64")]))
    return L.Dense(24)(x)


@graph("wide-and-deep classifier 64 signal")
def _(x: Any) -> Any:
    return run(L.concatenate([x, run(x, "Dense 30 relu, Dense 30 relu")]), "Dense 3 softmax")


# ---- images ----------------------------------------------------------------------------------------------------------


def vgg_small(shape: Shape) -> Any:
    blocks = []
    for width, dropout in ((16, 0.2), (32, 0.3), (64, 0.4)):
        conv = f"Conv2D {width} 3 relu kernel_initializer=he_uniform same, BN"
        blocks.append(f"{conv}, {conv}, MaxPooling2D 2, Dropout {dropout}")
    return sequential(shape, *blocks, "Flatten, Dense 128 relu, BN, Dropout 0.5, Dense 10 softmax")


listed("vgg-small image 32x32x3 image", vgg_small)


@graph("resnet-v2-preactivation residual 32x32x3 image")
def _(x: Any) -> Any:
    x = run(x, "Conv2D 16 3 same")
    for width, stride in ((16, 1), (32, 2), (64, 2)):
        y = run(x, f"BN, Activation relu, Conv2D {width} 3 strides={stride} same")
        y = run(y, f"BN, Activation relu, Conv2D {width} 3 same")
        x = L.Add()([x if stride == 1 else L.Conv2D(width, 1, strides=stride)(x), y])
    return run(x, "BN, Activation relu, GlobalAveragePooling2D, Dense 10 softmax")


def added(x: Any, y: Any) -> Any:
    """A residual, where it is of the same shape."""
    return L.Add()([x, y]) if x.shape == y.shape else y


@graph("mobilenet-v2-blocks image 48x48x3 image")
def _(x: Any) -> Any:
    """Inverted residuals with ReLU6."""
    x = run(x, "Conv2D 8 3 strides=2 same use_bias=False, BN, ReLU 6.0")
    for width, stride in ((8, 1), (16, 2), (16, 1), (24, 2), (24, 1)):
        y = run(x, f"Conv2D {4 * x.shape[-1]} 1 same use_bias=False, BN, ReLU 6.0")
        y = run(y, f"DWConv2D 3 strides={stride} same use_bias=False, BN, ReLU 6.0")
        x = added(x, run(y, f"Conv2D {width} 1 same use_bias=False, BN"))
    return run(x, "GlobalAveragePooling2D, Dense 4 softmax")


@graph("mobilenet-v3-blocks squeeze-excite 48x48x3 image")
def _(x: Any) -> Any:
    """Inverted residuals with squeeze and excitation, hard swish and hard sigmoid."""
    x = run(x, "Conv2D 8 3 strides=2 same, BN, Activation hard_silu")
    for width, stride in ((8, 1), (16, 2), (16, 1)):
        y = run(x, f"Conv2D {4 * x.shape[-1]} 1 use_bias=False, BN, Activation hard_silu")
        y = run(y, f"DWConv2D 5 strides={stride} same use_bias=False, BN, Activation hard_silu")
        s = run(y, f"GlobalAveragePooling2D keepdims=True, Conv2D {y.shape[-1] // 4} 1 relu")
        s = run(s, f"Conv2D {y.shape[-1]} 1 hard_sigmoid")
        x = added(x, run(L.Multiply()([y, s]), f"Conv2D {width} 1 use_bias=False, BN"))
    return run(x, "GlobalAveragePooling2D, Dense 4 softmax")


@graph("efficientnet-blocks squeeze-excite 32x32x3 image")
def _(x: Any) -> Any:
    """MBConv with swish and squeeze and excitation."""
    x = run(x, "Conv2D 8 3 strides=2 same, BN, Activation swish")
    for width, stride in ((8, 1), (16, 2), (16, 1)):
        y = run(x, f"Conv2D {4 * x.shape[-1]} 1 use_bias=False, BN, Activation swish")
        y = run(y, f"DWConv2D 3 strides={stride} same use_bias=False, BN, Activation swish")
        s = run(y, f"GlobalAveragePooling2D, Reshape (1,1,{y.shape[-1]}), Conv2D {x.shape[-1] // 4} 1 swish")
        s = run(s, f"Conv2D {y.shape[-1]} 1 sigmoid")
        y = run(L.multiply([y, s]), f"Conv2D {width} 1 use_bias=False, BN")
        x = L.add([run(y, "Dropout 0.2 noise_shape=(None,1,1,1)"), x]) if x.shape == y.shape else y
    return run(x, "GlobalAveragePooling2D, Dense 4 softmax")


@graph("resnet-se squeeze-excite 32x32x3 image")
def _(x: Any) -> Any:
    x = run(x, "Conv2D 16 3 same relu")
    for width, stride in ((16, 1), (32, 2), (48, 2)):
        y = run(x, f"Conv2D {width} 3 strides={stride} same, BN, Activation relu, Conv2D {width} 3 same, BN")
        s = run(y, f"GlobalAveragePooling2D, Dense {width // 8} relu use_bias=False")
        y = y * run(s, f"Dense {width} sigmoid use_bias=False, Reshape (1,1,{width})")
        x = x if stride == 1 else L.Conv2D(width, 1, strides=stride)(x)
        x = L.Activation("relu")(L.Add()([x, y]))
    return run(x, "GlobalAveragePooling2D, Dense 10 softmax")


@graph("cbam squeeze-excite 24x24x3 image")
def _(x: Any) -> Any:
    """Channel and spatial attention, from means and maxima."""
    x = run(x, "Conv2D 16 3 same relu")
    one, two = L.Dense(4, activation="relu"), L.Dense(16)
    mean, most = (two(one(run(x, f"Global{pool}Pooling2D keepdims=True"))) for pool in ("Average", "Max"))
    x = L.Multiply()([x, L.Activation("sigmoid")(L.Add()([mean, most]))])
    mean = L.Lambda(lambda t: tf.reduce_mean(t, axis=-1, keepdims=True), output_shape=(24, 24, 1))(x)
    most = L.Lambda(lambda t: tf.reduce_max(t, axis=-1, keepdims=True), output_shape=(24, 24, 1))(x)
    x = L.Multiply()([x, run(L.Concatenate()([mean, most]), "Conv2D 1 7 same sigmoid")])
    return run(x, "MaxPooling2D 2, Conv2D 32 3 relu, GlobalAveragePooling2D, Dense 6 softmax")


@graph("squeezenet-fire image 32x32x3 image")
def _(x: Any) -> Any:
    def fire(x: Any, squeeze: int, expand: int) -> Any:
        x = run(x, f"Conv2D {squeeze} 1 relu")
        return L.Concatenate()([run(x, f"Conv2D {expand} 1 relu"), run(x, f"Conv2D {expand} 3 same relu")])

    x = run(x, "Conv2D 16 3 strides=2 relu, MaxPooling2D 3 strides=2")
    x = fire(fire(x, 8, 16), 8, 16)
    x = fire(run(x, "MaxPooling2D 3 strides=2"), 12, 24)
    return run(x, "Dropout 0.5, Conv2D 10 1 relu, GlobalAveragePooling2D, Activation softmax")


@graph("densenet-block image 32x32x3 image")
def _(x: Any) -> Any:
    x = run(x, "Conv2D 16 3 same strides=2")
    for _ in range(3):
        x = L.Concatenate()([x, run(x, "BN, Activation relu, Conv2D 8 3 same use_bias=False")])
    x = run(x, "BN, Activation relu, Conv2D 16 1, AveragePooling2D 2")
    return run(x, "GlobalAveragePooling2D, Dense 10 softmax")


@graph("convnext-block image 32x32x1 image")
def _(x: Any) -> Any:
    """ConvNeXt: a depthwise kernel of 7, layer normalization, GELU."""
    x = run(x, "Conv2D 16 4 strides=4, LN epsilon=1e-6")
    for _ in range(2):
        x = L.Add()([x, run(x, "DWConv2D 7 same, LN epsilon=1e-6, Dense 64 gelu, Dense 16")])
    return run(x, "GlobalAveragePooling2D, Dense 10")


@graph("unet-small image 40x40x1 image")
def _(x: Any) -> Any:
    """Segmentation: skips across a transposed convolution."""
    one = run(x, "Conv2D 8 3 same relu")
    two = run(one, "MaxPooling2D 2, Conv2D 16 3 same relu")
    x = run(two, "MaxPooling2D 2, Conv2D 24 3 same relu, Conv2DTranspose 16 2 strides=2 same")
    x = run(L.concatenate([x, two]), "Conv2D 16 3 same relu, Conv2DTranspose 8 2 strides=2 same")
    return run(L.concatenate([x, one]), "Conv2D 8 3 same relu, Conv2D 1 1 sigmoid")


def person_detector(shape: Shape) -> Any:
    """Rescaling and normalization inside, global max pool."""
    convs = "SeparableConv2D 32 3 strides=2 same relu6, SeparableConv2D 48 3 strides=2 same relu6"
    first = [L.Rescaling(1.0 / 127.5, offset=-1), "Conv2D 16 3 strides=2 same relu6"]
    return sequential(shape, *first, convs, "GlobalMaxPooling2D, Dense 2 softmax")


listed("person-detector-rescaled image 32x32x3 pixels", person_detector)


# ---- streams and more ------------------------------------------------------------------------------------------------


@graph("tiny-transformer-encoder attention 32x8 signal")
def _(x: Any) -> Any:
    x = L.Dense(16)(x)
    x = L.LayerNormalization()(L.Add()([x, L.MultiHeadAttention(num_heads=2, key_dim=8)(x, x)]))
    x = L.LayerNormalization()(L.Add()([x, run(x, "Dense 32 relu, Dense 16")]))
    return run(x, "GlobalAveragePooling1D, Dense 4 softmax")


@graph("sensor-fusion-split classifier 30x4 signal")
def _(x: Any) -> Any:
    """A branch for each pair of channels."""
    left, right = (run(part, "Conv1D 8 3 relu") for part in (x[:, :, :2], x[:, :, 2:]))
    x = L.Concatenate()([L.GlobalAveragePooling1D()(left), L.GlobalMaxPooling1D()(right)])
    return L.Dense(3, activation="softmax")(x)


@graph("statistics-features classifier 20x6 signal")
def _(x: Any) -> Any:
    """Mean and spread over time, then dense layers."""
    mean = L.Lambda(lambda t: tf.reduce_mean(t, axis=1), output_shape=(6,))(x)
    spread = L.Lambda(lambda t: tf.math.reduce_std(t, axis=1), output_shape=(6,))(x)
    return run(L.Concatenate()([mean, spread]), "Dense 16 relu, Dense 3 softmax")


@graph("highway-gate classifier 40x3 signal")
def _(x: Any) -> Any:
    """A gated linear unit: tanh times sigmoid."""
    for dilation in (1, 2, 4):
        a, b = (run(x, f"Conv1D 16 3 causal dilation_rate={dilation} {gate}") for gate in ("tanh", "sigmoid"))
        x = L.Conv1D(16, 1)(L.Multiply()([a, b]))
    return run(x, "GlobalAveragePooling1D, Dense 4 softmax")
