"""What the system says of itself: metrics, logs, health, and the endpoints that serve them.

The other rooms emit events; this one listens, and is alone in formatting a log line or touching a
metric. Read in this order: catalog (every metric there is), families (how they are kept), metrics
(events into metrics), snapshot (database-wide figures), wording (with phrases), keys, redaction,
logs, tracing, health, endpoints.
"""
