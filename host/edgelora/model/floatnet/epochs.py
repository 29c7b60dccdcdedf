"""The number of pretraining epochs, importable without the training code."""

MOTION_EPOCHS, SPEECH_EPOCHS = 40, 12
