"""Finds the kin of a DNA sequence."""
