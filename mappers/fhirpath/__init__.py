"""FHIRPath -> Ibis expressions."""
