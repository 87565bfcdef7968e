"""Statements on checked connections: revision, failover, retries."""
