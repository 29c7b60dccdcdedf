"""How often pretraining goes through its data, for who asks before anything is trained."""

MOTION_EPOCHS, SPEECH_EPOCHS = 40, 12
