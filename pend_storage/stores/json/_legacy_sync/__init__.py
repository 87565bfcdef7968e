"""Synchronisation of legacy JSON files with the journal, in both directions.

The first opening imports the files. From then on commits are written into them, and what
other programs change in them is detected and committed.
"""
