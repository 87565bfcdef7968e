"""Legacy file synchronisation: between legacy JSON files and the journal, both ways.

The first opening imports the files. From then on commits are written into them, and edits
of other programs in them are detected and committed.
"""
