"""Detectors of somebody else, for smallobj."""
