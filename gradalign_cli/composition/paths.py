"""Where the configs lie."""

from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]
# a wheel brings the configs inside the package; in a checkout they lie beside it
CONF = PACKAGE / "conf" if (PACKAGE / "conf").is_dir() else PACKAGE.parent / "conf"
