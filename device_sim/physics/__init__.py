"""Equations of the devices: states that change by use, and what their sensors make of them."""
