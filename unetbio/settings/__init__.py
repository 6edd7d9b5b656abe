"""Settings of segmentations, trainings and commands; unknown keys are refused."""
