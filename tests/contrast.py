"""Contrast of two colours by WCAG 2.2, written apart from what the report uses."""

import re


def contrast(*colours):
    """Contrast ratio of two colours, each as shares of red, green and blue from 0 to 1."""
    dark, light = sorted(luminance(colour) for colour in colours)
    return (light + 0.05) / (dark + 0.05)


def luminance(colour):
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in colour]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def hex_shares(colour):
    """Shares of a colour such as #0a0b0c."""
    return [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]


def rgb_shares(colour):
    """Shares of a colour as browsers compute it: rgb(1, 2, 3)."""
    return [int(part) / 255 for part in re.findall(r"\d+", colour)[:3]]
