"""HTTP as such: the listener, bodies within bounds, the one shape of a no. Knows nothing of mail or of tenants."""
