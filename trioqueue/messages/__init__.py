"""What users declare and what travels: values and bytes, without I/O."""
