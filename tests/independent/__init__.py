"""A second checker of certificates, in exact rational arithmetic. It shares no code with the kernel: it reads the JSON and the arrays."""
