"""Keras networks as people write them: tutorials, examples and the usual designs for small boards.

They were written down before any of them was imported, and are not chosen by what imports. Keras' defaults stay as
they are: `LSTM(32)` is what people write.
"""

from __future__ import annotations

import os
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import tensorflow as tf
from networks import Listed

K, L = tf.keras, tf.keras.layers
Shape = tuple[int, ...]
listed = Listed("keras")


def sequential(shape: Shape, *layers: Any) -> Any:
    return K.Sequential([K.Input(shape), *layers])


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


# ---- TensorFlow's tutorials ------------------------------------------------------------------------------------------


@listed("quickstart", (28, 28), "image")
def net_tensorflow_quickstart_beginner(shape: Shape) -> Any:
    return K.models.Sequential(
        [
            K.Input(shape),
            L.Flatten(),
            L.Dense(128, activation="relu"),
            L.Dropout(0.2),
            L.Dense(10),
        ]
    )


@listed("quickstart", (28, 28, 1), "image")
def net_tensorflow_quickstart_advanced(shape: Shape) -> Any:
    """The layers of the tutorial's own subclass of Model."""
    inputs = K.Input(shape)
    x = L.Conv2D(32, 3, activation="relu")(inputs)
    x = L.Flatten()(x)
    x = L.Dense(128, activation="relu")(x)
    return K.Model(inputs, L.Dense(10)(x))


@listed("quickstart", (28, 28), "image")
def net_tensorflow_fashion_mnist(shape: Shape) -> Any:
    model = sequential(shape, L.Flatten(), L.Dense(128, activation="relu"), L.Dense(10))
    return K.Sequential([K.Input(shape), model, L.Softmax()])


@listed("quickstart", (32, 32, 3), "image")
def net_tensorflow_cnn_cifar(shape: Shape) -> Any:
    model = K.models.Sequential()
    model.add(K.Input(shape))
    model.add(L.Conv2D(32, (3, 3), activation="relu"))
    model.add(L.MaxPooling2D((2, 2)))
    model.add(L.Conv2D(64, (3, 3), activation="relu"))
    model.add(L.MaxPooling2D((2, 2)))
    model.add(L.Conv2D(64, (3, 3), activation="relu"))
    model.add(L.Flatten())
    model.add(L.Dense(64, activation="relu"))
    model.add(L.Dense(10))
    return model


@listed("quickstart", (96, 96, 3), "pixels")
def net_tensorflow_flowers(shape: Shape) -> Any:
    """Image classification, with augmentation and rescaling inside; smaller images than the tutorial's 180."""
    augmentation = K.Sequential([K.Input(shape), L.RandomFlip("horizontal"), L.RandomRotation(0.1), L.RandomZoom(0.1)])
    return K.Sequential(
        [
            K.Input(shape),
            augmentation,
            L.Rescaling(1.0 / 255),
            L.Conv2D(16, 3, padding="same", activation="relu"),
            L.MaxPooling2D(),
            L.Conv2D(32, 3, padding="same", activation="relu"),
            L.MaxPooling2D(),
            L.Conv2D(64, 3, padding="same", activation="relu"),
            L.MaxPooling2D(),
            L.Dropout(0.2),
            L.Flatten(),
            L.Dense(128, activation="relu"),
            L.Dense(5, name="outputs"),
        ]
    )


@listed("regression", (9,), "raw")
def net_tensorflow_auto_mpg(shape: Shape) -> Any:
    """Basic regression: a Normalization that has seen the data."""
    norm = L.Normalization(axis=-1)
    norm.adapt(np.abs(np.random.default_rng(0).normal(5, 30, (200, *shape))))
    return sequential(shape, norm, L.Dense(64, activation="relu"), L.Dense(64, activation="relu"), L.Dense(1))


@listed("regression", (9,), "raw")
def net_tensorflow_auto_mpg_linear(shape: Shape) -> Any:
    norm = L.Normalization(axis=-1)
    norm.adapt(np.abs(np.random.default_rng(0).normal(5, 30, (200, *shape))))
    return sequential(shape, norm, L.Dense(units=1))


@listed("regression", (28,), "signal")
def net_tensorflow_overfit_higgs(shape: Shape) -> Any:
    regular = K.regularizers.l2(0.0001)
    hidden = []
    for _ in range(4):
        hidden += [L.Dense(64, kernel_regularizer=regular, activation="elu"), L.Dropout(0.5)]
    return sequential(shape, *hidden, L.Dense(1))


@listed("classifier", (29,), "signal")
def net_tensorflow_credit_fraud(shape: Shape) -> Any:
    return sequential(shape, L.Dense(16, activation="relu"), L.Dropout(0.5), L.Dense(1, activation="sigmoid"))


@listed("text", (250,), "tokens")
def net_tensorflow_text_classification(shape: Shape) -> Any:
    """Words' numbers in; a smaller vocabulary than the tutorial's 10,000."""
    return sequential(
        shape,
        L.Embedding(1000, 16),
        L.Dropout(0.2),
        L.GlobalAveragePooling1D(),
        L.Dropout(0.2),
        L.Dense(1, activation="sigmoid"),
    )


@listed("autoencoder", (28, 28), "image")
def net_tensorflow_autoencoder_basic(shape: Shape) -> Any:
    encoder = [L.Flatten(), L.Dense(64, activation="relu")]
    return sequential(shape, *encoder, L.Dense(784, activation="sigmoid"), L.Reshape(shape))


@listed("autoencoder", (28, 28, 1), "image")
def net_tensorflow_autoencoder_denoising(shape: Shape) -> Any:
    return sequential(
        shape,
        L.Conv2D(16, (3, 3), activation="relu", padding="same", strides=2),
        L.Conv2D(8, (3, 3), activation="relu", padding="same", strides=2),
        L.Conv2DTranspose(8, kernel_size=3, strides=2, activation="relu", padding="same"),
        L.Conv2DTranspose(16, kernel_size=3, strides=2, activation="relu", padding="same"),
        L.Conv2D(1, kernel_size=(3, 3), activation="sigmoid", padding="same"),
    )


@listed("autoencoder", (140,), "image")
def net_tensorflow_anomaly_ecg(shape: Shape) -> Any:
    return sequential(
        shape,
        L.Dense(32, activation="relu"),
        L.Dense(16, activation="relu"),
        L.Dense(8, activation="relu"),
        L.Dense(16, activation="relu"),
        L.Dense(32, activation="relu"),
        L.Dense(140, activation="sigmoid"),
    )


@listed("sound", (124, 129, 1), "image")
def net_tensorflow_simple_audio(shape: Shape) -> Any:
    """Speech commands: a spectrogram, resized inside."""
    norm = L.Normalization()
    norm.adapt(np.random.default_rng(0).uniform(0, 1, (16, *shape)))
    return K.models.Sequential(
        [
            K.Input(shape),
            L.Resizing(32, 32),
            norm,
            L.Conv2D(32, 3, activation="relu"),
            L.Conv2D(64, 3, activation="relu"),
            L.MaxPooling2D(),
            L.Dropout(0.25),
            L.Flatten(),
            L.Dense(128, activation="relu"),
            L.Dropout(0.5),
            L.Dense(8),
        ]
    )


@listed("series", (24, 19), "signal")
def net_tensorflow_weather_linear(shape: Shape) -> Any:
    return sequential(shape, L.Dense(units=1))


@listed("series", (24, 19), "signal")
def net_tensorflow_weather_multi_step_dense(shape: Shape) -> Any:
    return sequential(
        shape,
        L.Flatten(),
        L.Dense(units=32, activation="relu"),
        L.Dense(units=32, activation="relu"),
        L.Dense(units=1),
        L.Reshape([1, -1]),
    )


@listed("series", (24, 19), "signal")
def net_tensorflow_weather_conv(shape: Shape) -> Any:
    return sequential(
        shape,
        L.Conv1D(filters=32, kernel_size=(3,), activation="relu"),
        L.Dense(units=32, activation="relu"),
        L.Dense(units=1),
    )


@listed("recurrent", (24, 19), "signal")
def net_tensorflow_weather_lstm(shape: Shape) -> Any:
    return sequential(shape, L.LSTM(32, return_sequences=True), L.Dense(units=1))


@listed("recurrent", (24, 19), "signal")
def net_tensorflow_weather_multi_lstm(shape: Shape) -> Any:
    return sequential(shape, L.LSTM(32, return_sequences=False), L.Dense(24 * 19), L.Reshape([24, 19]))


@listed("series", (24, 19), "signal")
def net_tensorflow_weather_multi_conv(shape: Shape) -> Any:
    return sequential(
        shape,
        L.Lambda(lambda x: x[:, -3:, :], output_shape=(3, shape[1])),
        L.Conv1D(256, activation="relu", kernel_size=3),
        L.Dense(24 * 19),
        L.Reshape([24, 19]),
    )


@listed("image", (96, 96, 3), "pixels")
def net_tensorflow_transfer_mobilenet_v2(shape: Shape) -> Any:
    """Transfer learning on a narrow MobileNetV2."""
    base = K.applications.MobileNetV2(input_shape=shape, alpha=0.35, include_top=False, weights=None)
    base.trainable = False
    inputs = K.Input(shape)
    x = L.Rescaling(1.0 / 127.5, offset=-1)(inputs)
    x = base(x, training=False)
    x = L.GlobalAveragePooling2D()(x)
    x = L.Dropout(0.2)(x)
    return K.Model(inputs, L.Dense(1, activation="sigmoid")(x))


# ---- Keras' examples and guides --------------------------------------------------------------------------------------


@listed("quickstart", (28, 28, 1), "image")
def net_keras_mnist_convnet(shape: Shape) -> Any:
    return K.Sequential(
        [
            K.Input(shape),
            L.Conv2D(32, kernel_size=(3, 3), activation="relu"),
            L.MaxPooling2D(pool_size=(2, 2)),
            L.Conv2D(64, kernel_size=(3, 3), activation="relu"),
            L.MaxPooling2D(pool_size=(2, 2)),
            L.Flatten(),
            L.Dropout(0.5),
            L.Dense(10, activation="softmax"),
        ]
    )


@listed("quickstart", (28, 28, 1), "image")
def net_keras_getting_started(shape: Shape) -> Any:
    return K.Sequential(
        [
            K.layers.Input(shape=shape),
            L.Conv2D(64, kernel_size=(3, 3), activation="relu"),
            L.Conv2D(64, kernel_size=(3, 3), activation="relu"),
            L.MaxPooling2D(pool_size=(2, 2)),
            L.Conv2D(128, kernel_size=(3, 3), activation="relu"),
            L.Conv2D(128, kernel_size=(3, 3), activation="relu"),
            L.GlobalAveragePooling2D(),
            L.Dropout(0.5),
            L.Dense(10, activation="softmax"),
        ]
    )


@listed("quickstart", (784,), "image")
def net_keras_functional_guide(shape: Shape) -> Any:
    inputs = K.Input(shape=shape, name="digits")
    x = L.Dense(64, activation="relu", name="dense_1")(inputs)
    x = L.Dense(64, activation="relu", name="dense_2")(x)
    return K.Model(inputs, L.Dense(10, activation="softmax", name="predictions")(x))


@listed("residual", (32, 32, 3), "image")
def net_keras_functional_guide_toy_resnet(shape: Shape) -> Any:
    inputs = K.Input(shape=shape, name="img")
    x = L.Conv2D(32, 3, activation="relu")(inputs)
    x = L.Conv2D(64, 3, activation="relu")(x)
    one = L.MaxPooling2D(3)(x)
    x = L.Conv2D(64, 3, activation="relu", padding="same")(one)
    x = L.Conv2D(64, 3, activation="relu", padding="same")(x)
    two = L.add([x, one])
    x = L.Conv2D(64, 3, activation="relu", padding="same")(two)
    x = L.Conv2D(64, 3, activation="relu", padding="same")(x)
    three = L.add([x, two])
    x = L.Conv2D(64, 3, activation="relu")(three)
    x = L.GlobalAveragePooling2D()(x)
    x = L.Dense(256, activation="relu")(x)
    x = L.Dropout(0.5)(x)
    return K.Model(inputs, L.Dense(10)(x), name="toy_resnet")


@listed("series", (500, 1), "signal")
def net_keras_timeseries_classification(shape: Shape) -> Any:
    x = inputs = L.Input(shape)
    for _ in range(3):
        x = L.Conv1D(filters=64, kernel_size=3, padding="same")(x)
        x = L.BatchNormalization()(x)
        x = L.ReLU()(x)
    x = L.GlobalAveragePooling1D()(x)
    return K.models.Model(inputs=inputs, outputs=L.Dense(2, activation="softmax")(x))


@listed("attention", (100, 1), "signal")
def net_keras_timeseries_transformer(shape: Shape) -> Any:
    x = inputs = K.Input(shape)
    for _ in range(2):
        residual = x
        x = L.MultiHeadAttention(key_dim=16, num_heads=2, dropout=0.1)(x, x)
        x = L.Dropout(0.1)(x)
        x = L.LayerNormalization(epsilon=1e-6)(x)
        middle = x = x + residual
        x = L.Conv1D(filters=4, kernel_size=1, activation="relu")(x)
        x = L.Conv1D(filters=shape[-1], kernel_size=1)(x)
        x = L.LayerNormalization(epsilon=1e-6)(x)
        x = x + middle
    x = L.GlobalAveragePooling1D(data_format="channels_last")(x)
    x = L.Dense(32, activation="relu")(x)
    return K.Model(inputs, L.Dense(2, activation="softmax")(x))


@listed("autoencoder", (288, 1), "signal")
def net_keras_timeseries_anomaly(shape: Shape) -> Any:
    return K.Sequential(
        [
            L.Input(shape),
            L.Conv1D(filters=32, kernel_size=7, padding="same", strides=2, activation="relu"),
            L.Dropout(rate=0.2),
            L.Conv1D(filters=16, kernel_size=7, padding="same", strides=2, activation="relu"),
            L.Conv1DTranspose(filters=16, kernel_size=7, padding="same", strides=2, activation="relu"),
            L.Dropout(rate=0.2),
            L.Conv1DTranspose(filters=32, kernel_size=7, padding="same", strides=2, activation="relu"),
            L.Conv1DTranspose(filters=1, kernel_size=7, padding="same"),
        ]
    )


@listed("recurrent", (120, 7), "signal")
def net_keras_weather_forecasting(shape: Shape) -> Any:
    inputs = L.Input(shape=shape)
    lstm_out = L.LSTM(32)(inputs)
    return K.Model(inputs=inputs, outputs=L.Dense(1)(lstm_out))


@listed("image", (64, 64, 3), "pixels")
def net_keras_image_classification_from_scratch(shape: Shape) -> Any:
    """The small Xception, narrower and on smaller images."""
    inputs = K.Input(shape)
    x = L.Rescaling(1.0 / 255)(inputs)
    x = L.Conv2D(32, 3, strides=2, padding="same")(x)
    x = L.BatchNormalization()(x)
    x = previous = L.Activation("relu")(x)
    for size in [32, 64, 96]:
        x = L.Activation("relu")(x)
        x = L.SeparableConv2D(size, 3, padding="same")(x)
        x = L.BatchNormalization()(x)
        x = L.Activation("relu")(x)
        x = L.SeparableConv2D(size, 3, padding="same")(x)
        x = L.BatchNormalization()(x)
        x = L.MaxPooling2D(3, strides=2, padding="same")(x)
        residual = L.Conv2D(size, 1, strides=2, padding="same")(previous)
        x = previous = L.add([x, residual])
    x = L.SeparableConv2D(128, 3, padding="same")(x)
    x = L.BatchNormalization()(x)
    x = L.Activation("relu")(x)
    x = L.GlobalAveragePooling2D()(x)
    x = L.Dropout(0.25)(x)
    return K.Model(inputs, L.Dense(1, activation=None)(x))


@listed("autoencoder", (28, 28, 1), "image")
def net_keras_convolutional_autoencoder(shape: Shape) -> Any:
    inputs = L.Input(shape)
    x = L.Conv2D(32, (3, 3), activation="relu", padding="same")(inputs)
    x = L.MaxPooling2D((2, 2), padding="same")(x)
    x = L.Conv2D(32, (3, 3), activation="relu", padding="same")(x)
    x = L.MaxPooling2D((2, 2), padding="same")(x)
    x = L.Conv2DTranspose(32, (3, 3), strides=2, activation="relu", padding="same")(x)
    x = L.Conv2DTranspose(32, (3, 3), strides=2, activation="relu", padding="same")(x)
    return K.Model(inputs, L.Conv2D(1, (3, 3), activation="sigmoid", padding="same")(x))


@listed("autoencoder", (28, 28, 1), "image")
def net_keras_blog_upsampling_autoencoder(shape: Shape) -> Any:
    """Building Autoencoders in Keras: UpSampling2D in the decoder."""
    inputs = K.Input(shape)
    x = L.Conv2D(16, (3, 3), activation="relu", padding="same")(inputs)
    x = L.MaxPooling2D((2, 2), padding="same")(x)
    x = L.Conv2D(8, (3, 3), activation="relu", padding="same")(x)
    x = L.MaxPooling2D((2, 2), padding="same")(x)
    x = L.Conv2D(8, (3, 3), activation="relu", padding="same")(x)
    encoded = L.MaxPooling2D((2, 2), padding="same")(x)
    x = L.Conv2D(8, (3, 3), activation="relu", padding="same")(encoded)
    x = L.UpSampling2D((2, 2))(x)
    x = L.Conv2D(8, (3, 3), activation="relu", padding="same")(x)
    x = L.UpSampling2D((2, 2))(x)
    x = L.Conv2D(16, (3, 3), activation="relu")(x)
    x = L.UpSampling2D((2, 2))(x)
    return K.Model(inputs, L.Conv2D(1, (3, 3), activation="sigmoid", padding="same")(x))


@listed("attention", (64, 16), "signal")
def net_keras_mlp_mixer_block(shape: Shape) -> Any:
    """Modern MLPs: a mixer over patches, with GELU."""
    patches, width = shape
    x = inputs = K.Input(shape)
    for _ in range(2):
        y = L.LayerNormalization()(x)
        y = L.Permute((2, 1))(y)
        y = L.Dense(patches, activation="gelu")(y)
        y = L.Dense(patches)(y)
        x = L.Add()([x, L.Permute((2, 1))(y)])
        y = L.LayerNormalization()(x)
        y = L.Dense(4 * width, activation="gelu")(y)
        x = L.Add()([x, L.Dense(width)(y)])
    x = L.GlobalAveragePooling1D()(x)
    return K.Model(inputs, L.Dense(10, activation="softmax")(x))


@listed("sound", (1000, 1), "signal")
def net_keras_speaker_recognition(shape: Shape) -> Any:
    """Residual blocks of 1-D convolutions over an FFT, at an eighth of the example's length and a narrower width."""

    def residual_block(x: Any, filters: int, conv_num: int = 3) -> Any:
        s = L.Conv1D(filters, 1, padding="same")(x)
        for _ in range(conv_num - 1):
            x = L.Conv1D(filters, 3, padding="same")(x)
            x = L.Activation("relu")(x)
        x = L.Conv1D(filters, 3, padding="same")(x)
        x = L.Add()([x, s])
        x = L.Activation("relu")(x)
        return L.MaxPool1D(pool_size=2, strides=2)(x)

    inputs = L.Input(shape=shape, name="input")
    x = residual_block(inputs, 8, 2)
    x = residual_block(x, 16, 2)
    x = residual_block(x, 32, 3)
    x = residual_block(x, 32, 3)
    x = L.AveragePooling1D(pool_size=3, strides=3)(x)
    x = L.Flatten()(x)
    x = L.Dense(64, activation="relu")(x)
    return K.models.Model(inputs=inputs, outputs=L.Dense(5, activation="softmax", name="output")(x))


@listed("vibration", (512, 1), "signal")
def net_keras_eeg_classification(shape: Shape) -> Any:
    """EEG signal classification: strided convolutions with LeakyReLU."""
    inputs = K.Input(shape)
    x = inputs
    for filters in (32, 64, 64):
        x = L.Conv1D(filters=filters, kernel_size=3, strides=2, padding="same", activation="relu")(x)
        x = L.BatchNormalization()(x)
    x = L.Dropout(0.2)(x)
    x = L.Flatten()(x)
    x = L.Dense(64, activation="relu")(x)
    return K.Model(inputs, L.Dense(8, activation="softmax")(x))


@listed("image", (48, 48, 1), "image")
def net_keras_super_resolution_espcn(shape: Shape) -> Any:
    """Sub-pixel convolution."""
    inputs = K.Input(shape)
    x = L.Conv2D(32, 5, activation="relu", padding="same", kernel_initializer="orthogonal")(inputs)
    x = L.Conv2D(32, 3, activation="relu", padding="same", kernel_initializer="orthogonal")(x)
    x = L.Conv2D(16, 3, activation="relu", padding="same")(x)
    x = L.Conv2D(4, 3, activation="relu", padding="same")(x)
    return K.Model(inputs, L.Lambda(lambda t: tf.nn.depth_to_space(t, 2), output_shape=(96, 96, 1))(x))


@listed("attention", (16, 16, 32), "image")
def net_keras_convmixer(shape: Shape) -> Any:
    def activation_block(x: Any) -> Any:
        return L.BatchNormalization()(L.Activation("gelu")(x))

    x = inputs = K.Input(shape)
    x = activation_block(L.Conv2D(48, kernel_size=2, strides=2)(x))
    for _ in range(3):
        x0 = x
        x = L.DepthwiseConv2D(kernel_size=5, padding="same")(x)
        x = L.Add()([activation_block(x), x0])
        x = activation_block(L.Conv2D(48, kernel_size=1)(x))
    x = L.GlobalAvgPool2D()(x)
    return K.Model(inputs, L.Dense(10, activation="softmax")(x))


@listed("classifier", (13,), "signal")
def net_keras_structured_data(shape: Shape) -> Any:
    inputs = K.Input(shape)
    x = L.Dense(32, activation="relu")(inputs)
    x = L.Dropout(0.5)(x)
    return K.Model(inputs, L.Dense(1, activation="sigmoid")(x))


@listed("classifier", (29,), "signal")
def net_keras_imbalanced_classification(shape: Shape) -> Any:
    layers = []
    for _ in range(3):
        layers += [L.Dense(256, activation="relu"), L.Dropout(0.3)]
    return sequential(shape, *layers[:-1], L.Dense(1, activation="sigmoid"))


# ---- small boards: sound ---------------------------------------------------------------------------------------------


@listed("sound", (49, 40, 1), "image")
def net_tiny_conv_speech(shape: Shape) -> Any:
    """The network of TensorFlow Lite Micro's micro_speech."""
    conv = L.Conv2D(8, (10, 8), strides=(2, 2), padding="same", activation="relu")
    return sequential(shape, conv, L.Dropout(0.5), L.Flatten(), L.Dense(4, activation="softmax"))


@listed("sound", (49, 10, 1), "signal")
def net_mlperf_ds_cnn(shape: Shape) -> Any:
    """Keyword spotting of MLPerf Tiny."""
    regular = K.regularizers.l2(1e-4)
    inputs = x = K.Input(shape)
    x = L.Conv2D(64, (10, 4), strides=(2, 2), padding="same", kernel_regularizer=regular)(x)
    x = L.Activation("relu")(L.BatchNormalization()(x))
    x = L.Dropout(rate=0.2)(x)
    for _ in range(4):
        x = L.DepthwiseConv2D(depth_multiplier=1, kernel_size=(3, 3), padding="same")(x)
        x = L.Activation("relu")(L.BatchNormalization()(x))
        x = L.Conv2D(64, (1, 1), padding="same", kernel_regularizer=regular)(x)
        x = L.Activation("relu")(L.BatchNormalization()(x))
    x = L.Dropout(rate=0.4)(x)
    x = L.AveragePooling2D(pool_size=(25, 5))(x)
    x = L.Flatten()(x)
    return K.Model(inputs, L.Dense(12, activation="softmax")(x))


@listed("autoencoder", (640,), "signal")
def net_mlperf_anomaly_detection(shape: Shape) -> Any:
    """ToyADMOS of MLPerf Tiny."""
    inputs = x = K.Input(shape)
    for width in (128, 128, 128, 128, 8, 128, 128, 128, 128):
        x = L.Dense(width)(x)
        x = L.BatchNormalization()(x)
        x = L.Activation("relu")(x)
    return K.Model(inputs, L.Dense(640)(x))


@listed("residual", (32, 32, 3), "image")
def net_mlperf_resnet8(shape: Shape) -> Any:
    """Image classification of MLPerf Tiny."""
    regular = K.regularizers.l2(1e-4)

    def conv(x: Any, filters: int, strides: int = 1, size: int = 3) -> Any:
        return L.Conv2D(
            filters,
            kernel_size=size,
            strides=strides,
            padding="same",
            kernel_initializer="he_normal",
            kernel_regularizer=regular,
        )(x)

    inputs = K.Input(shape)
    x = L.Activation("relu")(L.BatchNormalization()(conv(inputs, 16)))
    for filters, strides in ((16, 1), (32, 2), (64, 2)):
        y = L.Activation("relu")(L.BatchNormalization()(conv(x, filters, strides)))
        y = L.BatchNormalization()(conv(y, filters))
        if strides != 1:
            x = conv(x, filters, strides, 1)
        x = L.Activation("relu")(L.add([x, y]))
    x = L.AveragePooling2D(pool_size=8)(x)
    y = L.Flatten()(x)
    return K.Model(inputs, L.Dense(10, activation="softmax", kernel_initializer="he_normal")(y))


@listed("image", (96, 96, 3), "image")
def net_mlperf_visual_wake_words(shape: Shape) -> Any:
    """A quarter of MobileNet V1, from Keras' own applications."""
    base = K.applications.MobileNet(input_shape=shape, alpha=0.25, include_top=False, weights=None)
    x = L.GlobalAveragePooling2D()(base.output)
    return K.Model(base.input, L.Dense(2, activation="softmax")(x))


@listed("sound", (1287,), "signal")
def net_edge_impulse_keywords(shape: Shape) -> Any:
    """The 1-D network that Edge Impulse proposes: features come flat."""
    model = K.Sequential()
    model.add(K.Input(shape))
    model.add(L.Reshape((99, 13)))
    model.add(L.Conv1D(8, kernel_size=3, padding="same", activation="relu"))
    model.add(L.MaxPooling1D(pool_size=2, strides=2, padding="same"))
    model.add(L.Dropout(0.25))
    model.add(L.Conv1D(16, kernel_size=3, padding="same", activation="relu"))
    model.add(L.MaxPooling1D(pool_size=2, strides=2, padding="same"))
    model.add(L.Dropout(0.25))
    model.add(L.Flatten())
    model.add(L.Dense(4, name="y_pred", activation="softmax"))
    return model


@listed("sound", (99, 40), "signal")
def net_bc_resnet_like(shape: Shape) -> Any:
    """Keywords by broadcasting a mean over frequencies, with swish."""
    inputs = K.Input(shape)
    x = L.Reshape((*shape, 1))(inputs)
    x = L.Conv2D(16, 5, strides=(1, 2), padding="same", use_bias=False)(x)
    x = L.ReLU()(L.BatchNormalization()(x))
    for width, strides in ((8, 1), (12, (1, 2)), (16, (1, 2))):
        x = L.Conv2D(width, 1, use_bias=False)(x)
        x = L.ReLU()(L.BatchNormalization()(x))
        x = L.DepthwiseConv2D((1, 3), strides=strides if strides == 1 else (1, 1), padding="same")(x)
        x = L.MaxPooling2D((1, 2))(x) if strides != 1 else x
        mean = L.AveragePooling2D((1, x.shape[2]))(x)
        y = L.DepthwiseConv2D((3, 1), padding="same", use_bias=False)(mean)
        y = L.Activation("swish")(L.BatchNormalization()(y))
        y = L.Conv2D(width, 1)(y)
        x = L.ReLU()(L.Add()([x, y]))
    x = L.GlobalAveragePooling2D()(x)
    return K.Model(inputs, L.Dense(12, activation="softmax")(x))


@listed("sound", (98, 40), "signal")
def net_tc_resnet8(shape: Shape) -> Any:
    """Temporal convolutions: frequencies are channels."""
    inputs = K.Input(shape)
    x = L.Conv1D(16, 3, padding="same", use_bias=False)(inputs)
    for width in (24, 32, 48):
        y = L.Conv1D(width, 9, strides=2, padding="same", use_bias=False)(x)
        y = L.ReLU()(L.BatchNormalization()(y))
        y = L.Conv1D(width, 9, padding="same", use_bias=False)(y)
        y = L.BatchNormalization()(y)
        x = L.Conv1D(width, 1, strides=2, padding="same", use_bias=False)(x)
        x = L.ReLU()(L.BatchNormalization()(x))
        x = L.ReLU()(L.Add()([x, y]))
    x = L.GlobalAveragePooling1D()(x)
    x = L.Dropout(0.5)(x)
    return K.Model(inputs, L.Dense(12, activation="softmax")(x))


@listed("recurrent", (49, 40), "signal")
def net_keywords_gru(shape: Shape) -> Any:
    return sequential(shape, L.GRU(48), L.Dropout(0.2), L.Dense(12, activation="softmax"))


@listed("recurrent", (49, 40), "signal")
def net_keywords_crnn(shape: Shape) -> Any:
    """Convolutions, then a GRU over what they leave of time."""
    inputs = K.Input(shape)
    x = L.Reshape((*shape, 1))(inputs)
    x = L.Conv2D(16, (10, 4), strides=(4, 2), padding="same", activation="relu")(x)
    x = L.Reshape((x.shape[1], x.shape[2] * x.shape[3]))(x)
    x = L.GRU(32)(x)
    x = L.Dense(32, activation="relu")(x)
    return K.Model(inputs, L.Dense(12, activation="softmax")(x))


@listed("sound", (96, 64), "image")
def net_yamnet_head(shape: Shape) -> Any:
    """Sound events: depthwise separable layers over a mel spectrogram."""
    inputs = K.Input(shape)
    x = L.Reshape((*shape, 1))(inputs)
    x = L.Conv2D(16, 3, strides=2, padding="same", use_bias=False)(x)
    x = L.ReLU()(L.BatchNormalization(scale=False, epsilon=1e-4)(x))
    for width, stride in ((32, 1), (48, 2), (48, 1), (96, 2), (96, 1)):
        x = L.DepthwiseConv2D(3, strides=stride, padding="same", use_bias=False)(x)
        x = L.ReLU()(L.BatchNormalization(scale=False, epsilon=1e-4)(x))
        x = L.Conv2D(width, 1, padding="same", use_bias=False)(x)
        x = L.ReLU()(L.BatchNormalization(scale=False, epsilon=1e-4)(x))
    x = L.GlobalAveragePooling2D()(x)
    return K.Model(inputs, L.Dense(20, activation="sigmoid")(x))


@listed("sound", (64, 64, 1), "image")
def net_cough_detector(shape: Shape) -> Any:
    layers = []
    for width in (8, 16, 32):
        layers += [L.Conv2D(width, 3, padding="same"), L.BatchNormalization(), L.Activation("relu"), L.MaxPooling2D(2)]
    return sequential(shape, *layers, L.GlobalMaxPooling2D(), L.Dense(1, activation="sigmoid"))


@listed("sound", (40, 40), "signal")
def net_glass_break_dense(shape: Shape) -> Any:
    return sequential(
        shape,
        L.Flatten(),
        L.Dense(64, activation="relu"),
        L.BatchNormalization(),
        L.Dropout(0.3),
        L.Dense(32, activation="relu"),
        L.BatchNormalization(),
        L.Dense(3, activation="softmax"),
    )


# ---- motion ----------------------------------------------------------------------------------------------------------


@listed("motion", (128, 9), "signal")
def net_har_conv1d(shape: Shape) -> Any:
    """Human activity by 1-D convolutions, as the best known tutorial has it."""
    model = K.Sequential()
    model.add(K.Input(shape))
    model.add(L.Conv1D(filters=64, kernel_size=3, activation="relu"))
    model.add(L.Conv1D(filters=64, kernel_size=3, activation="relu"))
    model.add(L.Dropout(0.5))
    model.add(L.MaxPooling1D(pool_size=2))
    model.add(L.Flatten())
    model.add(L.Dense(100, activation="relu"))
    model.add(L.Dense(6, activation="softmax"))
    return model


@listed("recurrent", (128, 9), "signal")
def net_har_lstm(shape: Shape) -> Any:
    model = K.Sequential()
    model.add(K.Input(shape))
    model.add(L.LSTM(100))
    model.add(L.Dropout(0.5))
    model.add(L.Dense(100, activation="relu"))
    model.add(L.Dense(6, activation="softmax"))
    return model


@listed("recurrent", (128, 9), "signal")
def net_har_conv_lstm(shape: Shape) -> Any:
    """DeepConvLSTM, small: convolutions and pools before a recurrence of 16 steps."""
    return sequential(
        shape,
        L.Conv1D(32, 5, padding="same", activation="relu"),
        L.MaxPooling1D(4),
        L.Conv1D(32, 5, padding="same", activation="relu"),
        L.MaxPooling1D(2),
        L.LSTM(32),
        L.Dense(6, activation="softmax"),
    )


@listed("recurrent", (50, 6), "signal")
def net_har_bidirectional_lstm(shape: Shape) -> Any:
    return sequential(
        shape, L.Bidirectional(L.LSTM(16)), L.Dense(16, activation="relu"), L.Dense(5, activation="softmax")
    )


@listed("motion", (128, 3, 1), "signal")
def net_magic_wand(shape: Shape) -> Any:
    """The gestures of TensorFlow Lite Micro's magic wand."""
    return K.Sequential(
        [
            K.Input(shape),
            L.Conv2D(8, (4, 3), padding="same", activation="relu"),
            L.MaxPool2D((3, 3)),
            L.Dropout(0.1),
            L.Conv2D(16, (4, 1), padding="same", activation="relu"),
            L.MaxPool2D((3, 1), padding="same"),
            L.Dropout(0.1),
            L.Flatten(),
            L.Dense(16, activation="relu"),
            L.Dropout(0.1),
            L.Dense(4, activation="softmax"),
        ]
    )


@listed("motion", (714,), "image")
def net_arduino_gestures(shape: Shape) -> Any:
    """Arduino's gesture tutorial: 119 samples of six axes, dense layers."""
    model = K.Sequential()
    model.add(K.Input(shape))
    model.add(L.Dense(50, activation="relu"))
    model.add(L.Dense(15, activation="relu"))
    model.add(L.Dense(2, activation="softmax"))
    return model


@listed("motion", (33,), "signal")
def net_edge_impulse_motion(shape: Shape) -> Any:
    return sequential(
        shape,
        L.Dense(20, activation="relu", activity_regularizer=K.regularizers.l1(0.00001)),
        L.Dense(10, activation="relu", activity_regularizer=K.regularizers.l1(0.00001)),
        L.Dense(4, activation="softmax", name="y_pred"),
    )


@listed("motion", (100, 3), "signal")
def net_fall_detection_separable(shape: Shape) -> Any:
    return sequential(
        shape,
        L.SeparableConv1D(16, 5, activation="relu", padding="same"),
        L.MaxPooling1D(2),
        L.SeparableConv1D(32, 5, activation="relu", padding="same"),
        L.GlobalAveragePooling1D(),
        L.Dense(1, activation="sigmoid"),
    )


@listed("motion", (128, 6), "signal")
def net_motion_tcn(shape: Shape) -> Any:
    """Dilated causal convolutions with residuals."""
    inputs = x = K.Input(shape)
    for dilation in (1, 2, 4, 8):
        y = L.Conv1D(24, 3, padding="causal", dilation_rate=dilation, activation="relu")(x)
        y = L.SpatialDropout1D(0.1)(y)
        y = L.Conv1D(24, 3, padding="causal", dilation_rate=dilation, activation="relu")(y)
        x = x if x.shape[-1] == 24 else L.Conv1D(24, 1)(x)
        x = L.Activation("relu")(L.add([x, y]))
    x = L.Lambda(lambda t: t[:, -1, :], output_shape=(24,))(x)
    return K.Model(inputs, L.Dense(6, activation="softmax")(x))


@listed("attention", (64, 6), "signal")
def net_motion_attention_pool(shape: Shape) -> Any:
    """Convolutions, then a learned weight for each moment."""
    inputs = K.Input(shape)
    x = L.Conv1D(32, 5, padding="same", activation="relu")(inputs)
    weight = L.Dense(1, activation="tanh")(x)
    weight = L.Softmax(axis=1)(weight)
    x = L.Multiply()([x, weight])
    x = L.GlobalAveragePooling1D()(x)
    return K.Model(inputs, L.Dense(6, activation="softmax")(x))


@listed("motion", (96, 6), "signal")
def net_motion_inception(shape: Shape) -> Any:
    """InceptionTime's module: kernels of several lengths side by side."""
    inputs = x = K.Input(shape)
    for _ in range(2):
        bottleneck = L.Conv1D(16, 1, padding="same", use_bias=False)(x)
        branches = [L.Conv1D(12, k, padding="same", use_bias=False)(bottleneck) for k in (5, 11, 23)]
        pool = L.MaxPool1D(3, strides=1, padding="same")(x)
        branches.append(L.Conv1D(12, 1, padding="same", use_bias=False)(pool))
        x = L.Concatenate(axis=2)(branches)
        x = L.BatchNormalization()(x)
        x = L.Activation("relu")(x)
    x = L.GlobalAveragePooling1D()(x)
    return K.Model(inputs, L.Dense(6, activation="softmax")(x))


@listed("motion", (64, 3), "signal")
def net_gesture_prelu(shape: Shape) -> Any:
    return sequential(
        shape,
        L.Conv1D(16, 3, strides=2),
        L.PReLU(shared_axes=[1]),
        L.Conv1D(32, 3, strides=2),
        L.PReLU(shared_axes=[1]),
        L.GlobalMaxPooling1D(),
        L.Dense(5),
    )


@listed("recurrent", (32, 6), "signal")
def net_gesture_simple_rnn(shape: Shape) -> Any:
    return sequential(shape, L.SimpleRNN(24), L.Dense(5, activation="softmax"))


@listed("recurrent", (20, 3), "signal")
def net_gesture_lstm_unrolled(shape: Shape) -> Any:
    return sequential(shape, L.LSTM(16, unroll=True), L.Dense(5, activation="softmax"))


@listed("recurrent", (30, 6), "signal")
def net_gesture_stacked_gru(shape: Shape) -> Any:
    return sequential(
        shape, L.GRU(24, return_sequences=True), L.Dropout(0.2), L.GRU(16), L.Dense(5, activation="softmax")
    )


# ---- machines and other signals --------------------------------------------------------------------------------------


@listed("vibration", (1024, 1), "signal")
def net_bearing_wdcnn(shape: Shape) -> Any:
    """Bearing faults: a wide first kernel."""
    inputs = K.Input(shape)
    x = L.Conv1D(16, 64, strides=16, padding="same")(inputs)
    x = L.ReLU()(L.BatchNormalization()(x))
    x = L.MaxPooling1D(2, strides=2, padding="same")(x)
    for width in (32, 64, 64):
        x = L.Conv1D(width, 3, padding="same")(x)
        x = L.ReLU()(L.BatchNormalization()(x))
        x = L.MaxPooling1D(2, strides=2, padding="same")(x)
    x = L.Flatten()(x)
    x = L.Dense(100, activation="relu")(x)
    return K.Model(inputs, L.Dense(10, activation="softmax")(x))


@listed("vibration", (256, 3), "signal")
def net_motor_squeeze_excite(shape: Shape) -> Any:
    """1-D convolutions with squeeze and excitation."""

    def squeeze_excite(x: Any, ratio: int = 4) -> Any:
        filters = x.shape[-1]
        s = L.GlobalAveragePooling1D()(x)
        s = L.Dense(filters // ratio, activation="relu")(s)
        s = L.Dense(filters, activation="sigmoid")(s)
        return L.Multiply()([x, L.Reshape((1, filters))(s)])

    inputs = x = K.Input(shape)
    for width in (16, 32, 32):
        x = L.Conv1D(width, 5, strides=2, padding="same", use_bias=False)(x)
        x = L.ReLU()(L.BatchNormalization()(x))
        x = squeeze_excite(x)
    x = L.GlobalAveragePooling1D()(x)
    return K.Model(inputs, L.Dense(4, activation="softmax")(x))


@listed("autoencoder", (128, 3), "signal")
def net_vibration_conv_autoencoder(shape: Shape) -> Any:
    return sequential(
        shape,
        L.Conv1D(16, 5, strides=2, padding="same", activation="relu"),
        L.Conv1D(8, 5, strides=2, padding="same", activation="relu"),
        L.UpSampling1D(2),
        L.Conv1D(16, 5, padding="same", activation="relu"),
        L.UpSampling1D(2),
        L.Conv1D(3, 5, padding="same"),
    )


@listed("autoencoder", (32, 3), "signal")
def net_lstm_autoencoder(shape: Shape) -> Any:
    return sequential(
        shape,
        L.LSTM(16),
        L.RepeatVector(shape[0]),
        L.LSTM(16, return_sequences=True),
        L.TimeDistributed(L.Dense(shape[1])),
    )


@listed("vibration", (187, 1), "image")
def net_ecg_resnet(shape: Shape) -> Any:
    """Heartbeats (MIT-BIH): residual blocks with pools."""
    inputs = K.Input(shape)
    x = L.Conv1D(32, 5)(inputs)
    for _ in range(4):
        y = L.Conv1D(32, 5, padding="same", activation="relu")(x)
        y = L.Conv1D(32, 5, padding="same")(y)
        x = L.Activation("relu")(L.Add()([y, x]))
        x = L.MaxPooling1D(pool_size=5, strides=2)(x)
    x = L.Flatten()(x)
    x = L.Dense(32, activation="relu")(x)
    return K.Model(inputs, L.Dense(5, activation="softmax")(x))


@listed("vibration", (250, 2), "signal")
def net_emg_selu(shape: Shape) -> Any:
    return sequential(
        shape,
        L.Conv1D(16, 7, strides=2, activation="selu", kernel_initializer="lecun_normal"),
        L.Conv1D(32, 5, strides=2, activation="selu", kernel_initializer="lecun_normal"),
        L.AlphaDropout(0.1),
        L.GlobalAveragePooling1D(),
        L.Dense(6, activation="softmax"),
    )


@listed("vibration", (64, 64, 1), "image")
def net_spectrogram_elu(shape: Shape) -> Any:
    return sequential(
        shape,
        L.ZeroPadding2D(1),
        L.Conv2D(8, 3, strides=2, activation="elu"),
        L.AveragePooling2D(2),
        L.Conv2D(16, 3, padding="same", activation="elu"),
        L.AveragePooling2D(2),
        L.Flatten(),
        L.Dense(4, activation="softmax"),
    )


@listed("regression", (60, 14), "signal")
def net_remaining_useful_life_conv(shape: Shape) -> Any:
    """Turbofan engines: cycles left."""
    return sequential(
        shape,
        L.Conv1D(32, 5, activation="tanh"),
        L.Conv1D(32, 5, activation="tanh"),
        L.Flatten(),
        L.Dropout(0.5),
        L.Dense(50, activation="tanh"),
        L.Dense(1),
    )


@listed("recurrent", (30, 14), "signal")
def net_remaining_useful_life_lstm(shape: Shape) -> Any:
    return sequential(
        shape,
        L.LSTM(64, return_sequences=True),
        L.Dropout(0.2),
        L.LSTM(32),
        L.Dropout(0.2),
        L.Dense(1, activation="linear"),
    )


@listed("regression", (1,), "signal")
def net_hello_world_sine(shape: Shape) -> Any:
    """TensorFlow Lite Micro's hello_world."""
    return sequential(shape, L.Dense(16, activation="relu"), L.Dense(16, activation="relu"), L.Dense(1))


@listed("regression", (13,), "signal")
def net_housing_swish(shape: Shape) -> Any:
    return sequential(shape, L.Dense(64, activation="swish"), L.Dense(32, activation="swish"), L.Dense(1))


@listed("regression", (8,), "signal")
def net_air_quality_gelu(shape: Shape) -> Any:
    hidden = [L.Dense(32, activation="gelu"), L.Dense(32, activation="gelu")]
    return sequential(shape, L.BatchNormalization(), *hidden, L.Dense(2, activation="softplus"))


@listed("regression", (48, 4), "signal")
def net_power_forecast_residual_mlp(shape: Shape) -> Any:
    inputs = K.Input(shape)
    x = L.Flatten()(inputs)
    x = L.Dense(64, activation="relu")(x)
    for _ in range(2):
        y = L.Dense(64, activation="relu")(x)
        y = L.Dense(64)(y)
        x = L.LayerNormalization()(L.Add()([x, y]))
    return K.Model(inputs, L.Dense(24)(x))


@listed("classifier", (4,), "raw")
def net_iris(shape: Shape) -> Any:
    return sequential(shape, L.Dense(8, activation="relu"), L.Dense(3, activation="softmax"))


@listed("classifier", (8,), "raw")
def net_pima_diabetes(shape: Shape) -> Any:
    return sequential(
        shape, L.Dense(12, activation="relu"), L.Dense(8, activation="relu"), L.Dense(1, activation="sigmoid")
    )


@listed("classifier", (16,), "signal")
def net_gas_sensor_leaky(shape: Shape) -> Any:
    return sequential(
        shape,
        L.Dense(32),
        L.LeakyReLU(),
        L.BatchNormalization(),
        L.Dropout(0.3),
        L.Dense(16),
        L.LeakyReLU(negative_slope=0.1),
        L.Dense(5, activation="softmax"),
    )


@listed("classifier", (64,), "signal")
def net_wide_and_deep(shape: Shape) -> Any:
    inputs = K.Input(shape)
    x = L.Dense(30, activation="relu")(inputs)
    x = L.Dense(30, activation="relu")(x)
    x = L.concatenate([inputs, x])
    return K.Model(inputs, L.Dense(3, activation="softmax")(x))


# ---- images ----------------------------------------------------------------------------------------------------------


@listed("image", (28, 28, 1), "image")
def net_lenet5(shape: Shape) -> Any:
    return sequential(
        shape,
        L.Conv2D(6, kernel_size=5, padding="same", activation="tanh"),
        L.AveragePooling2D(2),
        L.Conv2D(16, kernel_size=5, activation="tanh"),
        L.AveragePooling2D(2),
        L.Flatten(),
        L.Dense(120, activation="tanh"),
        L.Dense(84, activation="tanh"),
        L.Dense(10, activation="softmax"),
    )


@listed("image", (32, 32, 3), "image")
def net_vgg_small(shape: Shape) -> Any:
    layers = []
    for width, dropout in ((16, 0.2), (32, 0.3), (64, 0.4)):
        for _ in range(2):
            layers += [
                L.Conv2D(width, (3, 3), activation="relu", kernel_initializer="he_uniform", padding="same"),
                L.BatchNormalization(),
            ]
        layers += [L.MaxPooling2D((2, 2)), L.Dropout(dropout)]
    head = [L.Flatten(), L.Dense(128, activation="relu"), L.BatchNormalization(), L.Dropout(0.5)]
    return sequential(shape, *layers, *head, L.Dense(10, activation="softmax"))


@listed("residual", (32, 32, 3), "image")
def net_resnet_v2_preactivation(shape: Shape) -> Any:
    inputs = K.Input(shape)
    x = L.Conv2D(16, 3, padding="same")(inputs)
    for width, stride in ((16, 1), (32, 2), (64, 2)):
        y = L.Activation("relu")(L.BatchNormalization()(x))
        y = L.Conv2D(width, 3, strides=stride, padding="same")(y)
        y = L.Activation("relu")(L.BatchNormalization()(y))
        y = L.Conv2D(width, 3, padding="same")(y)
        x = x if stride == 1 and x.shape[-1] == width else L.Conv2D(width, 1, strides=stride)(x)
        x = L.Add()([x, y])
    x = L.Activation("relu")(L.BatchNormalization()(x))
    x = L.GlobalAveragePooling2D()(x)
    return K.Model(inputs, L.Dense(10, activation="softmax")(x))


@listed("image", (48, 48, 3), "image")
def net_mobilenet_v2_blocks(shape: Shape) -> Any:
    """Inverted residuals with ReLU6."""

    def block(x: Any, width: int, stride: int, expansion: int) -> Any:
        y = L.Conv2D(expansion * x.shape[-1], 1, padding="same", use_bias=False)(x)
        y = L.ReLU(6.0)(L.BatchNormalization()(y))
        y = L.DepthwiseConv2D(3, strides=stride, padding="same", use_bias=False)(y)
        y = L.ReLU(6.0)(L.BatchNormalization()(y))
        y = L.BatchNormalization()(L.Conv2D(width, 1, padding="same", use_bias=False)(y))
        return L.Add()([x, y]) if stride == 1 and x.shape[-1] == width else y

    inputs = K.Input(shape)
    x = L.Conv2D(8, 3, strides=2, padding="same", use_bias=False)(inputs)
    x = L.ReLU(6.0)(L.BatchNormalization()(x))
    for width, stride in ((8, 1), (16, 2), (16, 1), (24, 2), (24, 1)):
        x = block(x, width, stride, 4)
    x = L.GlobalAveragePooling2D()(x)
    return K.Model(inputs, L.Dense(4, activation="softmax")(x))


@listed("squeeze-excite", (48, 48, 3), "image")
def net_mobilenet_v3_blocks(shape: Shape) -> Any:
    """Inverted residuals with squeeze and excitation, hard swish and hard sigmoid."""

    def block(x: Any, width: int, stride: int) -> Any:
        y = L.Activation("hard_silu")(L.BatchNormalization()(L.Conv2D(4 * x.shape[-1], 1, use_bias=False)(x)))
        y = L.DepthwiseConv2D(5, strides=stride, padding="same", use_bias=False)(y)
        y = L.Activation("hard_silu")(L.BatchNormalization()(y))
        s = L.GlobalAveragePooling2D(keepdims=True)(y)
        s = L.Conv2D(y.shape[-1] // 4, 1, activation="relu")(s)
        s = L.Conv2D(y.shape[-1], 1, activation="hard_sigmoid")(s)
        y = L.BatchNormalization()(L.Conv2D(width, 1, use_bias=False)(L.Multiply()([y, s])))
        return L.Add()([x, y]) if stride == 1 and x.shape[-1] == width else y

    inputs = K.Input(shape)
    x = L.Activation("hard_silu")(L.BatchNormalization()(L.Conv2D(8, 3, strides=2, padding="same")(inputs)))
    for width, stride in ((8, 1), (16, 2), (16, 1)):
        x = block(x, width, stride)
    x = L.GlobalAveragePooling2D()(x)
    return K.Model(inputs, L.Dense(4, activation="softmax")(x))


@listed("squeeze-excite", (32, 32, 3), "image")
def net_efficientnet_blocks(shape: Shape) -> Any:
    """MBConv with swish and squeeze and excitation."""

    def block(x: Any, width: int, stride: int) -> Any:
        y = L.Activation("swish")(L.BatchNormalization()(L.Conv2D(4 * x.shape[-1], 1, use_bias=False)(x)))
        y = L.DepthwiseConv2D(3, strides=stride, padding="same", use_bias=False)(y)
        y = L.Activation("swish")(L.BatchNormalization()(y))
        s = L.GlobalAveragePooling2D()(y)
        s = L.Reshape((1, 1, y.shape[-1]))(s)
        s = L.Conv2D(max(1, x.shape[-1] // 4), 1, activation="swish")(s)
        s = L.Conv2D(y.shape[-1], 1, activation="sigmoid")(s)
        y = L.BatchNormalization()(L.Conv2D(width, 1, use_bias=False)(L.multiply([y, s])))
        if stride == 1 and x.shape[-1] == width:
            y = L.add([L.Dropout(0.2, noise_shape=(None, 1, 1, 1))(y), x])
        return y

    inputs = K.Input(shape)
    x = L.Activation("swish")(L.BatchNormalization()(L.Conv2D(8, 3, strides=2, padding="same")(inputs)))
    for width, stride in ((8, 1), (16, 2), (16, 1)):
        x = block(x, width, stride)
    x = L.GlobalAveragePooling2D()(x)
    return K.Model(inputs, L.Dense(4, activation="softmax")(x))


@listed("squeeze-excite", (32, 32, 3), "image")
def net_resnet_se(shape: Shape) -> Any:
    inputs = K.Input(shape)
    x = L.Conv2D(16, 3, padding="same", activation="relu")(inputs)
    for width, stride in ((16, 1), (32, 2), (48, 2)):
        y = L.Activation("relu")(L.BatchNormalization()(L.Conv2D(width, 3, strides=stride, padding="same")(x)))
        y = L.BatchNormalization()(L.Conv2D(width, 3, padding="same")(y))
        s = L.GlobalAveragePooling2D()(y)
        s = L.Dense(width // 8, activation="relu", use_bias=False)(s)
        s = L.Dense(width, activation="sigmoid", use_bias=False)(s)
        y = y * L.Reshape((1, 1, width))(s)
        x = x if stride == 1 else L.Conv2D(width, 1, strides=stride)(x)
        x = L.Activation("relu")(L.Add()([x, y]))
    x = L.GlobalAveragePooling2D()(x)
    return K.Model(inputs, L.Dense(10, activation="softmax")(x))


@listed("squeeze-excite", (24, 24, 3), "image")
def net_cbam(shape: Shape) -> Any:
    """Channel and spatial attention, from means and maxima."""
    inputs = K.Input(shape)
    x = L.Conv2D(16, 3, padding="same", activation="relu")(inputs)
    one, two = L.Dense(4, activation="relu"), L.Dense(16)
    mean = two(one(L.GlobalAveragePooling2D(keepdims=True)(x)))
    most = two(one(L.GlobalMaxPooling2D(keepdims=True)(x)))
    x = L.Multiply()([x, L.Activation("sigmoid")(L.Add()([mean, most]))])
    mean = L.Lambda(lambda t: tf.reduce_mean(t, axis=-1, keepdims=True), output_shape=(24, 24, 1))(x)
    most = L.Lambda(lambda t: tf.reduce_max(t, axis=-1, keepdims=True), output_shape=(24, 24, 1))(x)
    where = L.Conv2D(1, 7, padding="same", activation="sigmoid")(L.Concatenate()([mean, most]))
    x = L.Multiply()([x, where])
    x = L.MaxPooling2D(2)(x)
    x = L.Conv2D(32, 3, activation="relu")(x)
    x = L.GlobalAveragePooling2D()(x)
    return K.Model(inputs, L.Dense(6, activation="softmax")(x))


@listed("image", (32, 32, 3), "image")
def net_squeezenet_fire(shape: Shape) -> Any:
    def fire(x: Any, squeeze: int, expand: int) -> Any:
        x = L.Conv2D(squeeze, 1, activation="relu")(x)
        return L.Concatenate()(
            [L.Conv2D(expand, 1, activation="relu")(x), L.Conv2D(expand, 3, padding="same", activation="relu")(x)]
        )

    inputs = K.Input(shape)
    x = L.Conv2D(16, 3, strides=2, activation="relu")(inputs)
    x = L.MaxPooling2D(3, strides=2)(x)
    x = fire(fire(x, 8, 16), 8, 16)
    x = L.MaxPooling2D(3, strides=2)(x)
    x = fire(x, 12, 24)
    x = L.Dropout(0.5)(x)
    x = L.Conv2D(10, 1, activation="relu")(x)
    x = L.GlobalAveragePooling2D()(x)
    return K.Model(inputs, L.Activation("softmax")(x))


@listed("image", (32, 32, 3), "image")
def net_densenet_block(shape: Shape) -> Any:
    inputs = K.Input(shape)
    x = L.Conv2D(16, 3, padding="same", strides=2)(inputs)
    for _ in range(3):
        y = L.Activation("relu")(L.BatchNormalization()(x))
        y = L.Conv2D(8, 3, padding="same", use_bias=False)(y)
        x = L.Concatenate()([x, y])
    x = L.Activation("relu")(L.BatchNormalization()(x))
    x = L.Conv2D(16, 1)(x)
    x = L.AveragePooling2D(2)(x)
    x = L.GlobalAveragePooling2D()(x)
    return K.Model(inputs, L.Dense(10, activation="softmax")(x))


@listed("image", (32, 32, 1), "image")
def net_convnext_block(shape: Shape) -> Any:
    """ConvNeXt: a depthwise kernel of 7, layer normalization, GELU."""
    inputs = K.Input(shape)
    x = L.Conv2D(16, 4, strides=4)(inputs)
    x = L.LayerNormalization(epsilon=1e-6)(x)
    for _ in range(2):
        y = L.DepthwiseConv2D(7, padding="same")(x)
        y = L.LayerNormalization(epsilon=1e-6)(y)
        y = L.Dense(64, activation="gelu")(y)
        y = L.Dense(16)(y)
        x = L.Add()([x, y])
    x = L.GlobalAveragePooling2D()(x)
    return K.Model(inputs, L.Dense(10)(x))


@listed("image", (40, 40, 1), "image")
def net_unet_small(shape: Shape) -> Any:
    """Segmentation: skips across a transposed convolution."""
    inputs = K.Input(shape)
    one = L.Conv2D(8, 3, padding="same", activation="relu")(inputs)
    two = L.Conv2D(16, 3, padding="same", activation="relu")(L.MaxPooling2D(2)(one))
    x = L.Conv2D(24, 3, padding="same", activation="relu")(L.MaxPooling2D(2)(two))
    x = L.concatenate([L.Conv2DTranspose(16, 2, strides=2, padding="same")(x), two])
    x = L.Conv2D(16, 3, padding="same", activation="relu")(x)
    x = L.concatenate([L.Conv2DTranspose(8, 2, strides=2, padding="same")(x), one])
    x = L.Conv2D(8, 3, padding="same", activation="relu")(x)
    return K.Model(inputs, L.Conv2D(1, 1, activation="sigmoid")(x))


@listed("image", (32, 32, 3), "pixels")
def net_person_detector_rescaled(shape: Shape) -> Any:
    """Rescaling and normalization inside, global max pool."""
    return sequential(
        shape,
        L.Rescaling(1.0 / 127.5, offset=-1),
        L.Conv2D(16, 3, strides=2, padding="same", activation="relu6"),
        L.SeparableConv2D(32, 3, strides=2, padding="same", activation="relu6"),
        L.SeparableConv2D(48, 3, strides=2, padding="same", activation="relu6"),
        L.GlobalMaxPooling2D(),
        L.Dense(2, activation="softmax"),
    )


@listed("image", (24, 32, 1), "signal")
def net_thermal_presence(shape: Shape) -> Any:
    """An MLX90640's frames: cropped, padded, valid pools."""
    return sequential(
        shape,
        L.Cropping2D(((2, 2), (4, 4))),
        L.Conv2D(8, (3, 3), padding="valid", activation="relu"),
        L.MaxPooling2D((2, 2), padding="valid"),
        L.Conv2D(16, (3, 3), padding="valid", activation="relu"),
        L.AveragePooling2D((2, 2), padding="same"),
        L.Flatten(),
        L.Dense(3, activation="softmax"),
    )


@listed("image", (24, 24, 1), "image")
def net_digit_locally_padded(shape: Shape) -> Any:
    return sequential(
        shape,
        L.ZeroPadding2D(((1, 2), (2, 1))),
        L.Conv2D(8, 5, activation="softsign"),
        L.MaxPooling2D(2),
        L.Conv2D(16, 3, dilation_rate=2, activation="softplus"),
        L.Flatten(),
        L.Dense(32, activation="mish"),
        L.Dense(10, activation="log_softmax"),
    )


# ---- streams and more ------------------------------------------------------------------------------------------------


@listed("attention", (32, 8), "signal")
def net_tiny_transformer_encoder(shape: Shape) -> Any:
    inputs = K.Input(shape)
    x = L.Dense(16)(inputs)
    y = L.MultiHeadAttention(num_heads=2, key_dim=8)(x, x)
    x = L.LayerNormalization()(L.Add()([x, y]))
    y = L.Dense(16)(L.Dense(32, activation="relu")(x))
    x = L.LayerNormalization()(L.Add()([x, y]))
    x = L.GlobalAveragePooling1D()(x)
    return K.Model(inputs, L.Dense(4, activation="softmax")(x))


@listed("classifier", (30, 4), "signal")
def net_sensor_fusion_split(shape: Shape) -> Any:
    """A branch for each pair of channels."""
    inputs = K.Input(shape)
    left = L.Conv1D(8, 3, activation="relu")(inputs[:, :, :2])
    right = L.Conv1D(8, 3, activation="relu")(inputs[:, :, 2:])
    x = L.Concatenate()([L.GlobalAveragePooling1D()(left), L.GlobalMaxPooling1D()(right)])
    return K.Model(inputs, L.Dense(3, activation="softmax")(x))


@listed("classifier", (20, 6), "signal")
def net_statistics_features(shape: Shape) -> Any:
    """Mean and spread over time, then dense layers."""
    inputs = K.Input(shape)
    mean = L.Lambda(lambda t: tf.reduce_mean(t, axis=1), output_shape=(6,))(inputs)
    spread = L.Lambda(lambda t: tf.math.reduce_std(t, axis=1), output_shape=(6,))(inputs)
    x = L.Dense(16, activation="relu")(L.Concatenate()([mean, spread]))
    return K.Model(inputs, L.Dense(3, activation="softmax")(x))


@listed("classifier", (40, 3), "signal")
def net_highway_gate(shape: Shape) -> Any:
    """A gated linear unit: tanh times sigmoid."""
    inputs = x = K.Input(shape)
    for dilation in (1, 2, 4):
        a = L.Conv1D(16, 3, padding="causal", dilation_rate=dilation, activation="tanh")(x)
        b = L.Conv1D(16, 3, padding="causal", dilation_rate=dilation, activation="sigmoid")(x)
        x = L.Conv1D(16, 1)(L.Multiply()([a, b]))
    x = L.GlobalAveragePooling1D()(x)
    return K.Model(inputs, L.Dense(4, activation="softmax")(x))


@listed("classifier", (10,), "signal")
def net_normed_dense(shape: Shape) -> Any:
    """Dense, normalization, activation: the order of the original paper."""
    layers = []
    for width in (32, 16):
        layers += [L.Dense(width, use_bias=False), L.BatchNormalization(), L.Activation("relu")]
    return sequential(shape, *layers, L.Dense(4, activation="softmax"))


@listed("classifier", (10,), "signal")
def net_normed_after_activation(shape: Shape) -> Any:
    layers = []
    for width in (32, 16):
        layers += [L.Dense(width, activation="relu"), L.BatchNormalization()]
    return sequential(shape, *layers, L.Dense(4, activation="softmax"))
