"""A running tier: store, journal, use cases, uplink, command line. Imports `protocol`, never `hub`. Start at `office`."""
