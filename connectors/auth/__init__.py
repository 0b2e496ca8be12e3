"""SMART Backend Services. `smart.SmartAuth` is the authenticator; it finds the token endpoint (`discovery`) and obtains
tokens there (`token_endpoint`) with a key (`keys`), for scopes (`scopes`)."""
