"""The papers' tables: which runs they need, and what those printed beside what was published."""
