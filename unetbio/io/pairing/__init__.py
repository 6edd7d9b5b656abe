"""Images and their masks: which belong together, and how they lie over each other."""
