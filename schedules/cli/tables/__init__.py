"""Tables and texts that commands print for people. All text from outside goes through `wording.clean`, so that a server
cannot send control characters to the terminal.
"""
