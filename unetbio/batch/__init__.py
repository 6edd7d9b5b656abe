"""Many images: plan, read ahead, segment, dry run, rerun."""
