"""The database: connections, named statements, migrations, notifications, embedded PostgreSQL.

Read in this order: statements, arrays, connection, database, migrate, notify, embedded.
"""
