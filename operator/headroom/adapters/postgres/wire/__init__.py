"""What a server says, read by us before libpq reads it: bounded, checked, and without what could do harm.

libpq trusts a server. It makes room for any length that a message claims and keeps every parameter that a server
reports. It derives a key with any number of rounds, which stops the process. So we log in, and libpq gets a local
socket that carries what remains of the answers.
"""
