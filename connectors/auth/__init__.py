"""SMART Backend Services, and client credentials with a secret.

`smart.SmartAuth` is the authenticator. It finds the token endpoint (`discovery`) and obtains tokens there
(`token_endpoint`) with a key (`keys`) or a secret (`clients`) for scopes (`scopes`); `token_refusal` explains why there
is none.
"""
