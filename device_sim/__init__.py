"""Simulated devices, their owners and workshops. Shares only the wire format with the gateway."""
