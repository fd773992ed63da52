"""Files and folders: written whole or not at all, read with bounds, locked while in use."""
