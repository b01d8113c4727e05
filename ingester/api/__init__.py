"""What applications and operators call over HTTP. Beside the transports, and like them it knows none of the others."""
