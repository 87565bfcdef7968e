"""Running jobs: long work that reports its progress where every process can read it.

A thread beside the work writes the report, and reads what other processes ask for. The
work itself never waits for a report, and never fails because one cannot be written; it
stops between two chunks where another process has asked for that.
"""
