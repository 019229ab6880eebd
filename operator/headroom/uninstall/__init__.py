"""What runs before the release is deleted: `python -m headroom.uninstall`."""
