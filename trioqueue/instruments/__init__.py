"""Telling monitoring systems what happens: `prometheus`, `opentelemetry`, and health."""
