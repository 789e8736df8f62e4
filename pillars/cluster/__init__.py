"""Who is alive and who owns which slots: the tables members, ring and ring_log.

Read in this order: ring (pure), members, agent, heart.
"""
