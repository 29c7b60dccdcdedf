"""Makes model.tflite, a Keras network for wrist motion, and data for its adapters."""

import keras
import numpy as np
import tensorflow as tf

from edgelora.model.datasets.har import load_har

keras.utils.set_random_seed(0)
har = load_har(3)  # windows of 2 s [1, 100, 6] from a wrist; person 3 is excluded from pretraining
x, y = har.pretrain.x, har.pretrain.y
model = keras.Sequential(
    [
        keras.Input((1, 100, 6)),
        keras.layers.Conv2D(16, (1, 5), strides=(1, 2), padding="same", activation="relu"),
        keras.layers.Conv2D(24, (1, 5), strides=(1, 3), padding="same", activation="relu"),
        keras.layers.Conv2D(32, (1, 5), strides=(1, 2), padding="same", activation="relu"),
        keras.layers.GlobalAveragePooling2D(),
        keras.layers.Dense(len(har.labels)),
    ]
)
model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
model.fit(x, y, epochs=15, verbose=0)

converter = tf.lite.TFLiteConverter.from_keras_model(model)
converter.optimizations = [tf.lite.Optimize.DEFAULT]
converter.representative_dataset = lambda: ([row[None]] for row in x[::10])
converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
converter.inference_input_type = converter.inference_output_type = tf.int8
with open("model.tflite", "wb") as file:
    file.write(converter.convert())

# data of the calibration; the person's earlier data, for training, and later data, for testing
np.savez("calibration.npz", x=x[::10])
np.savez("mine.npz", x=har.train.x[::3], y=har.train.y[::3], labels=har.labels)
np.savez("test.npz", x=har.test.x[::4], y=har.test.y[::4], labels=har.labels)
