"""The ledger in SQLite: tables, migrations, the writer thread, queries."""
