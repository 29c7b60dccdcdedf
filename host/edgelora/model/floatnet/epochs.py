"""The number of pretraining epochs, importable without the training code."""

MOTION_EPOCHS, SPEECH_EPOCHS, ENCODER_EPOCHS = 40, 12, 25
