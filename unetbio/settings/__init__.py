"""Settings that people write down: of a segmentation and of a training; unknown keys are refused."""
