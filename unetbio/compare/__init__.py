"""Networks side by side: trained on the same split, seed and augmentation, and measured in the same way."""
