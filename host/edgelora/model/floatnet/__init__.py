"""Float networks: layers, training, augmentation, float LoRA."""
