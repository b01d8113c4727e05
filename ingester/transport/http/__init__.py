"""The HTTP door for mail: `POST /events/inbound` in all its bodies, but for what is one provider's own."""
