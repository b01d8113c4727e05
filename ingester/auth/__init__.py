"""Who sent it: SPF, DKIM, DMARC and ARC, and the one report that holds their verdicts."""
