"""MRC images, stacks and volumes of electron microscopy."""
