"""Data: toy densities whose every number is known (`toy1d`, `toy2d`) and small real images (`images`)."""
