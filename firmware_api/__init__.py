"""Firmware releases: signed with Ed25519, kept by their content's hash, served with ranges."""
