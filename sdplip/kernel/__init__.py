"""The kernel: it proves and nothing here proposes. Goals and proofs (`proof`), rules (`rules/`), the one door (`check`)."""
