"""Compare networks: train them on the same split, seed and augmentation, and measure them in the same way."""
