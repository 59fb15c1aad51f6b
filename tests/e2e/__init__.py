"""Library of the end-to-end stories: servers, repositories, mounts, comparison, TAP.

Standard library only. Each module is about one noun; start with tap.py (how a story is
written) and mounts.py (how the program is driven).
"""
