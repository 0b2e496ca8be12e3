"""SMART Backend Services: keys, scopes and access tokens."""
