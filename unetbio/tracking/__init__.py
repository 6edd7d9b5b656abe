"""Follow cells over the frames of time-lapses."""
