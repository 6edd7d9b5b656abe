"""Training: patches, augmentation, steps, checkpoints."""
