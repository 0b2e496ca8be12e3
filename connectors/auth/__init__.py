"""SMART Backend Services.

`smart.SmartAuth` is the authenticator. It finds the token endpoint (`discovery`) and obtains tokens there
(`token_endpoint`) with a key (`keys`) for scopes (`scopes`); `token_refusal` explains why there is none.
"""
