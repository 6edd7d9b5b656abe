"""Numbers and counts as the page writes them."""

__all__ = ["counted", "grouped", "readable"]

THIN_SPACE = "\u202f"


def readable(number: float) -> str:
    """At least four digits: ``0.4321``, ``12.5``, ``135 500``."""
    return grouped(round(number)) if abs(number) >= 1000 else f"{number:.4g}"


def grouped(number: int) -> str:
    """Thousands apart: ``135 500``."""
    return f"{number:,}".replace(",", THIN_SPACE)


def counted(number: int, noun: str) -> str:
    """``1 image``, ``2 images``."""
    return f"{grouped(number)} {noun}{'' if number == 1 else 's'}"
