"""Schedules of the trials."""
