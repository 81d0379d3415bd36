"""What each command does that trains nothing: validate, doctor, zero-shot, search-verbalizer, init. They return findings;
``petkit.cli`` parses the options and prints.
"""
