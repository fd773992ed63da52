"""Other programs that show a run while it trains: thin adapters, imported when asked for."""
