"""Policies that decide which examples a small memory stores."""
