"""Everything that touches Postgres. The only room that imports asyncpg."""
