"""Bounds that several kinds share."""

MAX_SERVING = 48
MAX_STANDBYS = 16
MAX_MEMBERS = MAX_SERVING + MAX_STANDBYS
