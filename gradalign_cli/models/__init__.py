"""Networks as pure functions of a flat vector of parameters, and their losses."""
