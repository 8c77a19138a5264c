"""Papers whose figures can be reproduced: one TOML file each, read by `paper`."""
