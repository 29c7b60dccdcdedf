"""Labelled data by name."""

from .dataset import (
    HELD_OUT,
    Dataset,
    Parts,
    by_name,
    channels_last,
    held_out,
    load_classes,
    load_dataset,
    load_inputs,
    load_signal,
    parts,
    split,
)
from .har import HAR_SUBJECTS, HarData, load_har
from .keywords import PRETRAINING, VOICES, load_kws, part_key, spoken
from .recordings import Recording, load_recording

__all__ = [
    "Dataset",
    "HAR_SUBJECTS",
    "HELD_OUT",
    "HarData",
    "PRETRAINING",
    "Parts",
    "Recording",
    "VOICES",
    "by_name",
    "channels_last",
    "held_out",
    "load_classes",
    "load_dataset",
    "load_har",
    "load_inputs",
    "load_kws",
    "load_recording",
    "load_signal",
    "part_key",
    "parts",
    "split",
    "spoken",
]
