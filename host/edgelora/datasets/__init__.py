"""Labelled data by name."""

from typing import TYPE_CHECKING

from ..faces import lazily

if TYPE_CHECKING:
    from .capture import Capture
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
        save_dataset,
        split,
    )
    from .exercises import EXERCISE_PEOPLE, Exercises, load_exercises, load_normal_exercises
    from .har import (
        ARMS,
        HAR_RATE,
        HAR_SUBJECTS,
        HarData,
        demo_motion,
        har_takes,
        load_har,
        load_har_arm,
        load_har_people,
    )
    from .keywords import PRETRAINING, VOICES, KwsData, load_kws, part_key, spoken
    from .machines import FAULTS, MACHINE_RATE, MACHINE_WINDOW, SEVERITIES, machine, machine_signal, vibration
    from .prompts import PROMPTS, load_prompts
    from .recordings import (
        SIGNED,
        Recording,
        converted,
        cut_windows,
        doubts,
        inputs_of,
        load_capture,
        load_recording,
        save_capture,
        windows_of,
        with_rate,
    )
    from .speech import RATE, Voice, check_speech, speak
else:
    __getattr__, __dir__ = lazily(__name__, __file__)

__all__ = [
    "ARMS",
    "Capture",
    "Dataset",
    "EXERCISE_PEOPLE",
    "Exercises",
    "FAULTS",
    "HAR_RATE",
    "HAR_SUBJECTS",
    "HELD_OUT",
    "HarData",
    "MACHINE_RATE",
    "MACHINE_WINDOW",
    "KwsData",
    "PRETRAINING",
    "PROMPTS",
    "Parts",
    "RATE",
    "Recording",
    "SIGNED",
    "SEVERITIES",
    "VOICES",
    "Voice",
    "by_name",
    "channels_last",
    "check_speech",
    "converted",
    "cut_windows",
    "demo_motion",
    "doubts",
    "held_out",
    "inputs_of",
    "load_capture",
    "load_classes",
    "load_dataset",
    "har_takes",
    "load_har",
    "load_exercises",
    "load_har_arm",
    "load_har_people",
    "load_inputs",
    "load_kws",
    "load_normal_exercises",
    "load_prompts",
    "load_recording",
    "load_signal",
    "machine",
    "machine_signal",
    "part_key",
    "parts",
    "save_capture",
    "save_dataset",
    "speak",
    "split",
    "spoken",
    "windows_of",
    "with_rate",
    "vibration",
]
