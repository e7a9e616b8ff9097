"""Rolling graph of the sensors: last values, ages, quality and edges. Pure."""
