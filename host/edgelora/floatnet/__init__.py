"""Float networks: layers, training, augmentation, float LoRA."""

from typing import TYPE_CHECKING

from ..faces import lazily

if TYPE_CHECKING:
    from .augment import AUGMENTATIONS, augmentation
    from .autoencoder import pretrain_autoencoder
    from .balance import balanced
    from .epochs import MOTION_EPOCHS, SPEECH_EPOCHS
    from .files import load_net, save_net
    from .layers import (
        ACTIVATIONS,
        PAIRS,
        Array,
        FloatNet,
        Layer,
        Places,
        Shape,
        Sides,
        accuracy,
        forward,
        geometry,
        im2col,
        layer_forward,
        linear,
        macs,
        mean,
        output_shape,
        predict,
        shapes,
        sources,
    )
    from .lora import ALPHA, RATE_FROZEN_A, RATE_TRAINED_A, FloatLoraResult, train_float_lora
    from .pretraining import PRETRAINING_VERSION, pretrain
    from .tables import Sampled, sampled
    from .train import Adam, Augment, RunningMean, minibatches, scheduled
    from .zoo import ds_cnn, har_net
else:
    __getattr__, __dir__ = lazily(__name__, __file__)

__all__ = [
    "ACTIVATIONS",
    "ALPHA",
    "AUGMENTATIONS",
    "Adam",
    "Array",
    "Augment",
    "FloatLoraResult",
    "FloatNet",
    "Layer",
    "MOTION_EPOCHS",
    "PAIRS",
    "Places",
    "PRETRAINING_VERSION",
    "RATE_FROZEN_A",
    "RATE_TRAINED_A",
    "RunningMean",
    "SPEECH_EPOCHS",
    "Sampled",
    "Shape",
    "Sides",
    "accuracy",
    "augmentation",
    "balanced",
    "ds_cnn",
    "forward",
    "geometry",
    "har_net",
    "im2col",
    "layer_forward",
    "linear",
    "load_net",
    "macs",
    "mean",
    "minibatches",
    "output_shape",
    "shapes",
    "predict",
    "pretrain",
    "pretrain_autoencoder",
    "sampled",
    "save_net",
    "scheduled",
    "sources",
    "train_float_lora",
]
