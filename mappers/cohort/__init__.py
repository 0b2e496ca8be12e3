"""One module per cohort table: ADSL, ADRS, ADTTE, ADAE (CDISC ADaM names)."""
