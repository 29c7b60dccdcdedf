"""What can be pretrained, and for how many epochs: importable without the training code."""

NETWORKS = ("convolutions", "encoder")
MOTION_EPOCHS, SPEECH_EPOCHS, ENCODER_EPOCHS = 40, 12, 25
